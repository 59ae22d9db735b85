"""How often intervals hold the truth, and what differences they detect, in simulated sweeps.

Two methods are merged from experts that turn out by chance, on images that are drawn by chance; the
truth is known. Their intervals are made by the very functions that tables call.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mergeshift import rng_of
from results.statistics import Estimate, Interval, effective_n, mean_interval, with_experts
from results.tables.quantities import Quantity, difference_over_images

POWER = 0.8


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What is simulated: by default, two static merges on clean images of pocket8.

    An image is as hard for both methods: it is answered right where hardness, uniform in [0, 1],
    and noise stay below the accuracy. The noise differs by method and image, and by set too.
    """

    accuracy: float = 0.75  # of both, unless the first is better
    better: float = 0.0  # by so much is the first better than the second
    tasks: int = 8
    images: int = 400  # of each task
    experts: float = 0.005  # sd between sets of the difference of both, mean over tasks
    shared: float = 0.005  # sd between sets of what both have in common
    noise: float = 0.02  # sd by method and image
    chance: float = 0.02  # sd by method, image and merge


class Design(NamedTuple):
    """Which merges are measured."""

    sets: int  # of experts
    squares: int = 1  # ways to put them together; one alone takes the sets as they are

    @property
    def merges(self) -> int:
        """Of each method."""
        return self.sets * self.squares

    def experts(self, tasks: int) -> np.ndarray:
        """Which expert of each task is merged: ``[squares, sets, tasks]``, every one once a square.

        Square r takes for task t in merge j the expert of set (r t + j) mod K: of two squares, no
        two merges have more experts in common than chance gives, if K is a prime.

        >>> Design(3, 2).experts(4)[1].tolist()
        [[0, 1, 2, 0], [1, 2, 0, 1], [2, 0, 1, 2]]
        """
        r, j, t = np.ogrid[: self.squares, : self.sets, :tasks]
        return (r * t + j) % self.sets


DESIGNS = (Design(1), Design(2), Design(3), Design(5), Design(3, 2), Design(3, 3), Design(6))


class Coverage(NamedTuple):
    """Of many simulated sweeps of one design."""

    images: float  # how often the paired interval over images alone holds the true difference
    paired: float  # that over images and sets
    line: float  # the interval of the first method's accuracy
    detected: float  # smallest difference that is found in 80 of 100 sweeps; NaN with one set
    freedom: float  # median degrees of freedom of the paired interval; NaN with one set


def simulate(design: Design, truth: Truth = Truth(), draws: int = 1000) -> Coverage:
    """Run many sweeps of one design.

    Args:
        design: what is measured.
        truth: what is true.
        draws: how many sweeps.
    """
    rng = rng_of("coverage", *design, str(truth))
    alone, paired, line, errors, widths, freedom = [], [], [], [], [], []
    for _ in range(draws):
        hits = sweep(design, truth, rng)
        first, second = map(quantity, hits)
        images = difference_over_images(first, second)
        both = _with_sets(images, hits[0].mean((2, 3)) - hits[1].mean((2, 3)))
        one = _with_sets(first.over_images, hits[0].mean((2, 3)))
        alone.append(images.low <= truth.better <= images.high)
        paired.append(both.low <= truth.better <= both.high)
        line.append(one.low <= truth.accuracy + truth.better <= one.high)
        errors.append(both.value - truth.better)
        widths.append(both.value - both.low)
        freedom.append(both.df)
    several = design.sets > 1
    return Coverage(
        images=float(np.mean(alone)),
        paired=float(np.mean(paired)),
        line=float(np.mean(line)),
        detected=detectable(np.array(errors), np.array(widths)) if several else np.nan,
        freedom=float(np.median(freedom)),
    )


def sweep(design: Design, truth: Truth, rng: np.random.Generator) -> list[np.ndarray]:
    """Right and wrong of both methods: bool ``[squares, sets, tasks, images]`` each."""
    cells, wide = (truth.tasks, truth.images), truth.tasks**0.5
    chosen = design.experts(truth.tasks)  # [squares, sets, tasks]
    hardness, per_task = rng.random(cells), np.arange(truth.tasks)
    common, own = wide * rng.standard_normal((2, truth.tasks, design.sets))
    found = []
    for sign in (1, -1):  # what is good for one of both is bad for the other
        of_expert = truth.shared * common + sign * truth.experts / 2 * own
        ability = truth.accuracy + truth.better * (sign == 1) + of_expert[per_task, chosen]
        noise = truth.noise * rng.standard_normal(cells)
        noise = noise + truth.chance * rng.standard_normal((*chosen.shape, truth.images))
        found.append(hardness + noise < ability[..., None])
    return found


def quantity(hits: np.ndarray) -> Quantity:
    """The accuracy of one method, as a table has it.

    Args:
        hits: bool ``[squares, sets, tasks, images]``.
    """
    merges = hits.shape[0] * hits.shape[1]
    scores = list(hits.mean(axis=(0, 1)))  # of [images]
    counts = [effective_n(score, merges) for score in scores]
    limits = mean_interval([float(score.mean()) for score in scores], counts)
    return Quantity(limits, hits.mean(axis=(0, 2, 3)), tuple(scores), merges)


def _with_sets(images: Interval, means: np.ndarray) -> Estimate:
    """Limits over images and sets; ``means`` ``[squares, sets]`` vary within each square."""
    squares, sets = means.shape
    if sets < 2:
        return Estimate(*images)
    part = float(means.var(axis=1, ddof=1).mean()) / sets
    return with_experts(images, part, squares * (sets - 1))


def detectable(errors: np.ndarray, widths: np.ndarray, power: float = POWER) -> float:
    """The difference of which a share ``power`` of sweeps says that it is above 0.

    Args:
        errors: ``[D]`` estimate less truth of each sweep.
        widths: ``[D]`` estimate less its lower limit.
        power: share of the sweeps.

    A sweep finds a difference d if d + error > width, so d is a quantile of width - error.

    >>> detectable(np.zeros(3), np.array([0.01, 0.02, 0.03]), power=0.5)
    0.02
    """
    return float(np.quantile(widths - errors, power))
