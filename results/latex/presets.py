r"""LaTeX tables as papers print them: ``table --format latex --preset NAME``."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import pandas as pd

from corruptions.base import LEVELS, PROTOCOL, ShiftName
from mergeshift import Registry, UserError
from results.latex.ablation import ablation
from results.latex.document import cited_title, escape
from results.latex.paper_table import (
    ColumnGroup,
    PaperTable,
    blocks_of,
    caption,
    signed,
    small,
    told,
    value,
    widest,
)
from results.latex.suites import suites
from results.tables.columns import MEAN, ColumnCells
from results.tables.comparison import Table, cell_of, compare
from results.tables.entries import Entry
from results.tables.grid import arrange

CORRUPTIONS = {
    "motion_blur": "Motion",
    "impulse_noise": "Impulse",
    "gaussian_noise": "Gaussian",
    "pixelate": "Pixelate",
    "spatter": "Spatter",
    "contrast": "Contrast",
    "jpeg_compression": "JPEG",
}
AVERAGE = "Avg.: mean over all corruptions."
DROP = r"In parentheses ($\Delta$): relative change from clean, in \%."


@dataclass(frozen=True, kw_only=True)
class Given:
    """What a preset prints from."""

    rows: pd.DataFrame  # of one sweep
    order: Sequence[str] = ()  # methods to put first
    shift: str = "clean"  # per-task, robustness7: under which shift
    titles: Mapping[str, str] | None = None  # task -> as printed; by default its name
    sweeps: Sequence[pd.DataFrame] = ()  # bmm-main: rows of a sweep for each suite and encoder


class Preset(NamedTuple):
    """A way to print results."""

    help: str
    make: Callable[[Given], PaperTable]


def bd_table1(given: Given) -> PaperTable:
    """Methods x clean L1 L2 L3, with the relative change from clean behind each number.

    Raises:
        UserError: clean was not measured, or no level.
    """
    table = compare(given.rows, order=given.order)
    names = [name for name in table.columns if name in ("clean", *LEVELS)]
    if len(names) < 2 or names[0] != "clean":
        raise UserError(
            f"bd-table1 needs clean and one of L1, L2, L3; measured: {', '.join(table.columns)}"
        )
    table = replace(table, columns=tuple(names), summary={})

    def cells(entry: Entry) -> list[str]:
        found = [value(table, entry, "clean")]
        for name in names[1:]:
            drop = signed(-table.cells[entry.key, name].drop)
            found += [value(table, entry, name), rf"{{\scriptsize ({drop})}}"]
        return found

    return PaperTable(
        table=table,
        name="bd-table1",
        aligned="r" + "r@{\\,}l" * (len(names) - 1),
        heads=[[ColumnGroup("Clean"), *(ColumnGroup(name, 2) for name in names[1:])]],
        blocks=_blocks(table, cells),
        caption=caption(table, table.title, [*told(table, "metric", "images", "interval"), DROP]),
        below=" ".join(told(table, "unseen", "levels", "shifts", "constants")),
    )


def bd_table2(given: Given) -> PaperTable:
    """Methods x (seen, unseen) under clean and each level: never a mean over both."""
    table = compare(given.rows, by="seen", order=given.order)
    groups: dict[str, list[str]] = {}
    for name in table.columns:
        groups.setdefault(name.rsplit(" ", 1)[0], []).append(name)
    names = [name for group in groups.values() for name in group]
    return PaperTable(
        table=table,
        name="bd-table2",
        aligned="r" * len(names),
        heads=[
            [ColumnGroup(_shift(name), len(group)) for name, group in groups.items()],
            [ColumnGroup(name.rsplit(" ", 1)[1].capitalize()) for name in names],
        ],
        blocks=_blocks(table, lambda entry: [value(table, entry, name) for name in names]),
        caption=caption(table, table.title, told(table, "metric", "unseen", "images", "interval")),
        below=" ".join(told(table, "levels", "shifts", "constants")),
    )


def per_task(given: Given) -> PaperTable:
    """A column per task and their mean, under one shift; few columns show their intervals."""
    table = compare(given.rows, by="task", shift=given.shift, order=given.order)
    titles = given.titles or {}
    heads = {name: escape(titles.get(name, name)) for name in table.columns}
    return _with_mean(table, "per-task", heads | {MEAN: "Avg."}, given.shift)


def robustness7(given: Given) -> PaperTable:
    """Clean, a column per corruption of the protocol, and the mean of these.

    Of one severity if a level is asked for (``L2``), else means over those measured.

    Raises:
        UserError: a corruption of the protocol was not measured.
    """
    rows = given.rows[given.rows["corruption"].isin(["clean", *PROTOCOL])]
    if given.shift in LEVELS:
        rows = rows[rows["severity"].isin([0, LEVELS[given.shift]])]
    elif given.shift != "clean":
        raise UserError(f"robustness7 is of one of {', '.join(LEVELS)}; got {given.shift!r}")
    if lacking := sorted(set(PROTOCOL) - set(rows["corruption"])):
        raise UserError(
            f"robustness7 needs {len(PROTOCOL)} corruptions; {len(lacking)} were not measured, "
            f"e.g. {lacking[0]}; run the sweep with --shifts clean L1 L2 L3"
        )
    table = compare(rows, by="corruption", order=given.order)
    grid = arrange(rows, order=given.order)
    shifted = tuple(i for i, one in enumerate(grid.shifts) if one != ShiftName("clean", 0))
    every = ColumnCells(tuple(range(len(grid.tasks))), shifted)
    means = {(one.key, MEAN): cell_of(grid, e, every) for e, one in enumerate(grid.entries)}
    table = replace(table, columns=(*table.columns, MEAN), cells=table.cells | means)
    heads = {"clean": "Clean", **CORRUPTIONS, MEAN: "Avg."}
    return _with_mean(table, "robustness7", heads, given.shift, drop=grid.clean is not None)


def _with_mean(
    table: Table, name: str, heads: Mapping[str, str], shift: str, drop: bool = False
) -> PaperTable:
    """Numbers alone where columns are many; the mean, last, has its interval and its drop."""
    names = [column for column in heads if column in table.columns]
    crowded = len(names) > 6
    bare = names[:-1] if crowded else []

    def cells(entry: Entry) -> list[str]:
        found = [value(table, entry, column, column not in bare) for column in names]
        if drop:
            found[-1] += small(f"({signed(-table.cells[entry.key, names[-1]].drop)})")
        return found

    spelled = [heads[column] for column in names]
    if (crowded and max(map(len, spelled)) > 8) or len(names) > 10:
        spelled = [rf"\rotatebox{{60}}{{{text}}}" for text in spelled]
    metric = [text.replace(f"{MEAN} = ", "Avg. = ") for text in told(table, "metric")]
    notes = [*metric, *told(table, "images", "interval"), widest(bare, table)]
    notes += [AVERAGE, DROP] if drop else []
    title = table.title if shift == "clean" else f"{table.title} under {shift}"
    return PaperTable(
        table=table,
        name=name if shift == "clean" else f"{name}-{shift.replace('@', '-')}",
        aligned="r" * len(names),
        heads=[[ColumnGroup(text) for text in spelled]],
        blocks=_blocks(table, cells),
        caption=caption(table, title, notes),
        below=" ".join(told(table, "unseen", "levels", "shifts", "constants")),
    )


def _blocks(table: Table, cells: Callable[[Entry], list[str]]) -> list[list[tuple[str, list[str]]]]:
    return [
        [(cited_title(table, entry), cells(entry)) for entry in block]
        for block in blocks_of(table.entries)
    ]


def _shift(name: str) -> str:
    return "Clean" if name == "clean" else escape(name)


PRESETS: Registry[Preset] = Registry("preset")
for _name, _preset in {
    "bd-table1": Preset("methods x clean L1 L2 L3, with relative drops", bd_table1),
    "bd-table2": Preset("methods x seen and unseen tasks", bd_table2),
    "bd-ablation": Preset(
        "a method and its variants, with paired differences",
        lambda given: ablation(given.rows, given.order),
    ),
    "bmm-main": Preset(
        "methods x numbers of tasks x encoders, clean",
        lambda given: suites(given.sweeps or [given.rows], given.order),
    ),
    "per-task": Preset("methods x tasks", per_task),
    "robustness7": Preset("methods x the seven corruptions of the protocol", robustness7),
}.items():
    PRESETS.add(_name, _preset)
