"""Ranks of methods over tasks: the Friedman test, and how far mean ranks must lie apart.

A block is a task, averaged over its shifts, seeds and sets of experts: cells of one task share its
images and its experts, so they are no blocks of their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mergeshift import UserError
from results.schema import METRICS
from results.statistics import LEVEL
from results.tables.grid import Grid, arrange
from results.tables.layout import GroupedTable, Layout
from results.tables.notes import notes_of

MEAN_RANK = "mean rank"


@dataclass(frozen=True, kw_only=True)
class Ranking(GroupedTable):
    """Methods in the order of their mean ranks, ready to be printed in any format."""

    metric: str
    values: np.ndarray  # [E, T]
    ranks: np.ndarray  # [E, T]; 1 is the best, equals share the mean of their ranks
    statistic: float  # Friedman's chi^2, corrected for equals
    p: float  # of all methods being alike
    critical_difference: float  # of mean ranks, Nemenyi

    @property
    def mean_ranks(self) -> dict[str, float]:
        """Entry key -> mean rank over tasks."""
        means = self.ranks.mean(axis=1)
        return {entry.key: float(mean) for entry, mean in zip(self.entries, means, strict=True)}

    @property
    def cliques(self) -> list[list[str]]:
        """Longest runs of neighbours whose extreme mean ranks are not significantly apart."""
        means = self.mean_ranks
        keys = sorted(means, key=means.__getitem__)
        found: list[list[str]] = []
        for start, first in enumerate(keys):
            run = [k for k in keys[start:] if means[k] - means[first] <= self.critical_difference]
            if len(run) > 1 and not (found and run[-1] == found[-1][-1]):
                found.append(run)
        return found

    def frame(self) -> pd.DataFrame:
        """Every number, unrounded: one row per method and task, and its mean rank."""
        lines = []
        for entry, values, ranks in zip(self.entries, self.values, self.ranks, strict=True):
            about = {"entry": entry.key, "method": entry.method, "title": entry.title}
            lines += [
                {**about, "column": task, "value": float(value), "rank": float(rank)}
                for task, value, rank in zip(self.columns, values, ranks, strict=False)
            ]
            lines.append({**about, "column": MEAN_RANK, "value": float(values.mean()),
                          "rank": float(ranks.mean())})  # fmt: skip
        return pd.DataFrame(lines)

    def printed_frame(self) -> pd.DataFrame:
        """See :meth:`TableBase.printed_frame`."""
        frame = self.frame()
        return frame.assign(value=METRICS[self.metric].scale * frame["value"])

    def layout(self) -> Layout:
        """A line of ranks under each method, the mean first."""
        return Layout(
            what="over tasks",
            headers=[MEAN_RANK, *self.columns],
            lines={
                entry.key: [("rank", [f"{ranks.mean():.2f}", *(f"{rank:g}" for rank in ranks)])]
                for entry, ranks in zip(self.entries, self.ranks, strict=True)
            },
            caption=("ranks", "friedman", "images"),
            below=("constants",),
        )


def ranking(rows: pd.DataFrame, metric: str = "acc", order: Sequence[str] = ()) -> Ranking:
    """Rank the methods that compete on every task, and test whether they differ.

    Sources: Friedman 1937 (JASA 32:675-701); Nemenyi's critical difference q sqrt(k (k + 1) /
    (6 N)) as in Demsar 2006 (JMLR 7:1-30), q of the studentised range over sqrt(2).

    Raises:
        UserError: fewer than three methods or two tasks, unequal cells, or neither more nor less
            of the metric is better.
    """
    return ranking_of(arrange(rows, metric, order))


def ranking_of(grid: Grid) -> Ranking:
    """Of what is arranged already; see :func:`ranking`."""
    metric = grid.metric
    higher = METRICS[metric].higher_is_better
    competing = [e for e, entry in enumerate(grid.entries) if not entry.is_reference]
    if METRICS[metric].of:
        raise UserError(
            f"{metric} is computed over all lines of a table; rank them by {METRICS[metric].of}"
        )
    if grid.unknown.any():
        raise UserError(f"{metric} is not known of every method here, so nothing is ranked")
    if higher is None:
        raise UserError(f"neither more nor less of {metric} is better, so nothing is ranked")
    if len(competing) < 3 or len(grid.tasks) < 2:
        raise UserError(
            f"ranks over tasks need three methods and two tasks; got {len(competing)} methods "
            f"(references do not compete) and {len(grid.tasks)} tasks"
        )
    from scipy.stats import friedmanchisquare, rankdata, studentized_range

    same = [s for s, shift in enumerate(grid.shifts) if not shift.shows_others]
    if not same:
        raise UserError("ranks are of clean and corrupted images; add clean to the shifts")
    values = grid.means[competing][:, :, same].mean(axis=2)  # [E, T], over shifts
    printed = values.round(12)  # equal answers are equal numbers, whatever was summed first
    ranks = rankdata(-printed if higher else printed, axis=0)
    methods, tasks = values.shape
    alike = bool((ranks == ranks[:1]).all())  # then there is nothing to test
    statistic, p = (0.0, 1.0) if alike else map(float, friedmanchisquare(*printed))
    q = float(studentized_range.ppf(LEVEL, methods, np.inf)) / 2**0.5
    apart = q * (methods * (methods + 1) / (6 * tasks)) ** 0.5
    best = np.argsort(ranks.mean(axis=1), kind="stable")
    return Ranking(
        title=f"Ranks of methods over the tasks of {grid.setting['suite']} with "
        f"{grid.setting['encoder']}",
        entries=tuple(grid.entries[competing[i]] for i in best),
        columns=grid.tasks,
        setting=grid.setting,
        notes=_notes(grid, statistic, p, apart, methods),
        metric=metric,
        values=values[best],
        ranks=ranks[best],
        statistic=statistic,
        p=p,
        critical_difference=apart,
    )


def _notes(grid: Grid, statistic: float, p: float, apart: float, methods: int) -> dict[str, str]:
    general = notes_of(grid, "shift", (), "clean")
    same = [shift for shift in grid.shifts if not shift.shows_others]
    shifts = ", ".join(map(str, same)) if len(same) < 4 else f"{len(same)}"
    name = METRICS[grid.metric].title.lower()
    ranks = (
        f"Ranks by {name} on each task, mean over its shifts ({shifts}); 1 is the best, equals "
        "share a rank; reference methods do not compete."
    )
    small = "< 0.001" if p < 0.001 else f"= {p:.3f}"
    test = (
        f"Friedman: chi^2 = {statistic:.1f} with {methods - 1} degrees of freedom over "
        f"{len(grid.tasks)} tasks, p {small}. Mean ranks differ significantly (Nemenyi, "
        f"{100 * (1 - LEVEL):.0f} %) where they lie more than {apart:.2f} apart."
    )
    kept = {key: general[key] for key in ("images", "constants")}
    return {"world": general["world"], "ranks": ranks, "friedman": test, **kept}
