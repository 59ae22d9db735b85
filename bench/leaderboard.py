"""What a sweep ends in: the comparison, in the terminal and in W&B; and its rows, for tables."""

from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from bench.errors import UserError
from bench.files import read_json
from bench.plan import Plan
from bench.progress import Stages
from methods import METHODS
from results.render import renderable
from results.store import Store
from results.tables import compare


def method_order() -> list[str]:
    """Methods as tables list them: by the year of the paper, references around them."""
    named = sorted(METHODS, key=lambda name: (METHODS[name].paper.year, name))
    first = [name for name in ("pretrained", "average") if name in named]
    return first + [n for n in named if n not in (*first, "individual")] + ["individual"]


def rows_of(out: Path, runs: list[str], shifts: list[str]) -> pd.DataFrame:
    """The measurements of some runs under some shifts (their keys)."""
    store = Store(out)
    rows = store.read(runs)
    keys = rows["corruption"].where(
        rows["severity"] == 0, rows["corruption"] + "@" + rows["severity"].astype(str)
    )
    return rows[keys.isin([key.split("-")[0] for key in shifts])]


def recorded(out: Path, name: str = "") -> dict[str, Any]:
    """The latest sweep in a folder, or the latest of that name.

    Raises:
        UserError: there is none.
    """
    records = [read_json(path) for path in sorted((out / "sweeps").glob("[!.]*.json"))]
    fitting = [r for r in records if r["kind"] == "sweep" and name in ("", r["name"])]
    if not fitting:
        known = ", ".join(sorted({record["name"] for record in records})) or "none"
        raise UserError(
            f"no finished sweep {name or ''} in {out} (there: {known}); "
            "run `python -m bench sweep` first, or give --out"
        )
    latest = max(fitting, key=lambda record: record["finished"])
    return latest | {"runs": latest["runs"] + _evaluated(records, latest)}


def _evaluated(records: list[dict[str, Any]], sweep: dict[str, Any]) -> list[str]:
    """Runs of weights from elsewhere that were measured on the same cells."""
    cells = ("suite", "encoder", "limit", "data_seed", "expert_seed")
    return [
        run
        for record in records
        if record["kind"] == "weights"
        and set(record["shifts"]) >= set(sweep["shifts"])
        and all(record["sweep"][key] == sweep["sweep"][key] for key in cells)
        for run in record["runs"]
    ]


def leaderboard(plan: Plan, stages: Stages, out: Path, console: Console, wandb: str) -> None:
    """Print the comparison of a finished sweep and mirror it to W&B."""
    record = recorded(out, "" if plan.runs[0].weights else plan.sweep.name)
    rows = rows_of(out, record["runs"], record["shifts"])
    table = compare(rows, order=method_order())
    console.print()
    console.print(renderable(table, min(console.width, 120)))
    if wandb != "off":
        from bench.mirror import mirror

        mirror(plan, rows, table, stages, out, console, wandb)
    if stages.seconds:
        console.print(f"\ntime: {stages.summary()}", highlight=False)
    console.print(
        f"results: {out} (python -m bench table --by task --format latex ...)", style="dim"
    )
