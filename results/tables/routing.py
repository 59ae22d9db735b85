"""Where a routed method loses accuracy: experts, compression of their knowledge, routing.

As a table it has a line per shift under each method.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from mergeshift import UserError
from results.schema import CEILING
from results.statistics import Interval
from results.tables.columns import ColumnCells, spans
from results.tables.comparison import compare, estimate_of
from results.tables.entries import Entry
from results.tables.grid import Grid, arrange
from results.tables.layout import GroupedTable, Layout, limited, points, with_margin
from results.tables.notes import notes_of
from results.tables.paired import scored
from results.tables.quantities import accuracy, difference

ORACLE_SUFFIX = " (oracle)"  # a routed method with all weight on the true task

NAN = math.nan

HEADERS = ("accuracy", "error", "expert", "compression", "routing", "routed")


@dataclass(frozen=True, kw_only=True)
class ErrorParts:
    """One routed method in one column, all shares: error = expert + compression + routing."""

    accuracy: Interval
    error: Interval  # 1 - accuracy
    expert: Interval  # 1 - accuracy of the individual experts
    compression: Interval  # individual - the same knowledge, all weight on the true task
    routing: Interval  # that - accuracy
    route_acc: float  # share of images whose largest weight is on the true task; NaN if unknown


@dataclass(frozen=True, kw_only=True)
class ErrorDecomposition(GroupedTable):
    """The losses of every routed method, ready to be printed in any format."""

    percent = (*limited("accuracy", "error", "expert", "compression", "routing"), "route_acc")

    losses: dict[tuple[str, str], ErrorParts]  # (entry key, column)

    def frame(self) -> pd.DataFrame:
        """Every number, unrounded: one row per method and column."""
        entries = {entry.key: entry for entry in self.entries}
        lines = []
        for (key, column), parts in self.losses.items():
            line: dict[str, object] = {"entry": key, "method": entries[key].method}
            line |= {"title": entries[key].title, "column": column}
            for name, value in vars(parts).items():
                if isinstance(value, Interval):
                    line |= {name: value.value, f"{name}_low": value.low}
                    line |= {f"{name}_high": value.high}
                else:
                    line[name] = value
            lines.append(line)
        return pd.DataFrame(lines)

    def layout(self) -> Layout:
        """A line per shift."""
        return Layout(
            what="shift",
            headers=HEADERS,
            lines={
                entry.key: [(name, _cells(self.losses[entry.key, name])) for name in self.columns]
                for entry in self.entries
            },
            caption=("parts", "interval", "images"),
            below=("unseen", "levels", "shifts"),
        )


def breakdown(rows: pd.DataFrame, order: Sequence[str] = ()) -> ErrorDecomposition:
    """Split the error of every routed method.

    The two differences are paired, image by image, after averaging over seeds.

    Args:
        rows: a frame of the columns in ``results.schema``.
        order: methods to put first, in this order.

    Raises:
        UserError: there is no routed method, the individual experts are missing, the methods were
            not measured on the same cells, or answers to single images are not known.
    """
    unseen = rows.loc[~rows["seen"], "task"].unique()
    rows = rows[rows["seen"]]
    measured = rows[rows["metric"] == "oracle_acc"]
    if measured.empty:
        raise UserError(
            "no routed method here (none has oracle_acc); add e.g. oracle_router to the sweep"
        )
    routed = measured["method"].unique()
    accuracy = rows[(rows["metric"] == "acc") & rows["method"].isin([*routed, CEILING])]
    if CEILING not in set(accuracy["method"]):
        raise UserError(
            f"the error decomposition needs {CEILING}, which was not measured; add it to the sweep"
        )
    oracle = measured.assign(method=measured["method"] + ORACLE_SUFFIX, metric="acc")
    grid = arrange(pd.concat([accuracy, oracle], ignore_index=True), order=order)
    entries = tuple(entry for entry in grid.entries if entry.method in set(routed))
    columns = spans(grid, "shift")
    route_acc = _route_acc(rows)
    return ErrorDecomposition(
        title=f"Error decomposition of routed methods on {grid.setting['suite']} with "
        f"{grid.setting['encoder']}",
        entries=entries,
        columns=tuple(columns),
        losses={
            (entry.key, name): _losses(grid, entry, span, route_acc.get((entry.key, name), NAN))
            for entry in entries
            for name, span in columns.items()
        },
        setting=grid.setting,
        notes=_notes(grid, tuple(columns), unseen),
    )


def _losses(grid: Grid, entry: Entry, span: ColumnCells, route_acc: float) -> ErrorParts:
    method, ceiling = scored(grid, entry.key), scored(grid, CEILING)
    suffix = entry.key.removeprefix(entry.method)
    oracle = scored(grid, f"{entry.method}{ORACLE_SUFFIX}{suffix}")
    right = estimate_of(grid, method, span).interval
    experts, best, own = (accuracy(grid, line, span) for line in (ceiling, oracle, method))
    return ErrorParts(
        accuracy=right,
        error=_missed(right),
        expert=_missed(estimate_of(grid, ceiling, span).interval),
        compression=difference(experts, best).interval,
        routing=difference(best, own).interval,
        route_acc=route_acc,
    )


def _missed(accuracy: Interval) -> Interval:
    return Interval(1 - accuracy.value, 1 - accuracy.high, 1 - accuracy.low)


def _route_acc(rows: pd.DataFrame) -> dict[tuple[str, str], float]:
    """(entry key, column) -> routing accuracy, where it was measured."""
    if (rows["metric"] != "route_acc").all():
        return {}
    return {place: cell.value for place, cell in compare(rows, "route_acc").cells.items()}


def _notes(grid: Grid, columns: Sequence[str], unseen: Sequence[str]) -> dict[str, str]:
    general = notes_of(grid, "shift", columns, "clean")
    parts = (
        "In points of accuracy: error = expert (100 - individual experts) + compression "
        "(individual experts - this method with all weight on the true task) + routing (that - "
        "this method). routed: % of images whose largest routing weight is on the true task."
    )
    experts = f" and over {len(grid.sets)} sets of experts" * (len(grid.sets) > 1)
    interval = (
        f"+-: 95 % intervals over images (stratified by task){experts}: Wilson for accuracy, error "
        "and expert, paired for compression and routing."
    )
    notes = {"world": general["world"], "parts": parts, "interval": interval}
    if len(unseen):
        notes["unseen"] = f"Seen tasks only; the experts of {', '.join(unseen)} were not merged."
    return notes | {key: general[key] for key in ("images", "levels", "shifts") if key in general}


def _cells(parts: ErrorParts) -> list[str]:
    """One line, in points; the error has the margin of the accuracy."""
    return [
        with_margin(parts.accuracy),
        points(parts.error.value),
        *map(with_margin, (parts.expert, parts.compression, parts.routing)),
        points(parts.route_acc),
    ]
