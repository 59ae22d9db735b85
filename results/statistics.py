"""Statistics over images: Wilson's and paired intervals, AUROC, calibration error.

What is uncertain here is which images were drawn for the test set. Experts and seeds are fixed:
seeds are averaged first, image by image, and an interval says nothing about new experts.
"""

from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

LEVEL = 0.95
CALIBRATION_BINS = 15  # of confidence, equal width


class Interval(NamedTuple):
    """An estimate and its confidence limits, all shares."""

    value: float
    low: float
    high: float

    @property
    def margin(self) -> float:
        """The longer of the two sides: what stands behind a +-."""
        return max(self.high - self.value, self.value - self.low)


def wilson(k: float, n: float, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's score interval for ``k`` right out of ``n``; both may be fractions.

    Source: Wilson 1927, JASA 22:209-212; the limits solve (p - k/n)^2 = z^2 p (1 - p) / n.

    >>> [round(limit, 3) for limit in wilson(9, 10)]
    [0.596, 0.982]
    """
    if not 0 <= k <= n or n <= 0:
        raise ValueError(f"wilson needs 0 <= k <= n and n > 0; got k={k}, n={n}")
    z, p = _z(level), k / n
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5
    low = 0.0 if k == 0 else max(0.0, centre - half)  # exact, where rounding would leave 1e-17
    return low, 1.0 if k == n else min(1.0, centre + half)


def effective_n(scores: np.ndarray, repeats: int) -> float:
    """Images that would carry as much information if each had been scored once.

    An image seen under seven corruptions or three seeds has a mean score between 0 and 1, of
    smaller variance than one coin: n_eff = p (1 - p) n / var. It lies in [n, n * repeats] and
    equals n for scores of 0 and 1, so that :func:`wilson` is then the ordinary one.

    Args:
        scores: ``[N]`` mean of hits per image.
        repeats: how many measurements each score is the mean of.
    """
    n, p, variance = len(scores), float(scores.mean()), float(scores.var())
    if p in (0.0, 1.0):
        return float(n)
    return n * min(max(p * (1 - p) / variance, 1.0), repeats) if variance else float(n * repeats)


def mean_interval(
    shares: Sequence[float], counts: Sequence[float], level: float = LEVEL
) -> Interval:
    """Mean over tasks of independent shares, each out of its own ``counts`` images.

    Wilson's limits of the tasks are combined as distances (Zou & Donner 2008, Statistics in
    Medicine 27:1693-1702): margin^2 = sum_t (margin_t / T)^2, each side for itself. One task gives
    Wilson's interval.
    """
    limits = np.array(
        [wilson(p * n, n, level) for p, n in zip(shares, counts, strict=True)]
    )  # [T, 2]
    p = np.asarray(shares, dtype=float)
    below, above = np.sqrt(((limits.T - p) ** 2).sum(axis=1)) / len(p)
    return Interval(float(p.mean()), float(p.mean() - below), float(p.mean() + above))


def auroc(scores: np.ndarray, positive: np.ndarray) -> float:
    """P(score of a positive > score of a negative), ties counting half.

    NaN if there are no positives, or no negatives, or a score is NaN. It is the area under the
    curve of true against false positives, by the ranks (Mann & Whitney 1947).

    >>> auroc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
    0.75
    """
    count = int(positive.sum())
    if not 0 < count < len(positive) or np.isnan(scores).any():
        return float("nan")
    _, places, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(sizes) - (sizes - 1) / 2)[places]  # from 1; of equals, the mean
    above = float(ranks[positive].sum()) - count * (count + 1) / 2
    return above / (count * (len(positive) - count))


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """ECE = sum_b n_b/N |acc_b - conf_b| over bins of equal width, lower edge included.

    Source: Guo et al. 2017, arXiv 1706.04599, equation 3.

    Args:
        confidence: ``[N]`` probability of each prediction, in [0, 1]; binned as float32.
        right: ``bool [N]``, whether it is right.

    >>> round(calibration_error(np.array([0.9, 0.9, 0.6]), np.array([True, False, True])), 4)
    0.4
    """
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1, dtype=np.float32)
    places = np.digitize(confidence.astype(np.float32), edges) - 1  # 1 has a bin of its own
    counts = np.bincount(places, minlength=CALIBRATION_BINS + 1)
    gaps = np.bincount(places, right.astype(float) - confidence, minlength=CALIBRATION_BINS + 1)
    return float(np.abs(gaps).sum() / counts.sum())


def paired_interval(differences: Sequence[np.ndarray], level: float = LEVEL) -> Interval:
    """Mean over tasks of the mean difference per image, in closed form.

    Args:
        differences: per task ``[N_t]``: score of a minus score of b on the same image.
        level: of confidence.

    The variance is sum_t s_t^2 / N_t / T^2 with s_t^2 the sample variance (N - 1); pairing takes
    out what makes an image easy for both.
    """
    means = [float(d.mean()) for d in differences]
    variances = [float(d.var(ddof=1)) / len(d) if len(d) > 1 else np.nan for d in differences]
    value = float(np.mean(means))
    half = _z(level) * float(np.sum(variances)) ** 0.5 / len(means)
    return Interval(value, value - half, value + half)


def bootstrap_interval(
    differences: Sequence[np.ndarray],
    rng: np.random.Generator,
    level: float = LEVEL,
    num_draws: int = 10_000,
) -> Interval:
    """Like :func:`paired_interval`, by resampling images within each task (percentiles).

    Drawing N images with replacement is drawing how often each distinct difference occurs, so a
    draw costs as many numbers as there are distinct differences, not N.
    """
    draws = np.zeros(num_draws)
    for d in differences:
        values, counts = np.unique(d, return_counts=True)
        draws += rng.multinomial(len(d), counts / len(d), size=num_draws) @ values / len(d)
    tail = (1 - level) / 2
    low, high = np.quantile(draws / len(differences), [tail, 1 - tail])
    return Interval(float(np.mean([d.mean() for d in differences])), float(low), float(high))


def _z(level: float) -> float:
    """Standard normal quantile of a two-sided interval."""
    return NormalDist().inv_cdf((1 + level) / 2)
