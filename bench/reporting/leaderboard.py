"""What a sweep ends in: the comparison, in the terminal and in W&B; and its rows, for tables."""

from pathlib import Path

from rich.console import Console

from bench.index import method_order
from bench.plan import Plan
from bench.reporting.sweep_index import load_sweep, rows_of
from bench.runtime.progress import Stages
from bench.stages import artifacts
from results.render.text import renderable
from results.store import Store
from results.tables.comparison import compare


def leaderboard(plan: Plan, stages: Stages, out: Path, console: Console, wandb: str) -> None:
    """Print the comparison of a finished sweep and mirror it to W&B."""
    first = plan.runs[0]
    rows = rows_of(
        out, load_sweep(out, run=first.id) if first.weights else load_sweep(out, plan.sweep.name)
    )
    by = "seen" if plan.sweep.unseen else "shift"
    table = compare(rows, by=by, order=method_order())
    console.print()
    console.print(renderable(table, min(console.width, 120), brief=True))
    for run, told in artifacts.diagnostics(Store(out), [run.id for run in plan.runs]).items():
        for text in told:
            line = f"learning went wrong: {plan.lines[run]} ({run}): {text}"
            console.print(line, style="yellow", markup=False, highlight=False)
    if wandb != "off":
        from bench.reporting.wandb import upload_sweep

        upload_sweep(plan, rows, table, stages, out, console, wandb)
    if stages.seconds:
        console.print(f"\ntime: {stages.summary()}", highlight=False)
    console.print(
        f"results: {out} (python -m bench table --by task --format latex ...)", style="dim"
    )
