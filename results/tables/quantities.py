"""What a line of a table reaches, image by image and set by set of experts.

An interval or a verdict needs to know how a quantity varies with both. Ratios are made linear in
the answers (delta method), so that accuracy, normalised accuracy, retention and recovered share
are all means over tasks of means over images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from results.schema import FLOOR
from results.statistics import (
    FEW_DISCORDANT,
    Estimate,
    Interval,
    effective_n,
    holm,
    mean_interval,
    over_experts,
    paired_interval,
    score_interval,
)
from results.tables.columns import ColumnCells
from results.tables.grid import Grid

NAN = float("nan")


@dataclass(frozen=True)
class Quantity:
    """One number of one line, and all that its uncertainty is known by."""

    over_images: Interval  # NaN limits where single answers are not known
    sets: np.ndarray  # [K]: the same of each set of experts
    images: tuple[np.ndarray, ...] = ()  # per task [N_t], whose means over tasks are the value
    repeats: int = 0  # answers that each of these is the mean of; 0 where they are made linear

    @property
    def value(self) -> float:
        """The number."""
        return self.over_images.value

    @property
    def estimate(self) -> Estimate:
        """With limits over images, and over sets of experts if there are several."""
        return over_experts(self.over_images, self.sets.tolist())


UNKNOWN = Quantity(Interval(NAN, NAN, NAN), np.empty(0))


def accuracy(grid: Grid, e: int, span: ColumnCells) -> Quantity:
    """Mean over a span of a share of images, with Wilson's limits.

    Args:
        grid: of a metric that counts images.
        e: position of an entry.
        span: what to average over.
    """
    where = np.ix_(span.tasks, span.shifts)
    sets = grid.set_values[e][where].mean(axis=(0, 1))  # [K]
    shares = grid.means[e][where].mean(axis=1)  # [T]
    counts = grid.counts[where].min(axis=1).astype(float)
    images: tuple[np.ndarray, ...] = ()
    repeats = len(span.shifts) * len(grid.seeds)
    if grid.has_hits(e):
        images = tuple(grid.scores(e, task, span.shifts) for task in span.tasks)
        shares = np.array([score.mean() for score in images])  # exact, where values were float32
        counts = np.array([effective_n(score, repeats) for score in images])
    limits = mean_interval(shares.clip(0, 1).tolist(), counts.tolist())
    return Quantity(limits, sets, images, repeats if images else 0)


def share_of_experts(
    grid: Grid, e: int, span: ColumnCells, on_clean: bool, above_chance: bool = False
) -> Quantity:
    """Mean over tasks and shifts of accuracy over that of the individual experts.

    Args:
        grid: of accuracies.
        e: position of an entry.
        span: what to average over.
        on_clean: the experts' accuracy on clean images stands below the line (normalised
            accuracy); else that under the same shift (retention).
        above_chance: what a uniform guess is right on is taken off both.

    Nothing is known of it where the experts were not measured, or are no better than chance (right
    on no image).
    """
    if grid.ceiling is None or (on_clean and grid.clean is None):
        return UNKNOWN
    if above_chance and grid.chance is None:
        return UNKNOWN
    clean = cast(int, grid.clean)
    references = [clean if on_clean else s for s in span.shifts]
    tasks = list(span.tasks)
    chance = grid.chance[tasks, None, None] if above_chance and grid.chance is not None else 0.0
    above = grid.set_values[e][np.ix_(tasks, span.shifts)] - chance  # [T, S, K]
    below = grid.set_values[grid.ceiling][:, references][tasks] - chance
    if (below <= 0).any():
        return UNKNOWN
    sets = (above / below).mean(axis=(0, 1))
    a, b = above.mean(axis=-1), below.mean(axis=-1)  # [T, S]
    value = float((a / b).mean())
    if not (grid.has_hits(e) and grid.has_hits(grid.ceiling)):
        return Quantity(Interval(value, NAN, NAN), sets)
    if on_clean and any(grid.shifts[s].shows_others for s in span.shifts):
        return Quantity(Interval(value, NAN, NAN), sets)  # not the images that the experts saw
    images = []
    for t, task in enumerate(tasks):
        parts = [
            grid.scores(e, task, [s]) / b[t, i]
            - a[t, i] / b[t, i] ** 2 * (grid.scores(grid.ceiling, task, [reference]) - b[t, i])
            for i, (s, reference) in enumerate(zip(span.shifts, references, strict=True))
        ]
        images.append(np.mean(parts, axis=0))
    return linear(value, images, sets)


def recovered(grid: Grid, e: int, span: ColumnCells) -> Quantity:
    """Share of the gap between the pretrained model and the individual experts.

    (accuracy - pretrained) / (individual - pretrained), each the mean over the span.

    Nothing is known of it where one of the two was not measured, or the experts are not better.
    """
    floors = [i for i, entry in enumerate(grid.entries) if entry.method == FLOOR]
    if grid.ceiling is None or len(floors) != 1:
        return UNKNOWN
    lines, where = (e, floors[0], grid.ceiling), np.ix_(span.tasks, span.shifts)
    accuracies = np.array([grid.set_values[i][where].mean(axis=(0, 1)) for i in lines])  # [3, K]
    gaps = accuracies[2] - accuracies[1]
    if (gaps <= 0).any():
        return UNKNOWN
    sets = (accuracies[0] - accuracies[1]) / gaps
    mean, floor, ceiling = accuracies.mean(axis=1)
    gap = ceiling - floor
    value = float((mean - floor) / gap)
    if not all(grid.has_hits(i) for i in lines):
        return Quantity(Interval(value, NAN, NAN), sets)
    images = []
    for task in span.tasks:
        one, low, high = (grid.scores(i, task, span.shifts) for i in lines)
        images.append((one - low - value * (high - low)) / gap)
    return linear(value, images, sets)


def linear(value: float, images: Sequence[np.ndarray], sets: np.ndarray) -> Quantity:
    """A number that was made linear in the answers.

    Args:
        value: of it.
        images: per task ``[N_t]``: what an image adds to it; their means over tasks are shifted to
            ``value``.
        sets: the number of each set of experts.
    """
    middle = float(np.mean([part.mean() for part in images]))
    images = [part - middle + value for part in images]
    limits = paired_interval(images)
    around = Interval(value, value - limits.margin, value + limits.margin)
    return Quantity(around, sets, tuple(images))


def difference(first: Quantity, second: Quantity) -> Estimate:
    """The first less the second, in pairs: on the same images, of the same sets of experts."""
    if not (first.images and second.images):
        return Estimate(first.value - second.value, NAN, NAN)
    limits = difference_over_images(first, second)
    return over_experts(limits, (first.sets - second.sets).tolist())


def difference_over_images(first: Quantity, second: Quantity) -> Interval:
    """The first less the second with limits over images alone.

    Shares that differ on few images get a score interval, all else the normal one. Answers that are
    the same everywhere are taken to be of one and the same model: no difference, without limits.
    """
    both = list(zip(first.images, second.images, strict=True))
    discordant = sum(int((a != b).sum()) for a, b in both)
    if first.repeats and second.repeats and 0 < discordant < FEW_DISCORDANT:
        return score_interval(first.images, second.images, first.repeats)
    return paired_interval([a - b for a, b in both])


def leaders(found: Mapping[str, Quantity], higher_is_better: bool = True) -> frozenset[str]:
    """The best line of a column, and all that are not significantly worse: what is set in bold.

    Every other line is compared with the best in pairs, with Holm's correction over the lines.

    Args:
        found: of each line that competes.
        higher_is_better: else the smallest is the best.

    Returns:
        None where fewer than two compete, with one set of experts, or where single answers are not
        known: nobody can then say what is better.
    """
    values = {key: one.value for key, one in found.items() if not np.isnan(one.value)}
    if len(values) < 2 or any(len(found[key].sets) < 2 or not found[key].images for key in values):
        return frozenset()
    best = (max if higher_is_better else min)(values, key=values.__getitem__)
    others = [key for key in values if key != best]
    worse = holm([difference(found[best], found[key]).p for key in others])
    return frozenset({best, *(key for key, one in zip(others, worse, strict=True) if not one)})
