"""How sure methods are of single images, and what that tells: areas under the curve."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torchmetrics.functional.classification import binary_auroc

from bench.stages.per_image import error_auroc, images_of
from bench.stages.scoring import MetricsCallback, Prediction
from corruptions.base import Shift
from mergeshift import UserError
from results.schema import METRICS
from results.statistics import auroc
from results.tables.uncertainty import SCORES

# -- one area ------------------------------------------------------------------------------------


def test_five_images_by_hand():
    """Positives 3, 1; negatives 2, 1, 0. Pairs won: 3 beats 3; 1 beats 0 and ties 1: 4.5 of 6."""
    scores, positive = np.array([3.0, 1, 2, 1, 0]), np.array([True, True, False, False, False])
    assert auroc(scores, positive) == 4.5 / 6
    assert auroc(-scores, positive) == 1 - 4.5 / 6
    assert auroc(scores, ~positive) == 1 - 4.5 / 6


@pytest.mark.parametrize("digits", [0, 1, 6])  # many ties, some, none
def test_areas_are_those_of_other_people(digits):
    random = np.random.default_rng(digits)
    positive = random.random(300) < 0.2
    scores = (random.normal(size=300) + positive).round(digits)
    found = auroc(scores, positive)
    assert found == pytest.approx(roc_auc_score(positive, scores), abs=1e-12)
    share = (scores - scores.min()) / (scores.max() - scores.min())
    told = binary_auroc(torch.tensor(share), torch.tensor(positive).long())
    assert found == pytest.approx(float(told), abs=1e-6)


@pytest.mark.parametrize("positive", [[True, True], [False, False], []])
def test_nothing_is_told_apart_where_there_is_one_kind(positive):
    assert np.isnan(auroc(np.arange(len(positive)), np.array(positive, bool)))


def test_a_score_that_is_missing_tells_nothing():
    assert np.isnan(auroc(np.array([0.0, np.nan]), np.array([False, True])))


# -- one cell ------------------------------------------------------------------------------------


def answers(labels: list[int], **doubts: torch.Tensor) -> pd.DataFrame:
    """The lines of three images, in two batches."""
    logits = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    scorer, cell = MetricsCallback(), ("m", "a", "contrast@1")
    for rows in (slice(0, 1), slice(1, 3)):
        answer = Prediction(logits[rows], **{name: t[rows] for name, t in doubts.items()})
        batch = {"task": "a", "shift": "contrast@1", "labels": torch.tensor(labels)[rows]}
        scorer.on_test_batch_end(None, None, {"m": answer}, batch, 0)
    return images_of(scorer, cell, Shift("contrast", 1))


def test_three_images_by_hand():
    """Odds 1, e^2, e: p = 1/2, 0.8808, 0.7311; H(1/2) = ln 2."""
    found = answers([1, 0, 1], u=torch.tensor([0.5, 0.1, 0.2]), ads=torch.tensor([3.0, 1, 2]))
    assert found["right"].tolist() == [False, True, True]
    np.testing.assert_allclose(found["max_prob"], [0.5, 0.880797, 0.731059], atol=1e-6)
    np.testing.assert_allclose(found["entropy"], [np.log(2), 0.365334, 0.582203], atol=1e-6)
    np.testing.assert_allclose(found["u"], [0.5, 0.1, 0.2])
    assert found["image"].tolist() == [0, 1, 2]
    assert set(found["severity"]) == {1}
    assert error_auroc(found) == {
        f"auroc_wrong:{name}": 1.0 for name in SCORES
    }  # the first is wrong


def test_a_method_without_doubts_of_its_own_has_two_scores():
    found = answers([0, 1, 1])
    assert found[["u", "ads"]].isna().all(axis=None)
    assert error_auroc(found) == {"auroc_wrong:max_prob": 0.0, "auroc_wrong:entropy": 0.0}


def test_a_cell_without_a_wrong_answer_tells_nothing():
    assert error_auroc(answers([0, 0, 1])) == {}


def test_impossible_classes_have_no_entropy():
    logits = torch.tensor([[0.0, -torch.inf], [0.0, 0.0]])
    scorer = MetricsCallback()
    batch = {"task": "a", "shift": "clean", "labels": torch.tensor([0, 0])}
    scorer.on_test_batch_end(None, None, {"m": Prediction(logits)}, batch, 0)
    found = images_of(scorer, ("m", "a", "clean"), Shift("clean", 0))
    np.testing.assert_allclose(found["entropy"], [0, np.log(2)], atol=1e-6)


def test_every_score_has_a_metric():
    assert METRICS["auroc_wrong:entropy"].title == "Misclassification detection (AUROC) by entropy"
    assert METRICS["auroc_wrong:u"].higher_is_better
    with pytest.raises(UserError, match="no metric named 'auroc_wrong:'"):
        METRICS["auroc_wrong:"]
