"""Routers, by hand: what they compute, and how they are trained."""

import math

import pytest
import torch
from torch import nn

from methods import METHODS
from methods.common.losses import entropy
from methods.contract import TASKS, Recorder, few_steps, images, small_checkpoints
from methods.routing.routers import (
    Centroids,
    Classifier,
    Examples,
    Schedule,
    accuracy,
    examples,
    hold_out,
    in_batches,
    midpoints,
    plain_mlp,
    train,
    twin_mlp,
)


def test_centroids_by_hand():
    # unit features of a: (1 0) (.6 .8), their mean (.8 .4) is along (2 1); of b: (0 1). the null
    # centroid is along (2, 1) / sqrt(5) + (0, 1) = (.894, 1.447)
    features = {"a": torch.tensor([[5.0, 0.0], [3.0, 4.0]]), "b": torch.tensor([[0.0, 2.0]])}
    two, three = Centroids(2, 2), Centroids(3, 2)
    for router in (two, three):
        router.fit(features)
    middle = (2 / math.sqrt(5), 1 / math.sqrt(5) + 1)
    norm = math.hypot(*middle)
    want = [[2 / math.sqrt(5), 1 / math.sqrt(5)], [0, 1], [middle[0] / norm, middle[1] / norm]]
    torch.testing.assert_close(three.centroids, torch.tensor(want))
    torch.testing.assert_close(two.centroids, torch.tensor(want[:2]))
    shown = torch.tensor([[1.0, 0.0], [0.0, 0.1], [30.0, 40.0]])
    # cosines of (.6, .8): a .894, b .8, null (.6 * .894 + .8 * 1.447) / 1.701 = .996
    assert two(shown).tolist() == [[1, 0], [0, 1], [1, 0]]
    assert three(shown).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_of_equal_centroids_the_first_is_taken():
    router = Centroids(3, 7)
    same = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    router.fit(dict.fromkeys("abc", same))
    assert router(same)[:, 0].tolist() == [1] * 5


def test_a_classifier_by_hand():
    # on the sphere of radius sqrt(2): (3, 4) -> (.6, .8) * sqrt(2); the net doubles
    net = nn.Sequential(nn.Linear(2, 2, bias=False))
    net[0].weight.data = 2 * torch.eye(2)
    shown = torch.tensor([[3.0, 4.0]])
    want = 2 * math.sqrt(2) * torch.tensor([[0.6, 0.8]])
    torch.testing.assert_close(Classifier(net, unit=True).scores(shown), want)
    torch.testing.assert_close(Classifier(net, unit=False).scores(shown), 2 * shown)
    odds = math.exp(8 - 6)
    torch.testing.assert_close(
        Classifier(net, unit=False)(shown), torch.tensor([[1 / (1 + odds), odds / (1 + odds)]])
    )


def test_the_networks():
    def shape(router):
        return [(type(m).__name__, *map(tuple, (p.shape for p in m.parameters())))
                for m in router.net]  # fmt: skip

    assert shape(plain_mlp(3, 4)) == [("Linear", (6, 3), (6,)), ("ReLU",), ("Linear", (4, 6), (4,))]
    hidden = [("BatchNorm1d", (6,), (6,)), ("LeakyReLU",), ("Dropout",)]
    assert shape(twin_mlp(3, 4)) == [
        ("Linear", (6, 3), (6,)), *hidden, ("Linear", (6, 6), (6,)), *hidden,
        ("Linear", (4, 6), (4,)),
    ]  # fmt: skip
    assert twin_mlp(3, 4).net[3].p == 0.5


def test_null_examples_lie_halfway_between_two_tasks():
    # tasks at 0, 2 and 10: halfway are 1, 5 and 6; (4 + 2 + 3) / 3 of them
    parts = {"a": torch.zeros(4, 1), "b": torch.full((2, 1), 2.0), "c": torch.full((3, 1), 10.0)}
    drawn = [midpoints(parts, torch.Generator().manual_seed(i)) for i in range(20)]
    assert {len(part) for part in drawn} == {3}
    assert {*torch.cat(drawn).flatten().tolist()} == {1, 5, 6}
    found = examples(parts, torch.Generator().manual_seed(0))
    assert found.routes.tolist() == [0, 0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 3]
    assert torch.equal(found.features[9:], drawn[0])


def test_a_tenth_is_held_out():
    parts = {
        "a": torch.arange(25.0)[:, None],
        "b": torch.arange(2.0)[:, None],
        "c": torch.ones(1, 1),
    }
    shown, held = hold_out(parts, torch.Generator().manual_seed(0))
    assert [len(part) for part in shown.values()] == [23, 1, 1]  # 25 // 10, one of two, none of one
    assert held.routes.tolist() == [0, 0, 1]
    both = torch.cat([shown["a"], held.features[:2]]).flatten()
    assert both.sort().values.tolist() == list(range(25))
    assert hold_out({"c": torch.ones(1, 1)}, torch.Generator())[1] is None


def test_no_batch_is_of_one():
    assert [len(rows) for rows in in_batches(torch.arange(9), 4)] == [4, 5]
    assert [len(rows) for rows in in_batches(torch.arange(10), 4)] == [4, 4, 2]
    assert [len(rows) for rows in in_batches(torch.arange(1), 4)] == [1]


def test_the_first_step_is_adamws():
    # one epoch of one batch: every number moves by lr against the sign of its gradient
    random = torch.Generator().manual_seed(0)
    shown = Examples(torch.randn(6, 3, generator=random), torch.tensor([0, 1, 2, 0, 1, 2]))
    router = plain_mlp(3, 3)
    nn.functional.cross_entropy(router.scores(shown.features), shown.routes).backward()
    signs = [parameter.grad.sign() for parameter in router.parameters()]
    before = [parameter.detach().clone() for parameter in router.parameters()]
    curves = train(router, shown, None, Schedule(0.01, 8, 1), random)
    for old, parameter, sign in zip(before, router.parameters(), signs, strict=True):
        torch.testing.assert_close(parameter.data, old - 0.01 * sign, rtol=0, atol=1e-5)
    assert len(curves["router_loss"]) == 1
    assert curves["router_acc"] == []


def test_the_rate_falls_to_zero_step_by_step():
    # a gradient of constant sign: Adam moves by the rate. 3 epochs of 2 batches: 1 + 5/6 + .. + 1/6
    net = nn.Sequential(nn.Linear(1, 2, bias=False))
    net[0].weight.data.zero_()
    shown = Examples(torch.ones(4, 1), torch.zeros(4, dtype=torch.long))
    train(Classifier(net, unit=False), shown, None, Schedule(1e-4, 2, 3), torch.Generator())
    moved = 1e-4 * (6 + 5 + 4 + 3 + 2 + 1) / 6
    torch.testing.assert_close(
        net[0].weight.data, torch.tensor([[moved], [-moved]]), rtol=1e-2, atol=0
    )


@pytest.mark.parametrize("seed", range(2))
def test_the_best_epoch_on_the_held_out_images_stays(seed):
    random = torch.Generator().manual_seed(seed)
    shown = Examples(torch.randn(30, 4, generator=random), torch.arange(30) % 3)
    other = Examples(torch.randn(20, 4, generator=random), torch.arange(20) % 3)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        router = twin_mlp(4, 3)
        curves = train(router, shown, other, Schedule(0.05, 8, 8), random)
    assert len(curves["router_acc"]) == 8
    assert max(curves["router_acc"]) > curves["router_acc"][-1]  # there is something to choose
    assert accuracy(router, other) == max(curves["router_acc"])
    assert not router.training


def test_accuracy_by_hand():
    net = nn.Sequential(nn.Linear(2, 2, bias=False))
    net[0].weight.data = torch.eye(2)
    shown = torch.tensor([[2.0, 1.0], [1.0, 2.0], [0.0, 1.0], [3.0, 1.0]])
    found = accuracy(Classifier(net, unit=False), Examples(shown, torch.tensor([0, 0, 1, 0])))
    assert found == 75  # the second is wrong


def test_entropy_by_hand():
    # (1/2, 1/2) has ln 2; (3/4, 1/4) has ln 4 - 3/4 ln 3; their mean
    logits = torch.tensor([[0.0, 0.0], [math.log(3), 0.0]])
    want = (math.log(2) + math.log(4) - 0.75 * math.log(3)) / 2
    assert entropy(logits).mean().item() == pytest.approx(want, abs=1e-6)
    assert entropy(torch.zeros(2, 1)).tolist() == [0, 0]  # one class is always sure


def test_the_entropy_router_gets_surer():
    ckpts, losses = small_checkpoints(), []
    batch = dict.fromkeys(TASKS, images())

    def fit(method):
        losses.append(method.adapt_loss(batch).item())
        few_steps(method)
        losses.append(method.adapt_loss(batch).item())

    method = METHODS["entropy_router"]().build(ckpts, Recorder(), fit)
    assert losses[1] < losses[0]
    assert not any(p.requires_grad for p in method.parameters())


def test_the_entropy_routers_gradient_is_that_of_its_loss():
    method = METHODS["entropy_router"]().build(small_checkpoints(), Recorder(), few_steps).double()
    batch = {task: images()[:2].double() for task in TASKS}
    bias = method.learned.requires_grad_().net[-1].bias
    (grad,) = torch.autograd.grad(method.adapt_loss(batch), bias)
    for i in range(3):  # central differences
        with torch.no_grad():
            values = []
            for sign in (1, -1):
                bias[i] += sign * 1e-5
                values.append(method.adapt_loss(batch).item())
                bias[i] -= sign * 1e-5
        assert grad[i].item() == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5)
