"""What predictions are worth: calibration, Brier score, risk and coverage, accuracy class by class.

Every function looks at all images of one cell (a method on a task under a shift) at once.
"""

import math
from collections.abc import Sequence

import numpy as np

CALIBRATION_BINS = 15  # of confidence
TEMPERATURES = (0.05, 20.0)  # that are looked through: beyond, nothing is fitted any more


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """ECE = sum_b n_b/N |acc_b - conf_b| over bins of equal width, lower edge included.

    Source: Guo et al. 2017, arXiv 1706.04599, equation 3.

    Args:
        confidence: ``[N]`` probability of each prediction, in [0, 1]; binned as float32.
        right: ``bool [N]``, whether it is right.

    >>> round(calibration_error(np.array([0.9, 0.9, 0.6]), np.array([True, False, True])), 4)
    0.4
    """
    places = _equal_width(confidence)
    gaps = np.bincount(places, right.astype(float) - confidence, minlength=CALIBRATION_BINS + 1)
    return float(np.abs(gaps).sum() / len(confidence))


def of_confidence(confidence: np.ndarray, right: np.ndarray) -> dict[str, float]:
    """What is told by how sure a method is of each prediction, and whether that is right.

    ``ece``: see :func:`calibration_error`. ``aece``: the same over bins of equally many images, in
    the order of confidence (Nguyen & O'Connor 2015, arXiv 1508.05154; Nixon et al. 2019, arXiv
    1904.01685). ``dece``: see :func:`debiased`. ``aurc``: see :func:`risk_coverage`.
    ``floor:ece`` and ``floor:aece``: what a perfectly calibrated method with these confidences
    would have on average, of so many images (see :func:`_floor`).

    Args:
        confidence: ``[N]`` probability of each prediction, in [0, 1].
        right: ``bool [N]``, whether it is right.

    Returns:
        Metric -> value. ``dece`` is not there for a single image, which has no variance.
    """
    order = np.argsort(confidence, kind="stable")
    sure, hits = confidence[order].astype(float), right[order].astype(float)
    starts = _equal_mass(len(sure), CALIBRATION_BINS)
    gaps = np.add.reduceat(hits - sure, starts)
    widths = _equal_width(confidence[order])
    found = {
        "ece": calibration_error(confidence, right),
        "aece": float(np.abs(gaps).sum() / len(sure)),
        "aurc": risk_coverage(confidence, right),
        "floor:ece": _floor(sure, np.unique(widths, return_index=True)[1]),
        "floor:aece": _floor(sure, starts),
    }
    return found | ({"dece": debiased(sure, hits)} if len(sure) > 1 else {})


def debiased(sure: np.ndarray, hits: np.ndarray) -> float:
    """Root mean square calibration error, without what chance alone adds to it.

    d^2 = sum_b n_b/N [(acc_b - conf_b)^2 - acc_b (1 - acc_b) / (n_b - 1)] over bins of equally many
    images: the expectation of the second term is the variance of acc_b, so that the mean of d^2 is
    0 for a perfectly calibrated method. Source: Kumar, Liang & Ma 2019, arXiv 1909.10155, section
    5. What is returned is d; where d^2 is negative (less error than chance gives on average),
    -sqrt(-d^2), so that means over cells stay near 0, too.

    Args:
        sure: ``[N]`` confidences in ascending order.
        hits: ``[N]``, 1 where right.
    """
    starts = _equal_mass(len(sure), min(CALIBRATION_BINS, len(sure) // 2))
    counts = np.diff([*starts, len(sure)])
    accuracy = np.add.reduceat(hits, starts) / counts
    gaps = np.add.reduceat(hits - sure, starts) / counts
    noise = accuracy * (1 - accuracy) / (counts - 1)
    square = float((counts * (gaps**2 - noise)).sum() / len(sure))
    return math.copysign(math.sqrt(abs(square)), square)


def risk_coverage(confidence: np.ndarray, right: np.ndarray) -> float:
    """AURC: mean over k = 1 .. N of the error among the k predictions that are most sure.

    Sources: El-Yaniv & Wiener 2010 (JMLR 11:1605-1641) for the curve; Geifman, Uziel & El-Yaniv
    2019 (arXiv 1805.08206) for the area. Equally sure predictions count with their mean error, the
    expectation over their orders, so that the order of the images does not matter.

    >>> risk_coverage(np.array([0.9, 0.8]), np.array([True, False]))
    0.25
    """
    _, places, sizes = np.unique(-confidence, return_inverse=True, return_counts=True)
    errors = np.bincount(places, (~right).astype(float)) / sizes  # most sure first
    ranks = np.arange(1, len(confidence) + 1)
    return float((np.cumsum(np.repeat(errors, sizes)) / ranks).mean())


def brier(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """(1/N) sum_i sum_c (p_ic - [c = y_i])^2, in [0, 2].

    Source: Brier 1950, Monthly Weather Review 78:1-3.

    Args:
        probabilities: ``[N, C]``.
        labels: int ``[N]``.

    >>> round(brier(np.array([[0.8, 0.2]]), np.array([0])), 4)
    0.08
    """
    mine = probabilities[np.arange(len(labels)), labels]
    squares = np.einsum("nc,nc->n", probabilities, probabilities)
    return float((squares - 2 * mine + 1).mean())


def by_class(predicted: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """``bacc`` and ``worst_acc``: mean and least accuracy over the classes that have images.

    Source of the first: Brodersen et al. 2010, ICPR, for any number of classes.

    Args:
        predicted: int ``[N]``.
        labels: int ``[N]``.

    >>> by_class(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]))
    {'bacc': 0.75, 'worst_acc': 0.5}
    """
    counts = np.bincount(labels)
    recalls = np.bincount(labels, predicted == labels)[counts > 0] / counts[counts > 0]
    return {"bacc": float(recalls.mean()), "worst_acc": float(recalls.min())}


def temperature(logits: Sequence[np.ndarray], labels: Sequence[np.ndarray]) -> float:
    """The one T for which softmax(logits / T) has the least negative log-likelihood.

    The mean over tasks of the mean over images, which is convex in 1/T: its derivative, the mean
    of E_p[z] - z_y, has one zero. Source: Guo et al. 2017, arXiv 1706.04599, section 4.2.

    Args:
        logits: per task ``[N_t, C_t]``.
        labels: per task int ``[N_t]``.

    Returns:
        T in :data:`TEMPERATURES`; an end of it where the zero lies beyond: where every answer is
        right the least T, where they are worse than chance the largest.
    """
    from scipy.optimize import brentq

    parts = [z.astype(float) - z.max(axis=1, keepdims=True) for z in logits]
    mine = [z[np.arange(len(y)), y].mean() for z, y in zip(parts, labels, strict=True)]

    def slope(log_inverse: float) -> float:
        total = -float(np.sum(mine))
        for z in parts:
            weights = np.exp(math.exp(log_inverse) * z)
            total += float(((weights * z).sum(axis=1) / weights.sum(axis=1)).mean())
        return total

    low, high = (-math.log(bound) for bound in reversed(TEMPERATURES))  # of 1/T
    if slope(low) >= 0:
        return TEMPERATURES[1]
    if slope(high) <= 0:
        return TEMPERATURES[0]
    return math.exp(-float(brentq(slope, low, high, xtol=1e-9)))


def _equal_width(confidence: np.ndarray) -> np.ndarray:
    """The bin of each confidence, ``[N]``; 1 has a bin of its own."""
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1, dtype=np.float32)
    return np.digitize(confidence.astype(np.float32), edges) - 1


def _equal_mass(n: int, bins: int) -> np.ndarray:
    """Where bins of equally many images begin, the first larger: as ``np.array_split`` cuts."""
    bins = max(1, min(bins, n))
    small, larger = divmod(n, bins)
    sizes = np.full(bins, small) + (np.arange(bins) < larger)
    return np.cumsum(sizes) - sizes


def _floor(sure: np.ndarray, starts: np.ndarray) -> float:
    """Mean of sum_b n_b/N |acc_b - conf_b| where every answer is right with its confidence.

    Right answers of a bin are then a sum of coins. Their mean absolute deviation is De Moivre's of
    m equal coins, 2 v C(m, v) p^v (1 - p)^(m - v + 1) with v = floor(m p) + 1 (Diaconis & Zabell
    1991, Statistical Science 6:284-302), brought to the variance of the unequal ones.

    Args:
        sure: ``[N]`` confidences in ascending order.
        starts: ``[B]`` where bins begin.
    """
    counts = np.diff([*starts, len(sure)])
    shares = np.add.reduceat(sure, starts) / counts
    variances = np.add.reduceat(sure * (1 - sure), starts)
    total = sum(map(_deviation, counts.tolist(), shares.tolist(), variances.tolist()))
    return total / len(sure)


def _deviation(m: int, p: float, variance: float) -> float:
    """Mean absolute deviation of the sum of ``m`` coins of mean ``p`` and this variance."""
    if not 0 < p < 1 or variance <= 0:
        return 0.0
    v = min(m, math.floor(m * p) + 1)
    log = math.lgamma(m + 1) - math.lgamma(v + 1) - math.lgamma(m - v + 1)
    log += v * math.log(p) + (m - v + 1) * math.log1p(-p)
    return 2 * v * math.exp(log) * math.sqrt(variance / (m * p * (1 - p)))
