"""From tidy rows to a comparison table: what each number is, not how it is printed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from results.schema import METRICS, Metric
from results.statistics import Interval, effective_n, mean_interval
from results.tables.columns import ColumnCells, spans
from results.tables.entries import TableBase
from results.tables.grid import Grid, arrange
from results.tables.layout import points
from results.tables.notes import notes_of

NAN = math.nan


class Cell(NamedTuple):
    """One entry in one column. NaN where a quantity does not exist."""

    value: float  # mean over tasks, shifts and seeds, in the metric's natural unit
    low: float = NAN  # limits of the interval over images
    high: float = NAN
    drop: float = NAN  # relative fall of the mean from clean
    normalised: float = NAN  # accuracy here over individual's on clean, per task, then mean
    retention: float = NAN  # accuracy over individual's at the same task and shift, then mean
    spread: float = NAN  # standard deviation of the value over seeds; NaN if there is one

    @property
    def interval(self) -> Interval:
        """The value with its limits over images."""
        return Interval(self.value, self.low, self.high)

    @property
    def margin(self) -> float:
        """The longer side of the interval: what stands behind a +-."""
        return self.interval.margin


@dataclass(frozen=True, kw_only=True)
class Table(TableBase):
    """A comparison, ready to be printed in any format."""

    metric: str
    by: str
    cells: dict[tuple[str, str], Cell]  # (entry key, column)
    summary: dict[str, dict[str, float]]  # "normalised" | "retention" -> entry key -> share

    @property
    def spec(self) -> Metric:
        """How the metric is named, printed and ranked."""
        return METRICS[self.metric]

    def header(self, column: str) -> str:
        """What stands above a column or a summary."""
        if self.by == "severity":
            return "clean" if column == "0" else f"severity {column}"
        return {"normalised": "Norm. acc.", "retention": "Retention"}.get(column, column)

    def printed(self, value: float) -> str:
        """Write a number of this metric, e.g. 0.8127 as ``81.3``.

        ``-`` where there is no number.
        """
        if math.isnan(value):
            return "-"
        return f"{value * self.spec.scale:.{self.spec.decimals}f}"

    def ranks(self, column: str) -> dict[str, int]:
        """Entry key -> 1 (best) or 2 (second) of a column or summary, **as printed**.

        Equal prints share a rank. References are not ranked, nor is anything where fewer than two
        entries compete, or where neither more nor less is better.
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

    def _text(self, key: str, column: str) -> str:
        if column in self.summary:
            return points(self.summary[column][key])
        return self.printed(self.cells[key, column].value)


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
    columns = spans(grid, by, shift)
    title = METRICS[grid.metric].title
    return Table(
        metric=grid.metric,
        by=by,
        title=f"{title} on {grid.setting['suite']} with {grid.setting['encoder']}",
        entries=grid.entries,
        columns=tuple(columns),
        cells={
            (entry.key, name): cell_of(grid, e, span)
            for e, entry in enumerate(grid.entries)
            for name, span in columns.items()
        },
        summary=_summary(grid) if by == "shift" else {},
        setting=grid.setting,
        notes=notes_of(grid, by, tuple(columns), shift),
    )


def cell_of(grid: Grid, e: int, span: ColumnCells) -> Cell:
    """What stands in one column of a table for one entry."""
    interval, spread = interval_of(grid, e, span), _spread(grid, e, span)
    if not METRICS[grid.metric].counted:
        return Cell(*interval, spread=spread)
    where = np.ix_(span.tasks, span.shifts)
    drop = normalised = retention = NAN
    if grid.clean is not None and span.shifts != (grid.clean,):
        clean = grid.means[e, list(span.tasks), grid.clean].mean()
        drop = 1 - interval.value / clean if clean else NAN
    if grid.ceiling is not None:
        retention = _ratio(grid.means[e][where], grid.means[grid.ceiling][where])
        if grid.clean is not None:
            on_clean = grid.means[grid.ceiling, list(span.tasks), grid.clean]
            normalised = _ratio(grid.means[e][where].mean(axis=1), on_clean)
    return Cell(*interval, drop, normalised, retention, spread)


def _spread(grid: Grid, e: int, span: ColumnCells) -> float:
    """Standard deviation over seeds of the mean over a span; nothing is seen of it in one seed."""
    means = grid.values[e][np.ix_(span.tasks, span.shifts)].mean(axis=(0, 1))  # [R]
    if not grid.entries[e].seeded:  # one number, repeated
        means = np.array([means[grid.experts.index(seed)] for seed in sorted(set(grid.experts))])
    return float(means.std(ddof=1)) if len(means) > 1 else NAN


def interval_of(grid: Grid, e: int, span: ColumnCells) -> Interval:
    """Mean over a span with its interval over images, if the metric counts images.

    Args:
        grid: measurements.
        e: position of an entry.
        span: what to average over.
    """
    shares = grid.means[e][np.ix_(span.tasks, span.shifts)].mean(axis=1)  # [T]
    if not METRICS[grid.metric].counted:
        return Interval(float(shares.mean()), NAN, NAN)
    counts = grid.counts[list(span.tasks)].astype(float)
    if grid.has_hits(e):
        repeats = len(span.shifts) * len(grid.seeds)
        scores = [grid.scores(e, task, span.shifts) for task in span.tasks]
        shares = np.array([score.mean() for score in scores])  # exact, where values were float32
        counts = np.array([effective_n(score, repeats) for score in scores])
    return mean_interval(shares.clip(0, 1).tolist(), counts.tolist())


def _ratio(above: np.ndarray, below: np.ndarray) -> float:
    """Mean of ratios; NaN if any has nothing below the line."""
    return float((above / below).mean()) if (below > 0).all() else NAN


def _summary(grid: Grid) -> dict[str, dict[str, float]]:
    """Two shares of what the individual experts reach: on clean images, and on shifted ones."""
    if grid.metric != "acc" or grid.ceiling is None:
        return {}
    every = tuple(range(len(grid.tasks)))
    shifted = tuple(i for i in range(len(grid.shifts)) if i != grid.clean)
    wanted = {"normalised": (grid.clean,) if grid.clean is not None else (), "retention": shifted}
    return {
        name: {
            entry.key: _ratio(
                grid.means[e][np.ix_(every, shifts)],
                grid.means[grid.ceiling][np.ix_(every, shifts)],
            )
            for e, entry in enumerate(grid.entries)
        }
        for name, shifts in wanted.items()
        if shifts
    }
