"""BD-Merging: what it computes of images."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from methods import METHODS
from methods.bd_merging.config import BDConfig
from methods.bd_merging.evidential_head import opinion
from methods.bd_merging.router import TokenRouter, gated
from methods.common.vit import PlainOps, encode, group_of, num_groups, tokens
from methods.common.weights import Weights
from methods.contract import VIT, images, logits, small_checkpoints
from tests.helpers.bd_merging_parts import BOTH, IGNORED, ORDER, before_training, built
from tests.helpers.learning_methods import fit_on, random_images

pytestmark = pytest.mark.filterwarnings(IGNORED)


@pytest.mark.parametrize("granularity", ["layer", "task"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_the_router_by_numpy(granularity, activation):
    cfg = BDConfig(activation=activation, init_std=0.5, temperature=2.0)
    groups = 4 if granularity == "layer" else 0
    with torch.random.fork_rng():
        torch.manual_seed(0)
        router = TokenRouter(8, 3, groups, cfg)
        shown = torch.randn(5, 6, 8)
    found = router(shown).detach()
    assert found.shape == ((5, 4, 3) if groups else (5, 3))
    x = shown.numpy()
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    weights = [p.detach().numpy() for p in router.parameters()][2:]
    x = x @ weights[0].T + weights[1]
    normal = np.vectorize(lambda v: 0.5 * (1 + math.erf(v / 2**0.5)))
    x = np.maximum(x, 0) if activation == "relu" else x * normal(x)
    scores = (x @ weights[2].T).mean(1).reshape(found.shape) / 2  # the bias is 0
    want = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    np.testing.assert_allclose(found, want, atol=1e-5)


def test_the_router_starts_nearly_equal():
    for seed in range(3):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            router = TokenRouter(128, 8, 8, BDConfig())
            shown = torch.randn(4, 17, 128)
        assert (router(shown) - 1 / 8).abs().max() < 0.02
        assert router.last.weight.std().item() == pytest.approx(0.01, rel=0.1)
        assert router.last.bias.abs().max() == 0


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("config", [{}, {"gate": True}, {"null_route": True},
                                    {"null_route": True, "gate": True}])  # fmt: skip
def test_each_image_is_encoded_by_its_own_mixture(name, config):
    ckpts = small_checkpoints()
    method = before_training(name, ckpts, **config)
    shown = random_images(3)["two"]
    with torch.no_grad():
        hidden, features = tokens(shown, PlainOps(ckpts.base), VIT)
        given = method.learned.router(hidden)
        u = method.learned.head(F.normalize(features, dim=-1)).uncertainty
        got, weights = method.predict_routed(shown, "two")
    torch.testing.assert_close(method.uncertainty(shown), u)
    torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
    assert (method.routes[-1] == "null") == bool(config)
    given = given if name == "bd_merging" else given[:, None].expand(-1, num_groups(VIT), -1)
    for i, x in enumerate(shown):

        def mixed(layer, i=i):
            group, total = group_of(layer, VIT), ckpts.base[layer].clone()
            for task, expert in ckpts.experts.items():
                weight = given[i, group, ORDER.index(task)] * (1 - u[i] if "gate" in config else 1)
                total += weight * (expert[layer] - ckpts.base[layer])
            return total

        weights_i = Weights({layer: mixed(layer) for layer in ckpts.base})
        want = F.normalize(encode(x[None], PlainOps(weights_i), VIT), dim=-1) @ ckpts.heads["two"].T
        torch.testing.assert_close(got[i], want[0], rtol=0, atol=1e-4)


def test_the_gate_by_hand():
    # u = 2 / (2 + 2) = .5 and 2 / 8 = .25
    found = opinion(torch.tensor([[1.0, 1.0], [6.0, 0.0]]))
    weights = torch.tensor([[0.2, 0.8], [1.0, 0.0]])
    torch.testing.assert_close(
        gated(weights, found, False), torch.tensor([[0.1, 0.4, 0.5], [0.75, 0, 0.25]])
    )
    torch.testing.assert_close(
        gated(weights, found, True), torch.tensor([[0.1, 0.9], [0.75, 0.25]])
    )
    shared = gated(weights[None, :1], found, False)  # one row for all: [1, G, K']
    torch.testing.assert_close(shared, torch.tensor([[[0.1, 0.4, 0.5]], [[0.15, 0.6, 0.25]]]))


@pytest.mark.parametrize("name", BOTH)
def test_without_a_router_the_experts_are_averaged(name):
    ckpts = small_checkpoints()
    method = built(name, ckpts, fit=None, router=False)
    assert method.adaptation is None
    assert method.coefficients == {}
    assert method.stores == "one model, a task vector per task and an evidential head"
    want = logits(METHODS["average"]().build(ckpts))
    for task, values in logits(method).items():
        torch.testing.assert_close(values, want[task], rtol=0, atol=1e-4)
    gate = built(name, ckpts, fit=None, router=False, gate=True)
    weights = gate.route(images(), "two")
    u = gate.uncertainty(images())
    torch.testing.assert_close(weights, torch.stack([(1 - u) / 3] * 3 + [u], 1))


def test_a_task_without_an_expert_can_be_asked_about():
    ckpts = small_checkpoints()
    seen = replace(ckpts, experts={task: ckpts.experts[task] for task in ("two", "four")})
    method = built(ckpts=seen, fit=fit_on([random_images(4, ("two", "four"))]))
    assert method.routes == ["two", "four"]
    assert len(method.learned.head.rows) == 6
    assert method.predict(images(), "three").shape == (8, 3)
    oracle = method.predict_oracle(images(), "three")  # no expert: theta_0
    want = F.normalize(encode(images(), PlainOps(ckpts.base), VIT), dim=-1) @ ckpts.heads["three"].T
    torch.testing.assert_close(oracle, want, rtol=0, atol=1e-5)


def test_what_it_says_of_images():
    method = built()
    shown = random_images(9)["three"]
    u, ads = method.uncertainty(shown), method.discrepancy(shown)
    assert u.shape == ads.shape == (9,)
    assert ((u > 0) & (u < 1)).all()
    assert (ads >= 0).all()
    assert ads.max() > 0
    torch.testing.assert_close(method.uncertainty(shown[:1]), u[:1])  # alone as in a batch
    assert method.discrepancy(shown[:1]).tolist() == [0]  # no neighbour, no discrepancy
