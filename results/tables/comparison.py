"""From tidy rows to a comparison table: what each number is, not how it is printed."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from mergeshift import UserError
from results.schema import FLOOR, METRICS, Metric
from results.statistics import Estimate, Interval
from results.tables.columns import ColumnCells, spans
from results.tables.entries import TableBase
from results.tables.grid import Grid, arrange
from results.tables.layout import points
from results.tables.notes import notes_of
from results.tables.quantities import (
    Quantity,
    accuracy,
    leaders,
    recovered,
    share_of_experts,
)
from results.tables.robustness import described, effective_robustness, static_of

NAN = math.nan


class Cell(NamedTuple):
    """One entry in one column. NaN where a quantity does not exist."""

    value: float  # mean over tasks, shifts, seeds and sets of experts, in the metric's natural unit
    low: float = NAN  # limits of the interval over images, and over sets if there are several
    high: float = NAN
    drop: float = NAN  # relative fall of the mean from clean
    normalised: float = NAN  # accuracy here over individual's on clean, per task, then mean
    retention: float = NAN  # accuracy over individual's at the same task and shift, then mean
    spread: float = NAN  # standard deviation of the value over sets of experts; of one, over seeds
    recovered: float = NAN  # (accuracy - pretrained) / (individual - pretrained), of the means
    recovered_low: float = NAN
    recovered_high: float = NAN
    df: float = NAN  # degrees of freedom of the interval; NaN with one set of experts

    @property
    def interval(self) -> Interval:
        """The value with its limits."""
        return Interval(self.value, self.low, self.high)

    @property
    def margin(self) -> float:
        """The longer side of the interval: what stands behind a +-."""
        return self.interval.margin


ABOVE_CHANCE = (
    "Corrected for chance: (accuracy - 1/C) over (the individual experts' accuracy on clean images "
    "- 1/C) on a task of C classes, averaged over tasks and shifts; 0 is a uniform guess."
)
MEASURED = ("value", "low", "high", "spread")  # fields of a cell in the unit of the metric
SHARES = ("drop", "normalised", "retention", "recovered", "recovered_low", "recovered_high")

HEADERS = {"normalised": "Norm. acc.", "retention": "Retention", "recovered": "Recovered"}


@dataclass(frozen=True, kw_only=True)
class Table(TableBase):
    """A comparison, ready to be printed in any format."""

    metric: str
    by: str
    cells: dict[tuple[str, str], Cell]  # (entry key, column)
    summary: dict[str, dict[str, float]]  # a name in HEADERS -> entry key -> share
    limits: dict[tuple[str, str], Interval]  # (entry key, name of a summary) -> with its limits
    leaders: dict[str, frozenset[str]]  # column or summary -> best, and not significantly worse

    @property
    def spec(self) -> Metric:
        """How the metric is named, printed and ranked."""
        return METRICS[self.metric]

    def header(self, column: str) -> str:
        """What stands above a column or a summary."""
        if self.by == "severity":
            return "clean" if column == "0" else f"severity {column}"
        return HEADERS.get(column, column)

    def printed(self, value: float) -> str:
        """Write a number of this metric, e.g. 0.8127 as ``81.3``.

        ``-`` where there is no number.
        """
        if math.isnan(value):
            return "-"
        spec = self.spec
        return f"{round(value * spec.scale, spec.decimals) + 0.0:{spec.sign}.{spec.decimals}f}"

    def printed_ranks(self, column: str) -> dict[str, int]:
        """Entry key -> 1 (best) or 2 (second) of a column or summary, **as printed**.

        For tables that are laid out as papers print them: it says nothing of chance, which
        ``leaders`` does. Equal prints share a rank. References are not ranked, nor is anything
        where fewer than two entries compete, or where neither more nor less is better.
        """
        if self.spec.higher_is_better is None and column not in self.summary:
            return {}
        sign = -1 if self.spec.higher_is_better or column in self.summary else 1
        printed = {
            entry.key: sign * float(text)
            for entry in self.entries
            if not entry.is_reference and (text := self._text(entry.key, column)) != "-"
        }
        best = sorted(set(printed.values()))[:2] if len(printed) > 1 else []
        return {key: best.index(value) + 1 for key, value in printed.items() if value in best}

    def frame(self) -> pd.DataFrame:
        """Every number, unrounded: one row per entry and column."""
        return pd.DataFrame(
            [
                {
                    **{"entry": entry.key, "method": entry.method, "title": entry.title},
                    **{"column": column, "metric": self.metric},
                    **self.cells[entry.key, column]._asdict(),
                }
                for entry in self.entries
                for column in self.columns
            ]
        )

    def printed_frame(self) -> pd.DataFrame:
        """See :meth:`TableBase.printed_frame`; a drop is a change, below 0 for a fall."""
        frame = self.frame()
        of_metric = {name: self.spec.scale * frame[name] for name in MEASURED}
        shares = {name: 100 * frame[name] for name in SHARES}
        changed = {"drop": -shares["drop"] + 0.0}  # never -0.0
        return frame.assign(**of_metric | shares | changed)

    def _text(self, key: str, column: str) -> str:
        if column in self.summary:
            return points(self.summary[column][key])
        return self.printed(self.cells[key, column].value)


def summary_margin(table: Table, key: str, name: str) -> str:
    """``+-`` behind a summary: of recovered alone, so that a table is not too wide."""
    limits = table.limits.get((key, name))
    if name != "recovered" or limits is None or math.isnan(limits.margin):
        return ""
    return f"+-{points(limits.margin)}"


def compare(
    rows: pd.DataFrame,
    metric: str = "acc",
    by: str = "shift",
    *,
    shift: str = "clean",
    order: Sequence[str] = (),
) -> Table:
    """Compare methods on the same cells.

    Args:
        rows: a frame of the columns in ``results.schema``.
        metric: a name in ``METRICS``.
        by: what the columns are: ``shift``, ``seen``, ``task``, ``severity`` or ``corruption``.
        shift: for ``by="task"``, under which shift (``clean``, ``L2``, ``contrast@3``).
        order: methods to put first, in this order.

    Raises:
        UserError: the methods were not measured on the same cells, or there are none.
    """
    return table_of(arrange(rows, metric, order), by, shift)


def table_of(grid: Grid, by: str = "shift", shift: str = "clean") -> Table:
    """The table of what is arranged already; see :func:`compare`."""
    columns, derive = spans(grid, by, shift), DERIVED.get(grid.metric)
    shares = _summary(grid) if by == "shift" else {}
    if derive:
        columns = derive.columns(grid, columns)
        found = {name: derive.quantities(grid, span) for name, span in columns.items()}
        cells = {(entry.key, name): _derived(quantities[e])
                 for e, entry in enumerate(grid.entries)
                 for name, quantities in found.items()}  # fmt: skip
        leading = _leaders_of(grid, found)
    else:
        cells = {(entry.key, name): cell_of(grid, e, span)
                 for e, entry in enumerate(grid.entries)
                 for name, span in columns.items()}  # fmt: skip
        leading = _leaders(grid, columns, shares)
    title, notes = METRICS[grid.metric].title, derive.notes(grid) if derive else {}
    return Table(
        metric=grid.metric,
        by=by,
        title=f"{title} on {grid.setting['suite']} with {grid.setting['encoder']}",
        entries=grid.entries,
        columns=tuple(columns),
        cells=cells,
        summary={
            name: {k: one.value for k, one in found.items()} for name, found in shares.items()
        },
        limits={
            (key, name): one.estimate.interval
            for name, found in shares.items()
            for key, one in found.items()
        },
        leaders=leading,
        setting=grid.setting,
        notes=notes_of(grid, by, tuple(columns), shift, [cell.df for cell in cells.values()])
        | notes,
    )


class Derived(NamedTuple):
    """A metric that is computed over the lines of a table from their answers."""

    columns: Callable[[Grid, Mapping[str, ColumnCells]], dict[str, ColumnCells]]  # that have it
    quantities: Callable[[Grid, ColumnCells], list[Quantity]]  # of every entry in a column
    notes: Callable[[Grid], dict[str, str]]


def _shifted(grid: Grid, columns: Mapping[str, ColumnCells]) -> dict[str, ColumnCells]:
    """The columns without clean images, where there is no effective robustness."""
    static_of(grid)
    found = {name: span for name, span in columns.items() if grid.clean not in span.shifts}
    if not found:
        raise UserError(
            "effective robustness is of shifted images; with --by task give --shift, e.g. L2"
        )
    return found


def _above_chance(grid: Grid, columns: Mapping[str, ColumnCells]) -> dict[str, ColumnCells]:
    lacking = [
        name
        for name, there in (
            ("the individual experts", grid.ceiling is not None),
            ("clean images", grid.clean is not None),
            ("the numbers of classes", grid.chance is not None),
        )
        if not there
    ]
    if lacking:
        raise UserError(f"normalised accuracy needs {lacking[0]}, which these results do not have")
    return dict(columns)


DERIVED = {
    "norm_chance": Derived(
        columns=_above_chance,
        quantities=lambda grid, span: [
            share_of_experts(grid, e, span, on_clean=True, above_chance=True)
            for e in range(len(grid.entries))
        ],
        notes=lambda _: {"formula": ABOVE_CHANCE},
    ),
    "robustness": Derived(
        columns=_shifted,
        quantities=effective_robustness,
        notes=lambda grid: {"formula": described(grid)},
    ),
}


def _derived(found: Quantity) -> Cell:
    estimate, sets = found.estimate, found.sets
    spread = float(sets.std(ddof=1)) if len(sets) > 1 else NAN
    return Cell(*estimate.interval, spread=spread, df=estimate.df)


def cell_of(grid: Grid, e: int, span: ColumnCells) -> Cell:
    """What stands in one column of a table for one entry."""
    spread = _spread(grid, e, span)
    where = np.ix_(span.tasks, span.shifts)
    if not METRICS[grid.metric].counted:
        return Cell(float(grid.means[e][where].mean()), spread=spread)
    found, share = estimate_of(grid, e, span), recovered(grid, e, span).estimate
    drop = NAN
    if grid.clean is not None and span.shifts != (grid.clean,):
        clean = grid.means[e, list(span.tasks), grid.clean].mean()
        drop = 1 - found.value / clean if clean else NAN
    return Cell(
        *found.interval,
        drop=drop,
        normalised=share_of_experts(grid, e, span, on_clean=True).value,
        retention=share_of_experts(grid, e, span, on_clean=False).value,
        spread=spread,
        recovered=share.value,
        recovered_low=share.low,
        recovered_high=share.high,
        df=found.df,
    )


def _spread(grid: Grid, e: int, span: ColumnCells) -> float:
    """Standard deviation of the mean over a span: between sets of experts; of one, over seeds.

    NaN where nothing is seen of it: one set and one seed, or a line that depends on neither.
    """
    where, entry = np.ix_(span.tasks, span.shifts), grid.entries[e]
    if len(grid.sets) > 1:
        means = grid.set_values[e][where].mean(axis=(0, 1))  # [K]
        return float(means.std(ddof=1)) if entry.method != FLOOR else NAN
    means = grid.values[e][where].mean(axis=(0, 1))  # [R]
    return float(means.std(ddof=1)) if entry.seeded and len(means) > 1 else NAN


def estimate_of(grid: Grid, e: int, span: ColumnCells) -> Estimate:
    """Mean over a span of a share of images, with its interval; shares stay in [0, 1]."""
    found = accuracy(grid, e, span).estimate
    return found._replace(low=max(0.0, found.low), high=min(1.0, found.high))


def _summary(grid: Grid) -> dict[str, dict[str, Quantity]]:
    """Shares of what the individual experts reach: on clean images, and on shifted ones."""
    if grid.metric != "acc" or grid.ceiling is None:
        return {}
    every = tuple(range(len(grid.tasks)))
    clean = ColumnCells(every, () if grid.clean is None else (grid.clean,))
    corrupted = tuple(i for i, shift in enumerate(grid.shifts) if shift.severity)
    shifted = ColumnCells(every, corrupted)
    lines = range(len(grid.entries))
    found: dict[str, list[Quantity]] = {}
    if clean.shifts:
        found["normalised"] = [share_of_experts(grid, e, clean, on_clean=True) for e in lines]
    if shifted.shifts:
        found["retention"] = [share_of_experts(grid, e, shifted, on_clean=False) for e in lines]
    if clean.shifts and any(entry.method == FLOOR for entry in grid.entries):
        found["recovered"] = [recovered(grid, e, clean) for e in lines]
    keys = [entry.key for entry in grid.entries]
    return {name: dict(zip(keys, shares, strict=True)) for name, shares in found.items()}


def _leaders(
    grid: Grid, columns: Mapping[str, ColumnCells], shares: Mapping[str, Mapping[str, Quantity]]
) -> dict[str, frozenset[str]]:
    """The lines of each column and summary that nothing is significantly better than."""
    spec = METRICS[grid.metric]
    if not spec.counted or len(grid.sets) < 2:
        return {}
    lines = range(len(grid.entries))
    found = {name: [accuracy(grid, e, span) for e in lines] for name, span in columns.items()}
    summaries = {name: list(quantities.values()) for name, quantities in shares.items()}
    larger = spec.higher_is_better is not False
    return _leaders_of(grid, found, larger) | _leaders_of(grid, summaries)


def _leaders_of(
    grid: Grid, found: Mapping[str, Sequence[Quantity]], larger_is_better: bool = True
) -> dict[str, frozenset[str]]:
    """The same of quantities of every entry, by column."""
    if len(grid.sets) < 2:
        return {}
    return {
        name: leaders({
            entry.key: one
            for entry, one in zip(grid.entries, quantities, strict=True)
            if not entry.is_reference
        }, larger_is_better)
        for name, quantities in found.items()
    }  # fmt: skip
