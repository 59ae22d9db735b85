"""Mean corruption error (mCE) and its relative form, against a named reference.

Hendrycks & Dietterich 2019 (arXiv 1903.12261), section 4: of a corruption c with errors E at
severities s, CE_c = sum_s E_{s,c} / sum_s E'_{s,c}, where E' is the reference's error; relative
CE_c = sum_s (E_{s,c} - E_clean) / sum_s (E'_{s,c} - E'_clean). mCE is the mean over corruptions.
There, the reference is AlexNet; here it is a line of the same table, so that no number of another
data set comes in. An error is the mean over tasks.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from corruptions.base import SHIFT_SETS, shows_others
from mergeshift import UserError, rng_of
from results.statistics import LEVEL, Interval
from results.tables.columns import spans
from results.tables.grid import Grid, arrange
from results.tables.layout import GroupedTable, Layout, limited, points
from results.tables.notes import notes_of

CLEAN, MEAN = "clean", "mean (mCE)"
HEADERS = ("error", "CE", "relative CE")
DRAWS = 1000  # of the bootstrap over images
UNKNOWN = Interval(math.nan, math.nan, math.nan)


@dataclass(frozen=True, kw_only=True)
class CorruptionError:
    """One line: a corruption, clean, or the mean over corruptions; shares."""

    error: float
    ce: Interval
    relative: Interval


@dataclass(frozen=True, kw_only=True)
class CorruptionErrors(GroupedTable):
    """The corruption errors of every method, ready to be printed in any format."""

    percent = ("error", *limited("ce", "relative"))

    reference: str  # key of an entry
    lines: dict[tuple[str, str], CorruptionError]  # (entry key, column) -> numbers

    def frame(self) -> pd.DataFrame:
        """Every number, unrounded: one row per method and corruption."""
        entries, found = {entry.key: entry for entry in self.entries}, []
        for (key, column), one in self.lines.items():
            line: dict[str, object] = {"entry": key, "method": entries[key].method}
            line |= {"title": entries[key].title, "column": column, "error": one.error}
            for name in ("ce", "relative"):
                interval: Interval = getattr(one, name)
                line |= {name: interval.value, f"{name}_low": interval.low}
                line |= {f"{name}_high": interval.high}
            found.append(line | {"reference": self.reference})
        return pd.DataFrame(found)

    def layout(self) -> Layout:
        """The mean first, then clean, then a line per corruption."""
        return Layout(
            what="corruption",
            headers=HEADERS,
            lines={
                entry.key: [(name, _cells(one)) for (key, name), one in self.lines.items()
                            if key == entry.key]
                for entry in self.entries
            },
            caption=("parts", "interval", "images"),
            below=("shifts",),
        )  # fmt: skip


def corruption_errors(
    rows: pd.DataFrame, reference: str = "pretrained", order: Sequence[str] = ()
) -> CorruptionErrors:
    """CE of every method and corruption.

    Args:
        rows: a frame of the columns in ``results.schema``.
        reference: a method, or an entry such as ``ties [keep=0.1]``.
        order: methods to put first, in this order.

    Raises:
        UserError: clean images or corruptions were not measured, corruptions not at the same
            severities, or the methods not on the same cells; or the reference is no line.
    """
    grid = arrange(rows, order=order)
    if grid.clean is None:
        raise UserError("relative CE compares with clean images; add the shift clean to the sweep")
    columns = spans(grid, "corruption")
    names = [name for name in columns if name != CLEAN and not shows_others(name)]
    if not names:
        raise UserError("no corruption was measured; add e.g. all19 to the shifts of the sweep")
    base, groups = grid.position(reference), [columns[name].shifts for name in (CLEAN, *names)]
    weights = [
        rng_of("mce", task).multinomial(n, np.full(n, 1 / n), DRAWS) / n
        for task, n in zip(grid.tasks, grid.counts[:, grid.clean].tolist(), strict=True)
    ]  # how often each image is drawn: one draw holds all shifts of an image, and all methods
    known = [grid.has_hits(e) for e in range(len(grid.entries))]
    drawn = {e: _drawn(grid, e, groups, weights) for e in range(len(known)) if known[e]}
    lines: dict[tuple[str, str], CorruptionError] = {}
    for e, entry in enumerate(grid.entries):
        errors, theirs = (_errors(grid, one, groups) for one in (e, base))
        shares = _ratios(errors[None], theirs[None])[..., 0]  # [2, 1 + C]
        paired = e in drawn and base in drawn
        spread = _ratios(drawn[e], drawn[base]) if paired else None  # [2, 1 + C, DRAWS]
        found = [
            [_interval(shares[k, c], None if spread is None else spread[k, c])
             for c in range(len(names) + 1)] for k in (0, 1)
        ]  # fmt: skip
        mean = float(errors[1:].mean())
        lines[entry.key, MEAN] = CorruptionError(error=mean, ce=found[0][0], relative=found[1][0])
        lines[entry.key, CLEAN] = CorruptionError(
            error=float(errors[0]), ce=UNKNOWN, relative=UNKNOWN
        )
        for c, name in enumerate(names, 1):
            lines[entry.key, name] = CorruptionError(
                error=float(errors[c]), ce=found[0][c], relative=found[1][c]
            )
    setting = grid.setting
    return CorruptionErrors(
        title=f"Corruption errors on {setting['suite']} with {setting['encoder']}",
        entries=grid.entries,
        columns=(MEAN, CLEAN, *names),
        lines=lines,
        setting=setting,
        notes=_notes(grid, names, grid.entries[base].title),
        reference=grid.entries[base].key,
    )


def _errors(grid: Grid, entry: int, groups: Sequence[tuple[int, ...]]) -> np.ndarray:
    """Error by group of shifts, mean over its shifts, tasks and seeds.  Shape ``[1 + C]``."""
    means = grid.means[entry].mean(axis=0)  # [S]
    return np.array([1 - means[list(group)].mean() for group in groups])


def _drawn(
    grid: Grid, entry: int, groups: Sequence[tuple[int, ...]], weights: Sequence[np.ndarray]
) -> np.ndarray:
    """:func:`_errors` of drawn images.  Shape ``[DRAWS, 1 + C]``."""
    total = np.zeros((DRAWS, len(groups)))
    for task, drawn in enumerate(weights):
        scores = np.stack([grid.scores(entry, task, group) for group in groups], axis=1)
        total += 1 - drawn @ scores  # [DRAWS, N] @ [N, 1 + C]
    return total / len(weights)


def _ratios(errors: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """CE and relative CE, the mean over corruptions first.  Shapes ``[D, 1 + C] -> [2, 1 + C, D]``.

    NaN where the reference makes no error, or does not fall from clean.
    """
    found = []
    for clean in (np.zeros((len(errors), 2)), np.stack([errors[:, 0], theirs[:, 0]], axis=1)):
        above, below = errors[:, 1:] - clean[:, :1], theirs[:, 1:] - clean[:, 1:]
        share = np.divide(above, below, where=below > 0, out=np.full_like(above, np.nan))
        found.append(np.concatenate([share.mean(axis=1, keepdims=True), share], axis=1).T)
    return np.stack(found)


def _interval(value: float, draws: np.ndarray | None) -> Interval:
    """A share with the percentiles of its draws; of draws without one, no limits."""
    if draws is None or np.isnan(value) or np.isnan(draws).any():
        return Interval(float(value), math.nan, math.nan)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Interval(float(value), float(low), float(high))


def _cells(one: CorruptionError) -> list[str]:
    def told(share: Interval) -> str:
        margin = "" if math.isnan(share.margin) else f" +-{points(share.margin)}"
        return f"{points(share.value)}{margin}"

    return [points(one.error), told(one.ce), told(one.relative)]


def _notes(grid: Grid, names: Sequence[str], reference: str) -> dict[str, str]:
    general = notes_of(grid, "corruption", (CLEAN, *names), CLEAN)
    which = next((f"the corruptions of {name}" for name, of in SHIFT_SETS.items()
                  if set(of) == set(names)), f"{len(names)} corruptions")  # fmt: skip
    severities = sorted({one.severity for one in grid.shifts if one.severity})
    parts = (
        f"Error in %, mean over {len(grid.tasks)} tasks and severities "
        f"{', '.join(map(str, severities))}. CE: the error in % of that of {reference} "
        "(reference). Relative CE: the same of what an error exceeds that on clean images by. "
        f"mCE: mean over {which}. Lower is better."
    )
    interval = (
        f"+-: {100 * LEVEL:.0f} % bootstrap over images (all shifts of one together, stratified by "
        "task), the longer side; the reference is drawn with them."
    )
    return {"world": general["world"], "parts": parts, "interval": interval,
            "images": general["images"], "shifts": general["shifts"]}  # fmt: skip
