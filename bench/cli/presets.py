"""``python -m bench table --format latex --preset NAME``: tables as papers print them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from rich.console import Console

from bench.errors import UserError
from bench.files import read_json
from bench.leaderboard import method_order
from bench.lines import methods_of
from bench.records import recorded, rows_of
from results import latex_sheet
from results.latex_presets import PRESETS, Given
from results.latex_sheet import Sheet
from tasks import TASKS

SUITES = "bmm-main"  # compares sweeps; the others print one
WITH_SHIFT = ("per-task", "robustness7")

OWN_COLUMNS = (
    "a preset is LaTeX and has columns of its own; write --format latex --preset {}, without --by, "
    "--paired and --published"
)

Preset = Annotated[str, typer.Option(help=f"LaTeX as papers print it: {' | '.join(PRESETS)}")]
Label = Annotated[str, typer.Option(help="LaTeX: what references call the table")]


def sheet(
    name: str, out: Path, sweep: str, methods: Sequence[str], metric: str, shift: str
) -> Sheet:
    """The table of a preset.

    Args:
        name: of the preset.
        out: folder of the results.
        sweep: its name; empty for the latest. bmm-main takes the latest of every suite and
            encoder, of the sweeps that are called so or begin so.
        methods: some of them; none for all.
        metric: has to be acc.
        shift: under which one, for the presets that are of one.

    Raises:
        UserError: no such preset, or the results are not what it prints.
    """
    preset = PRESETS[name]
    if metric != "acc":
        raise UserError(f"presets print accuracy; leave out --metric {metric}")
    if shift != "clean" and name not in WITH_SHIFT:
        raise UserError(f"--shift is for {' and '.join(WITH_SHIFT)}; leave it out of {name}")
    found = suites_of(out, sweep, methods) if name == SUITES else []
    rows = found[0] if found else rows_of(out, recorded(out, sweep), methods)
    return preset.make(
        Given(
            rows=rows,
            order=method_order(),
            shift=shift,
            titles={task: TASKS[task].title for task in rows["task"].unique()},
            sweeps=found,
        )
    )


def put(source: Sheet, output: Path | None, standalone: bool, label: str) -> None:
    """Print the float, or write a file with a ``.bib`` beside it."""
    if output is None:
        print(latex_sheet.float_of(source, label), end="")
        return
    written = latex_sheet.write(source, output, standalone, label)
    Console().print(f"wrote {', '.join(map(str, written))}", highlight=False)


def suites_of(out: Path, name: str = "", methods: Sequence[str] = ()) -> list[pd.DataFrame]:
    """Rows of the latest sweep of every suite and encoder that has clean images.

    Args:
        out: folder of the results.
        name: of these sweeps, or what their names begin with, as ``main`` does
            ``main-pocket14``; empty for any.
        methods: some of them; a sweep that has none of these is left out.
    """
    latest: dict[tuple[str, str], dict[str, Any]] = {}
    records = [read_json(path) for path in sorted((out / "sweeps").glob("[!.]*.json"))]
    for record in sorted(records, key=lambda record: record["started"]):
        called = name in ("", record["name"]) or record["name"].startswith(f"{name}-")
        there = not methods or set(methods_of(methods)) & set(record["runs"].values())
        if record["kind"] == "sweep" and "clean" in record["shifts"] and called and there:
            latest[record["sweep"]["suite"], record["sweep"]["encoder"]] = record
    found = []
    for record in latest.values():
        whole = recorded(out, record["name"], run=next(iter(record["runs"])))
        mine = [one for one in methods if set(methods_of([one])) & set(whole["runs"].values())]
        found.append(rows_of(out, whole, mine))
    return found
