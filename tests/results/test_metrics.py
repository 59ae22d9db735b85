"""Metrics of predictions, against scikit-learn, SciPy, torchmetrics and plain NumPy."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.metrics import balanced_accuracy_score, brier_score_loss, recall_score
from torchmetrics.functional.classification import multiclass_calibration_error

from results.metrics import (
    CALIBRATION_BINS,
    TEMPERATURES,
    brier,
    by_class,
    calibration_error,
    debiased,
    of_confidence,
    risk_coverage,
    temperature,
)


def predictions(n: int, classes: int, sharpness: float, seed: int = 0) -> tuple:
    """Random probabilities ``[N, C]`` and labels that agree with them more often than not."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(classes, sharpness), n)
    labels = np.array([rng.choice(classes, p=(row + 1 / classes) / 2) for row in p])
    return p, labels


@pytest.fixture(params=[(400, 5, 0.05), (400, 5, 1.0), (37, 3, 20.0), (1, 2, 1.0), (2, 2, 1.0)])
def case(request) -> tuple:
    """Probabilities, labels, confidences, right or wrong."""
    p, labels = predictions(*request.param)
    return p, labels, p.max(1), p.argmax(1) == labels


def test_the_brier_score_is_that_of_scikit_learn(case):
    p, labels, *_ = case
    theirs = brier_score_loss(labels, p, labels=np.arange(p.shape[1]), scale_by_half=False)
    assert brier(p, labels) == pytest.approx(theirs)


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_accuracies_of_classes_are_those_of_scikit_learn(case):
    p, labels, *_ = case
    predicted, there = p.argmax(1), np.unique(labels)
    found = by_class(predicted, labels)
    assert found["bacc"] == pytest.approx(balanced_accuracy_score(labels, predicted))
    recalls = recall_score(labels, predicted, labels=there, average=None, zero_division=0)
    assert found["worst_acc"] == pytest.approx(recalls.min())


def test_a_class_without_images_does_not_count():
    assert by_class(np.array([0, 3, 2]), np.array([0, 0, 2])) == {"bacc": 0.75, "worst_acc": 0.5}


@pytest.mark.parametrize("sharpness", [0.05, 1.0, 20.0])
def test_calibration_error_is_that_of_torchmetrics(sharpness):
    rng = np.random.default_rng(0)
    p = torch.from_numpy(rng.dirichlet(np.full(5, sharpness), 400)).float()
    p[:20] = torch.eye(5)[torch.arange(20) % 5]  # confidence 1 is in a bin, too
    truth = torch.from_numpy(rng.integers(0, 5, 400))
    theirs = multiclass_calibration_error(p, truth, num_classes=5, n_bins=CALIBRATION_BINS)
    confidence, predicted = p.max(1)
    ours = calibration_error(confidence.numpy(), (predicted == truth).numpy())
    assert ours == pytest.approx(float(theirs), abs=1e-6)
    assert of_confidence(confidence.numpy(), (predicted == truth).numpy())["ece"] == ours


def split(confidence: np.ndarray, right: np.ndarray, bins: int) -> list[tuple]:
    """Images, mean confidence and accuracy of bins that ``np.array_split`` makes."""
    order = np.argsort(confidence, kind="stable")
    parts = zip(np.array_split(confidence[order], bins), np.array_split(right[order], bins),
                strict=True)  # fmt: skip
    return [(len(c), c.mean(), r.mean()) for c, r in parts if len(c)]


def test_adaptive_calibration_error_over_bins_of_equal_mass(case):
    *_, confidence, right = case
    expected = sum(n * abs(a - c) for n, c, a in split(confidence, right, 15)) / len(right)
    assert of_confidence(confidence, right)["aece"] == pytest.approx(expected)


def test_debiased_calibration_error_by_its_formula(case):
    *_, confidence, right = case
    found = of_confidence(confidence, right)
    if len(right) == 1:
        assert "dece" not in found
        return
    parts = split(confidence, right, min(15, len(right) // 2))
    square = sum(n * ((a - c) ** 2 - a * (1 - a) / (n - 1)) for n, c, a in parts) / len(right)
    assert found["dece"] == pytest.approx(math.copysign(abs(square) ** 0.5, square))


def test_what_chance_adds_to_calibration_errors():
    """Perfectly calibrated answers, drawn 400 times: ECE is at its floor, the debiased one at 0."""
    rng = np.random.default_rng(3)
    for n, low in ((300, 0.2), (300, 0.93), (40, 0.5)):
        confidence = np.sort(rng.uniform(low, 1, n))
        draws = [of_confidence(confidence, rng.random(n) < confidence) for _ in range(400)]
        mean = {name: float(np.mean([one[name] for one in draws])) for name in draws[0]}
        assert mean["ece"] == pytest.approx(draws[0]["floor:ece"], rel=0.05)
        assert mean["aece"] == pytest.approx(draws[0]["floor:aece"], rel=0.05)
        assert abs(mean["dece"]) < 0.3 * mean["aece"]
        squares = [one["dece"] * abs(one["dece"]) for one in draws]
        assert abs(np.mean(squares)) < 3 * np.std(squares) / 20
    certain = of_confidence(np.ones(9), np.ones(9, bool))
    assert certain == {"ece": 0, "aece": 0, "dece": 0, "aurc": 0, "floor:ece": 0, "floor:aece": 0}


def test_equal_coins_have_the_mean_deviation_of_a_binomial():
    confidence = np.full(30, 0.7)  # one bin of equal width
    k = np.arange(31)
    expected = (stats.binom.pmf(k, 30, 0.7) * abs(k - 21)).sum() / 30
    assert of_confidence(confidence, np.ones(30, bool))["floor:ece"] == pytest.approx(expected)


def test_debiased_error_sees_what_is_there():
    """Confidence .1 too high everywhere: the root mean square error is .1."""
    rng = np.random.default_rng(0)
    truth = np.sort(rng.uniform(0.3, 0.9, 200_000))
    found = debiased(truth + 0.1, (rng.random(len(truth)) < truth).astype(float))
    assert found == pytest.approx(0.1, abs=0.004)


def test_risk_over_coverage_in_plain_numpy(case):
    *_, confidence, right = case
    wrong = ~right[np.argsort(-confidence, kind="stable")]
    expected = np.mean([wrong[:k].mean() for k in range(1, len(wrong) + 1)])
    assert risk_coverage(confidence, right) == pytest.approx(expected)


def test_equally_sure_predictions_count_with_their_mean_over_all_orders():
    rng = np.random.default_rng(1)
    confidence, right = rng.integers(1, 4, 30) / 4, rng.random(30) < 0.6

    def shuffled() -> float:
        order = rng.permutation(30)
        order = order[np.argsort(-confidence[order], kind="stable")]
        return float(np.mean([(~right[order])[:k].mean() for k in range(1, 31)]))

    mean = np.mean([shuffled() for _ in range(2000)])
    assert risk_coverage(confidence, right) == pytest.approx(mean, abs=0.003)
    turned = risk_coverage(confidence[::-1], right[::-1])
    assert turned == pytest.approx(risk_coverage(confidence, right), abs=1e-12)


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 4.0])
def test_one_temperature_is_the_minimum_that_scipy_finds(sharpness):
    rng = np.random.default_rng(5)
    logits = [sharpness * rng.normal(0, 2, (n, c)) for n, c in ((200, 4), (60, 9))]
    labels = [
        np.array([rng.choice(len(row), p=np.exp(log_softmax(row / sharpness / 1.5))) for row in z])
        for z in logits
    ]

    def loss(log_t: float) -> float:
        return float(sum(-log_softmax(z / np.exp(log_t), axis=1)[np.arange(len(y)), y].mean()
                         for z, y in zip(logits, labels, strict=True)))  # fmt: skip

    best = minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded",
                           options={"xatol": 1e-10})  # fmt: skip
    found = temperature(logits, labels)
    assert found == pytest.approx(np.exp(best.x), rel=1e-4)
    assert loss(math.log(found)) <= best.fun + 1e-12
    scaled = temperature([3 * z.astype(np.float32) + 7 for z in logits], labels)
    assert scaled == pytest.approx(3 * found, rel=1e-4)


def test_a_temperature_has_bounds():
    logits, right = [np.eye(3)], [np.arange(3)]
    assert temperature(logits, right) == TEMPERATURES[0]
    assert temperature(logits, [np.array([1, 2, 0])]) == TEMPERATURES[1]
