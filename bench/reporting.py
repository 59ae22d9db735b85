"""The HTML page of a sweep: what it needs beyond the rows, from the folder of results."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd

from bench.config import Run
from bench.errors import DamagedFileError, UserError
from bench.examples import examples
from bench.leaderboard import method_order
from bench.members import class_of
from bench.mirror import costs_of
from bench.records import images_of, recorded, rows_of
from corruptions.base import PROTOCOL, Shift, parse_shifts
from results import report
from results.report_parts import Example
from results.store import Store


def page_of(
    out: Path,
    sweep: str = "",
    methods: Sequence[str] = (),
    shown: int = 0,
    shifts: Sequence[str] = (),
) -> str:
    """The page of a recorded sweep.

    Args:
        out: the results folder.
        sweep: its name; the latest if empty.
        methods: some of them; all if empty.
        shown: test images of each task that are shown; then methods are built again.
        shifts: that these are shown under; see :func:`shifts_shown`.

    Raises:
        UserError: the sweep is not there or not finished, or a method cannot be built again.
    """
    record = recorded(out, sweep)
    rows, store = rows_of(out, record, methods), Store(out)
    rows = rows.assign(sweep=record["name"])  # another may have measured its cells before
    return report.page(
        rows,
        costs=costs_of(store, rows["run_id"].unique()),
        images=images_or_why(out, record, rows),
        examples=asked(store, rows, shown, shifts) if shown else (),
        order=method_order(),
    )


def images_or_why(out: Path, record: dict[str, Any], rows: pd.DataFrame) -> pd.DataFrame | str:
    """What is kept of single images, or what the page says where that is not so."""
    try:
        return images_of(out, record, rows)[0]
    except DamagedFileError:  # nobody forgot anything: it is to be measured again
        raise
    except UserError as error:
        return str(error)


def asked(store: Store, rows: pd.DataFrame, count: int, shifts: Sequence[str]) -> list[Example]:
    """Examples with the answers of every method of the sweep, of its first seed."""
    first = rows.sort_values("seed", kind="stable").drop_duplicates(["method", "variant"])
    wanted = set(first["run_id"])
    facts = [store.run(run) for run in dict.fromkeys(rows["run_id"]) if run in wanted]
    built = [one for one in facts if "elsewhere" not in one]
    if not built:
        raise UserError(
            "examples are asked of methods, and here are predictions from elsewhere alone; leave "
            "out --examples, or name a method in --methods"
        )
    runs = [(run_of(one), one["config"]) for one in built]
    return examples(runs, shifts_shown(rows, shifts), count, store)


def run_of(facts: dict[str, Any]) -> Run:
    """The run whose facts these are (see :func:`bench.rows.note`).

    Raises:
        UserError: the method is no more, or is not as it was: it would say something else now.
    """
    known = {field.name for field in fields(Run)}
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in facts["run"].items()
        if name in known
    }
    run = Run(**values)
    if (now := class_of(run).version) != run.version:
        raise UserError(
            f"{run.id} was measured with version {run.version} of {run.method}, this is version "
            f"{now}: run the sweep again, or leave it out (--methods)"
        )
    return run


def shifts_shown(rows: pd.DataFrame, texts: Sequence[str] = ()) -> list[Shift]:
    """Under which shifts examples are shown.

    Args:
        rows: of the sweep, whose constants and placement are taken.
        texts: as a user writes them; else clean, and the corruptions of the protocol (the first
            few, where none of these was measured) at the largest severity that was measured.
    """
    shifted = rows[rows["severity"] > 0]
    if shifted.empty:
        return parse_shifts(texts or ["clean"])
    setting = shifted[["constants", "placement"]].iloc[0].tolist()
    if texts:
        return parse_shifts(texts, *setting)
    most = shifted.groupby("corruption", sort=False)["severity"].max()
    names = [name for name in PROTOCOL if name in most] or list(most.index[: len(PROTOCOL)])
    return parse_shifts(["clean", *(f"{name}@{most[name]}" for name in names)], *setting)
