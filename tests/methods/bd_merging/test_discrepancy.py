"""Neighbours, their discrepancy and the loss on it: by hand, and against loops."""

import math

import numpy as np
import pytest
import torch

from methods.bd_merging.discrepancy import (
    DiscrepancyFactors,
    Pairs,
    contrastive_loss,
    discrepancy,
    distances,
    k_nearest,
    neighbour_log_odds,
    same_task_share,
    split_pairs,
    within_radius,
)
from methods.bd_merging.evidential_head import opinion
from methods.bd_merging.training import quantile


def mask(*rows):
    return torch.tensor(rows, dtype=torch.bool)


def test_neighbours_by_hand():
    # angles 0, 30, 90, 100 degrees: chords 2 sin(angle / 2): .52, 1.41, 1.53 from the first
    angle = torch.tensor([0.0, 30, 90, 100]).deg2rad()
    apart = distances(torch.stack([angle.cos(), angle.sin()], 1))
    assert apart[0].tolist() == pytest.approx([0, 0.5176, 1.4142, 1.5321], abs=1e-4)
    first = mask([0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0])
    assert torch.equal(k_nearest(apart, 1), first)
    assert torch.equal(within_radius(apart, 0.6), first)
    two = mask([0, 1, 1, 0], [1, 0, 1, 0], [0, 1, 0, 1], [0, 1, 1, 0])
    assert torch.equal(k_nearest(apart, 2), two)
    assert torch.equal(
        within_radius(apart, 1.0), mask([0, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 1, 0])
    )
    every = ~torch.eye(4, dtype=torch.bool)
    assert torch.equal(k_nearest(apart, 16), every)
    assert torch.equal(within_radius(apart, 2.0), every)


def test_one_image_has_no_neighbours_and_equal_images_are_neighbours():
    alone = distances(torch.ones(1, 3))
    assert k_nearest(alone, 16).tolist() == within_radius(alone, 1.0).tolist() == [[False]]
    same = distances(torch.ones(3, 5) / 5**0.5)
    assert not same.any()
    assert torch.equal(within_radius(same, 0.1), ~torch.eye(3, dtype=torch.bool))


# three images, three classes: evidence (6 1 0), (1 6 0) and (0 0 2)
# alpha      (7 2 1)      (2 7 1)      (1 1 3)
# S, u       10, .3       10, .3       5, .6
# p          (.7 .2 .1)   (.2 .7 .1)   (.2 .2 .6)
# |p - p|_1  0-1: 1;  0-2: .5 + 0 + .5 = 1;  1-2: 0 + .5 + .5 = 1
# doubt      ln(10/7 - 1) = ln(3/7) twice; ln(5/3 - 1) = ln(2/3)
THREE = opinion(torch.tensor([[6.0, 1, 0], [1, 6, 0], [0, 0, 2]]))
A, B = math.log(3 / 7), math.log(2 / 3)


def softplus(x):
    return math.log(1 + math.exp(x))


def test_the_discrepancy_of_three_images_by_hand():
    # neighbours: of 0 both others, of 1 image 0, of 2 none
    near = mask([0, 1, 1], [1, 0, 0], [0, 0, 0])
    assert neighbour_log_odds(THREE).tolist() == pytest.approx([A, A, B])
    sharp = [(A + B) / 2, A, 0]  # the mean over none is 0
    div = [1, 1, 0]
    conf = np.array([[0, 0.49, 0.28], [0.49, 0, 0.28], [0.28, 0.28, 0]])  # .7 .7, .7 .4
    plain = np.array(sharp)[:, None] * np.array(div)[:, None] * conf
    found = discrepancy(THREE, near, DiscrepancyFactors(plain=True))
    np.testing.assert_allclose(found.numpy(), plain, atol=1e-6)
    soft = np.array([softplus(x) for x in sharp])[:, None] * np.array(div)[:, None] * conf
    np.testing.assert_allclose(discrepancy(THREE, near).numpy(), soft, atol=1e-6)
    # with x_i itself in Sharp: (2 A + B) / 3, A, and B
    own = np.array([(2 * A + B) / 3, A, B])[:, None] * np.array(div)[:, None] * conf
    found = discrepancy(THREE, near, DiscrepancyFactors(plain=True, own=True))
    np.testing.assert_allclose(found.numpy(), own, atol=1e-6)


def test_factors_that_are_left_out():
    near = mask([0, 1, 1], [1, 0, 0], [1, 1, 0])
    conf = discrepancy(THREE, near, DiscrepancyFactors(sharp=False, div=False))
    assert conf[0].tolist() == pytest.approx([0, 0.49, 0.28])
    sharp = discrepancy(THREE, near, DiscrepancyFactors(div=False, conf=False, plain=True))
    np.testing.assert_allclose(sharp, np.repeat([[(A + B) / 2], [A], [A]], 3, 1), atol=1e-6)
    div = discrepancy(THREE, near, DiscrepancyFactors(sharp=False, conf=False))
    assert div.flatten().tolist() == pytest.approx([1] * 9)
    assert (
        discrepancy(THREE, near, DiscrepancyFactors(sharp=False, div=False, conf=False)).min() == 1
    )
    whole = discrepancy(THREE, near, DiscrepancyFactors(plain=True))
    torch.testing.assert_close(whole, conf * sharp * div)


def test_one_class_alone_and_one_image_alone_give_finite_numbers():
    # another class would have alpha 1: doubt = ln(1 / alpha)
    sure = opinion(torch.tensor([[0.0], [3.0]]))
    assert neighbour_log_odds(sure).tolist() == pytest.approx([0, -math.log(4)])
    near = mask([0, 1], [1, 0])
    for plain in (True, False):
        assert (
            discrepancy(sure, near, DiscrepancyFactors(plain=plain)).abs().max() == 0
        )  # p = 1: no conflict
    assert discrepancy(opinion(torch.ones(1, 4)), mask([0])).tolist() == [[0]]


def test_no_gradient_goes_through_the_discrepancy():
    evidence = torch.rand(4, 3, requires_grad=True)
    assert not discrepancy(opinion(evidence), k_nearest(torch.rand(4, 4), 2)).requires_grad


def test_neighbours_are_parted_at_epsilon():
    d = torch.tensor([[0.0, 0.2, 0.5], [0.2, 0.0, 0.3], [0.5, 0.3, 0.0]])
    near = mask([0, 1, 1], [1, 0, 1], [1, 0, 0])
    pairs = split_pairs(
        d, near, torch.tensor(0.3)
    )  # what is equal is negative; no image is its own
    assert torch.equal(pairs.positive, mask([0, 1, 0], [1, 0, 0], [0, 0, 0]))
    assert torch.equal(pairs.negative, mask([0, 0, 1], [0, 0, 1], [1, 0, 0]))
    assert same_task_share(pairs.negative, torch.tensor([0, 1, 0])).item() == pytest.approx(2 / 3)
    assert same_task_share(mask([0, 0], [0, 0]), torch.tensor([0, 0])).item() == 0


def test_the_quantile_is_numpys():
    values = torch.rand(101, generator=torch.Generator().manual_seed(0))
    assert quantile(values, 0.9).item() == pytest.approx(np.quantile(values, 0.9))
    assert quantile(torch.tensor([1.0, 2.0]), 0.9).item() == pytest.approx(1.9)
    assert quantile(torch.zeros(0), 0.9).item() == 0


# -- the loss ------------------------------------------------------------------------------------


def test_the_loss_of_four_images_by_hand():
    # features (1 0), (2 0), (0 3), (-1 0): cosines of the first 1, 0, -1; of the second 1, 0, -1;
    # t = 1. image 0: positive 1, negative 3: -ln(e / (e + 1/e)) = ln(1 + e^-2)
    # image 1: positives 0 and 2, negative 3: -1/2 (1 + 0) + ln(e + 1 + 1/e)
    # image 2: positives alone; image 3: negatives alone: both are skipped
    features = torch.tensor([[1.0, 0], [2, 0], [0, 3], [-1, 0]])
    pairs = Pairs(
        mask([0, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]),
        mask([0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0], [1, 1, 0, 0]),
    )
    first = math.log(1 + math.exp(-2))
    second = -0.5 + math.log(math.e + 1 + 1 / math.e)
    assert contrastive_loss(features, pairs, 1.0).item() == pytest.approx((first + second) / 2)
    # t = 1/2 doubles the cosines
    first = math.log(1 + math.exp(-4))
    second = -1 + math.log(math.e**2 + 1 + math.e**-2)
    assert contrastive_loss(features, pairs, 0.5).item() == pytest.approx((first + second) / 2)


def by_loops(z, positive, negative, t):
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    terms = []
    for i in range(len(z)):
        plus, minus = np.flatnonzero(positive[i]), np.flatnonzero(negative[i])
        if len(plus) and len(minus):
            below = sum(math.exp(z[i] @ z[m] / t) for m in [*plus, *minus])
            terms.append(-np.mean([math.log(math.exp(z[i] @ z[k] / t) / below) for k in plus]))
    return np.mean(terms)


def test_the_loss_of_many_images_is_that_of_loops():
    random = torch.Generator().manual_seed(0)
    z = torch.randn(24, 5, generator=random, dtype=torch.float64, requires_grad=True)
    near = k_nearest(torch.rand(24, 24, generator=random), 7)
    pairs = split_pairs(torch.rand(24, 24, generator=random), near, 0.8)
    assert (pairs.negative.any(1) & pairs.positive.any(1)).sum() < 24  # some are skipped
    want = by_loops(z.detach().numpy(), *(p.numpy() for p in pairs), 0.1)
    assert contrastive_loss(z, pairs, 0.1).item() == pytest.approx(want)
    assert torch.autograd.gradcheck(lambda x: contrastive_loss(x, pairs, 0.1), z)


@pytest.mark.parametrize("empty", ["positive", "negative", "both"])
def test_where_a_set_is_empty_there_is_no_loss_and_no_gradient(empty):
    every, none = ~torch.eye(3, dtype=torch.bool), torch.zeros(3, 3, dtype=torch.bool)
    pairs = {"positive": (none, every), "negative": (every, none), "both": (none, none)}[empty]
    z = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = contrastive_loss(z, Pairs(*pairs), 0.1)
    loss.backward()
    assert loss.item() == 0
    assert z.grad.abs().max() == 0


def test_one_image_has_no_loss():
    none = torch.zeros(1, 1, dtype=torch.bool)
    assert contrastive_loss(torch.ones(1, 4), Pairs(none, none), 0.1).item() == 0
