"""Effective robustness: how much better a merge does under a shift than its clean accuracy says.

Taori et al. 2020 (arXiv 2007.00644, section 2.2), after Recht et al. 2019: among models of one
kind, the logit of the accuracy under a shift is a line in the logit of the clean accuracy. Here
these are the static merges of a table (one model each, which has seen no test image). A merge's
effective robustness is its accuracy under the shift less what the line says at its clean accuracy.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mergeshift import UserError
from results.statistics import Interval
from results.tables.columns import ColumnCells
from results.tables.grid import Grid
from results.tables.quantities import Quantity, linear

LEAST = 3  # lines that the line is drawn through: two lie on it, whatever they are


class Line(NamedTuple):
    """logit(shifted) = intercept + slope logit(clean)."""

    intercept: float
    slope: float

    def at(self, clean: np.ndarray) -> np.ndarray:
        """The accuracy under the shift that the line says, in (0, 1)."""
        return 1 / (1 + np.exp(-(self.intercept + self.slope * logit(clean))))


@dataclass(frozen=True, kw_only=True)
class Fit:
    """The points of one column, means over its tasks and shifts, and the line through some."""

    clean: np.ndarray  # [E] accuracies, kept away from 0 and 1
    shifted: np.ndarray  # [E]
    static: np.ndarray  # positions of the entries that the line goes through
    line: Line
    residuals: np.ndarray  # [E] shares


def logit(share: np.ndarray) -> np.ndarray:
    """log(p / (1 - p))."""
    return np.log(share) - np.log1p(-share)


def fit(clean: np.ndarray, shifted: np.ndarray, static: np.ndarray) -> Fit:
    """Least squares through the points of the static merges, in logits.

    Args:
        clean: ``[E]`` accuracies in (0, 1).
        shifted: ``[E]``.
        static: positions of them.

    Where all static merges are equally accurate on clean images there is no line: NaN.
    """
    x, y = logit(clean[static]), logit(shifted[static])
    spread = float(((x - x.mean()) ** 2).sum())
    slope = float(((x - x.mean()) * (y - y.mean())).sum()) / spread if spread > 0 else np.nan
    line = Line(float(y.mean()) - slope * float(x.mean()), slope)
    return Fit(clean=clean, shifted=shifted, static=static, line=line,
               residuals=shifted - line.at(clean))  # fmt: skip


def static_of(grid: Grid) -> np.ndarray:
    """Positions of the static merges among the entries.

    Raises:
        UserError: they are too few, or clean images or a shift were not measured.
    """
    found = [e for e, entry in enumerate(grid.entries) if entry.static]
    if len(found) < LEAST:
        names = ", ".join(grid.entries[e].key for e in found) or "none"
        raise UserError(
            f"effective robustness needs a line through {LEAST} static merges (one model each, "
            f"which has seen no test image); these results have {len(found)} ({names}): measure "
            "more of them, e.g. average, task_arithmetic and ties"
        )
    if grid.clean is None or len(grid.shifts) < 2:
        lacking = "clean images" if grid.clean is None else "a shift"
        raise UserError(
            f"effective robustness is of clean and shifted images; {lacking} were not measured: "
            "sweep clean and e.g. L1"
        )
    return np.array(found)


def shifted_cells(grid: Grid) -> ColumnCells:
    """All tasks under every shift but clean."""
    shifts = tuple(s for s in range(len(grid.shifts)) if s != grid.clean)
    return ColumnCells(tuple(range(len(grid.tasks))), shifts)


def fit_of(grid: Grid, span: ColumnCells) -> Fit:
    """The points and the line of one column, means over sets of experts.

    Raises:
        UserError: see :func:`static_of`.
    """
    static = static_of(grid)
    clean, shifted = (points.mean(axis=-1) for points in _accuracies(grid, span))
    return fit(clean, shifted, static)


def effective_robustness(grid: Grid, span: ColumnCells) -> list[Quantity]:
    """That of every entry in one column, made linear in all answers that it depends on.

    Each set of experts has a line of its own. The interval over images is by the delta method: also
    the images move the line, through the static merges.

    Args:
        grid: of accuracies, clean ones among them.
        span: shifted cells.

    Raises:
        UserError: see :func:`static_of`.
    """
    static = static_of(grid)
    clean, shifted = _accuracies(grid, span)  # [E, K]
    sets = np.stack([fit(clean[:, k], shifted[:, k], static).residuals
                     for k in range(clean.shape[1])], axis=1)  # fmt: skip
    whole = fit(clean.mean(axis=1), shifted.mean(axis=1), static)
    if np.isnan(whole.line.slope) or not all(map(grid.has_hits, range(len(grid.entries)))):
        values = whole.residuals.tolist()
        return [Quantity(Interval(value, np.nan, np.nan), sets[e])
                for e, value in enumerate(values)]  # fmt: skip
    by_clean, by_shifted = _gradients(whole)  # [E, E]
    found: list[list[np.ndarray]] = [[] for _ in grid.entries]
    for task in span.tasks:
        on_clean, on_shifted = (
            np.stack([grid.scores(e, task, shifts) for e in range(len(grid.entries))])
            for shifts in ([_clean(grid)], span.shifts)
        )  # [E, N]
        parts = by_clean @ on_clean + by_shifted @ on_shifted
        for images, part in zip(found, parts, strict=True):
            images.append(part)
    together = zip(whole.residuals.tolist(), found, sets, strict=True)
    return [linear(value, images, own) for value, images, own in together]


def _clean(grid: Grid) -> int:
    assert grid.clean is not None, "static_of has seen to it"
    return grid.clean


def _accuracies(grid: Grid, span: ColumnCells) -> tuple[np.ndarray, np.ndarray]:
    """Clean and shifted accuracies, means over the cells of a column: ``[E, K]`` each.

    Kept half an image away from 0 and 1, where a logit has no value.
    """
    least = 0.5 / float(grid.counts[list(span.tasks)].max(axis=1).sum())
    means = (grid.set_values[np.ix_(range(len(grid.entries)), span.tasks, shifts)].mean(axis=(1, 2))
             for shifts in ([_clean(grid)], span.shifts))  # fmt: skip
    clean, shifted = (found.clip(least, 1 - least) for found in means)
    return clean, shifted


def _gradients(found: Fit) -> tuple[np.ndarray, np.ndarray]:
    """Of every residual (rows) by every clean and by every shifted accuracy: ``[E, E]`` each.

    With u = mean(y) + b (x - mean(x)), b = S_xy / S_xx over the M static merges, for m in M:
    du/dy_m = 1/M + (x - mean(x)) (x_m - mean(x)) / S_xx, and
    du/dx_m = (x - mean(x)) (y_m - mean(y) - 2 b (x_m - mean(x))) / S_xx - b / M; further du/dx = b.
    """
    x, y = logit(found.clean), logit(found.shifted)
    static, slope = found.static, found.line.slope
    dx, dy = x[static] - x[static].mean(), y[static] - y[static].mean()
    spread, apart = float((dx**2).sum()), x - x[static].mean()
    by_y, by_x = np.zeros((len(x), len(x))), slope * np.eye(len(x))
    by_y[:, static] = 1 / len(static) + np.outer(apart, dx) / spread
    by_x[:, static] += np.outer(apart, dy - 2 * slope * dx) / spread - slope / len(static)
    said = found.line.at(found.clean)
    steep = (said * (1 - said))[:, None]
    by_clean = -steep * by_x / (found.clean * (1 - found.clean))
    by_shifted = np.eye(len(x)) - steep * by_y / (found.shifted * (1 - found.shifted))
    return by_clean, by_shifted


def described(grid: Grid) -> str:
    """What a table says of the line."""
    names = ", ".join(grid.entries[e].title for e in static_of(grid))
    return (
        "Effective robustness: accuracy under the shift less what a line says at the same clean "
        "accuracy, in points; logit(shifted) is fitted to logit(clean) by least squares, for each "
        f"column, through the static merges (one model that has seen no test image: {names})."
    )
