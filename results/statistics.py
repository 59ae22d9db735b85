"""Intervals over images and sets of experts, tests in pairs, AUROC.

Two things are uncertain: which images were drawn for the test set, and how the experts turned out
that were merged. Intervals over images (Wilson's, paired, score) hold for these experts alone;
:func:`over_experts` adds the second part, where several sets of experts were measured. Seeds of
methods are averaged first, image by image.
"""

from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

LEVEL = 0.95

FEW_DISCORDANT = 30  # images on which two methods differ: with fewer, a score interval
# Of sample variances, so many that are smaller than the one at hand are allowed for: with a single
# degree of freedom the half of them would be far too small.
SHARE_BELOW = {1: 0.25, 2: 0.5}
LARGE = 1e6  # degrees of freedom: t is then normal


class Interval(NamedTuple):
    """An estimate and its confidence limits, all shares."""

    value: float
    low: float
    high: float

    @property
    def margin(self) -> float:
        """The longer of the two sides: what stands behind a +-."""
        return max(self.high - self.value, self.value - self.low)


class Estimate(NamedTuple):
    """An estimate whose limits hold for other images, and for other experts where ``df`` is known.

    ``p`` and ``df`` are NaN with one set of experts: nothing is then known of others.
    """

    value: float
    low: float
    high: float
    p: float = np.nan  # two-sided, of the truth being 0
    df: float = np.nan  # degrees of freedom: the fewer of both sides

    @property
    def interval(self) -> Interval:
        """The limits alone."""
        return Interval(*self[:3])


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


def score_interval(
    first: Sequence[np.ndarray],
    second: Sequence[np.ndarray],
    repeats: int = 1,
    level: float = LEVEL,
) -> Interval:
    """Mean over tasks of the difference of two shares of the same images, by Wilson's limits.

    Newcombe 1998 (Statistics in Medicine 17:2635-2650, method 10): with d_j the distance of a share
    from its Wilson limit and r the correlation of the answers, the lower margin is
    sqrt(d_1^2 - 2 r d_1 d_2 + d_2^2), d_1 below the first share and d_2 above the second. A
    positive covariance is lowered by 1 / (2 n), to 0 at most: his correction for continuity. Where
    two methods differ on few images the normal interval is too short. Tasks are combined as in
    :func:`mean_interval`.

    Args:
        first: per task ``[N_t]``, scores in [0, 1] of one method.
        second: of the other, on the same images.
        repeats: how many measurements each score is the mean of.
        level: of confidence.

    >>> a, b = np.zeros(21), np.zeros(21)  # 1 both right, 1 the first alone, 7 the second alone
    >>> a[[0, 1]], b[[0, *range(2, 9)]] = 1, 1
    >>> [round(limit, 3) for limit in score_interval([a], [b])]
    [-0.286, -0.507, -0.026]
    """
    below = above = 0.0
    for one, other in zip(first, second, strict=True):
        p, q = float(one.mean()), float(other.mean())
        (p_low, p_high), (q_low, q_high) = (
            wilson(share * n, n, level)
            for share, n in ((p, effective_n(one, repeats)), (q, effective_n(other, repeats)))
        )
        spread = float(one.std() * other.std())
        together = float(((one - p) * (other - q)).mean())
        if together > 0:
            together = max(0.0, together - 1 / (2 * len(one)))
        r = together / spread if spread else 0.0
        down, up = (p - p_low, q_high - q), (p_high - p, q - q_low)
        below += max(0.0, down[0] ** 2 - 2 * r * down[0] * down[1] + down[1] ** 2)
        above += max(0.0, up[0] ** 2 - 2 * r * up[0] * up[1] + up[1] ** 2)
    value = float(np.mean([a.mean() - b.mean() for a, b in zip(first, second, strict=True)]))
    return Interval(value, value - below**0.5 / len(first), value + above**0.5 / len(first))


def over_experts(images: Interval, sets: Sequence[float], level: float = LEVEL) -> Estimate:
    """Limits that hold for other images and for other experts.

    Args:
        images: the mean over all sets, with limits over images of the same ``level``.
        sets: the same quantity of each of K sets of experts, whose sample variance over K is the
            experts' part; with one set, ``images`` is all that is known.
        level: of confidence.
    """
    if len(sets) < 2:
        return Estimate(*images)
    return with_experts(images, float(np.var(sets, ddof=1)) / len(sets), len(sets) - 1, level)


def with_experts(images: Interval, experts: float, freedom: int, level: float = LEVEL) -> Estimate:
    """Add the experts' part of a variance to an interval over images.

    Answers that change from set to set by the chance of single images are in both parts, so the
    sum is rather too large. Student's t has the degrees of freedom of Satterthwaite 1946
    (Biometrics 2:110-114), freedom (total / experts' part)^2: images are so many that their part
    has none to lose. The experts' part stands there with its median-unbiased estimate, experts *
    freedom / median(chi^2), with two sets that of the lower quartile: a sample variance lies below
    the truth more often than above, which would count as many degrees (see ``python -m bench
    profile coverage``).

    Args:
        images: with limits of the same ``level``.
        experts: variance of the mean that comes from experts.
        freedom: degrees of freedom that this variance was estimated with.
        level: of confidence.
    """
    below, above = ((side / _z(level)) ** 2 for side in
                    (images.value - images.low, images.high - images.value))  # fmt: skip
    degrees = [_degrees(side, experts, freedom) for side in (below, above)]
    errors = [(side + experts) ** 0.5 for side in (below, above)]
    low, high = (_t(level, df) * error for df, error in zip(degrees, errors, strict=True))
    toward_zero = 0 if images.value > 0 else 1
    p = _two_sided(images.value, errors[toward_zero], degrees[toward_zero])
    return Estimate(images.value, images.value - low, images.value + high, p, min(degrees))


def _degrees(images: float, experts: float, freedom: int) -> float:
    """Satterthwaite's degrees of freedom of the sum of two variances."""
    from scipy.special import chdtri

    likely = experts * freedom / float(chdtri(freedom, 1 - SHARE_BELOW[min(freedom, 2)]))
    if likely <= 0:
        return LARGE
    return min(LARGE, freedom * ((images + likely) / likely) ** 2)


def _t(level: float, df: float) -> float:
    """Quantile of Student's t of a two-sided interval."""
    from scipy.special import stdtrit

    return float(stdtrit(df, (1 + level) / 2))


def _two_sided(value: float, error: float, df: float) -> float:
    from scipy.special import stdtr

    if error <= 0:
        return float(value == 0)
    return 2 * float(stdtr(df, -abs(value) / error))


def holm(p_values: Sequence[float], alpha: float = 1 - LEVEL) -> list[bool]:
    """Which hypotheses are rejected, so that any is wrongly with probability ``alpha`` at most.

    Source: Holm 1979, Scandinavian Journal of Statistics 6:65-70: the smallest of m p-values is
    held against alpha / m, the next against alpha / (m - 1), until one is not smaller.

    >>> holm([0.04, 0.001, 0.03])
    [False, True, False]
    """
    rejected = [False] * len(p_values)
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    for rank, place in enumerate(order):
        if not p_values[place] <= alpha / (len(p_values) - rank):
            break
        rejected[place] = True
    return rejected


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
