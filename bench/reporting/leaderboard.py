"""What a sweep ends in: the comparison, in the terminal and in W&B; and its rows, for tables."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console

from bench.index import method_order
from bench.plan import Plan
from bench.reporting.sweep_index import load_sweep, rows_of
from bench.runtime.progress import Stages
from bench.stages import artifacts
from results.render.text import renderable
from results.store import Store
from results.tables.comparison import compare


def leaderboard(
    plan: Plan,
    stages: Stages,
    out: Path,
    console: Console,
    wandb: str,
    loggers: Sequence[str] = (),
) -> None:
    """Print the comparison of a finished sweep, and log it to W&B and to other loggers."""
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
    for kind in loggers:
        log_runs(kind, plan, rows, out, stages)
    if stages.seconds:
        console.print(f"\ntime: {stages.summary()}", highlight=False)
    console.print(
        f"results: {out} (python -m bench table --by task --format latex ...)", style="dim"
    )


def log_runs(kind: str, plan: Plan, rows: pd.DataFrame, out: Path, stages: Stages) -> None:
    """Write every run of a sweep with another logger than W&B's; see :mod:`results.loggers`."""
    from bench.reporting.wandb import curves_of, flat
    from results.loggers import log_run

    store, groups = Store(out), list(rows.groupby("run_id", sort=False))
    place = out / kind / plan.sweep.name
    with stages.stage("log", f"{len(groups)} runs to {place}", len(groups)) as advance:
        for count, (run, part) in enumerate(groups, 1):
            facts = store.run(str(run))
            lessons = artifacts.adaptation_records(store, str(run))
            curves = curves_of(facts, lessons)
            log_run(kind, out, plan.sweep.name, flat(facts, lessons), part, curves)
            advance(count)
