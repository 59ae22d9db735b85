"""BD-Merging: the loss of its router, by definition, and its gradient."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from methods.common.losses import entropy
from methods.common.vit import PlainOps, tokens
from methods.contract import VIT
from tests.helpers.bd_merging_parts import BOTH, IGNORED, before_training, built
from tests.helpers.learning_methods import random_images

pytestmark = pytest.mark.filterwarnings(IGNORED)


def loss_by_hand(method, batch):
    """By definition, image by image and pair by pair, through another forward pass."""
    cfg, order = method.cfg, sorted(batch)
    every = torch.cat([batch[task] for task in order])
    task_of = [task for task in order for _ in batch[task]]
    _, h = tokens(every, PlainOps(method.router_encoder()), VIT)
    h = F.normalize(h, dim=-1).numpy()
    found = method.learned.head(torch.tensor(h))
    alpha, u = found.alpha.numpy(), found.uncertainty.numpy()
    p = alpha / alpha.sum(1, keepdims=True)
    n = len(h)
    apart = np.linalg.norm(h[:, None] - h, axis=-1)
    np.fill_diagonal(apart, np.inf)
    near = [np.argsort(row)[: cfg.nearest] for row in apart]
    gap = np.abs(p[:, None] - p).sum(-1)
    doubt = np.log(alpha.sum(1) / alpha.max(1) - 1)
    values, z = [], []
    for x, task in zip(every, task_of, strict=True):
        feature = F.normalize(method.features(x[None], task), dim=-1)
        z.append(feature[0].numpy())
        values.append(entropy(feature @ method.heads()[task].T).item())
    z = np.stack(z)
    terms = []
    for i in range(n):
        sharp = np.log1p(np.exp(doubt[near[i]].mean()))
        d = {
            k: sharp * gap[i, near[i]].mean() * gap[i, k] * (1 - u[i]) * (1 - u[k]) for k in near[i]
        }
        plus = [k for k in d if d[k] < method.learned.epsilon.item()]
        if 0 < len(plus) < len(d):
            below = sum(math.exp(z[i] @ z[m] / cfg.similarity) for m in d)
            terms.append(np.mean([-z[i] @ z[k] / cfg.similarity + math.log(below) for k in plus]))
    return np.mean(values), np.mean(terms) if terms else 0.0


@pytest.mark.parametrize("name", BOTH)
def test_the_loss_is_the_one_of_the_definition(name):
    method = before_training(name, eta=0.7).double()
    batch = {task: x.double() for task, x in random_images(5).items()}
    with torch.no_grad():
        unsure, apart = loss_by_hand(method, batch)
        found = method.losses(batch)
    assert apart > 0
    assert found.entropy.item() == pytest.approx(unsure, rel=1e-6)
    assert found.contrast.item() == pytest.approx(apart, rel=1e-6)
    w = found.weights.mean(0).reshape(-1, found.weights.shape[-1]).numpy()  # a row per group
    even = -(w * np.log(w)).sum(1).mean()
    assert found.loss.item() == pytest.approx(unsure + 0.7 * apart - 0.1 * even, rel=1e-6)


@pytest.mark.parametrize("config", [{}, {"granularity": "task", "gate": True}])
def test_the_gradient_of_a_step_is_that_of_finite_differences(config):
    method = before_training(eta=0.5, **config).double()
    batch = {task: x.double() for task, x in random_images(4).items()}
    router = method.learned.router
    parameters = [router.last.bias, router.last.weight, router.hidden.weight, router.norm.weight]
    grads = torch.autograd.grad(method.adapt_loss(batch), parameters)
    for parameter, grad in zip(parameters, grads, strict=True):
        flat, at = parameter.data.view(-1), grad.abs().flatten().argmax().item()
        with torch.no_grad():
            values = []
            for sign in (1, -1):
                flat[at] += sign * 1e-5
                values.append(method.adapt_loss(batch).item())
                flat[at] -= sign * 1e-5
        want = (values[0] - values[1]) / 2e-5
        assert grad.flatten()[at].item() == pytest.approx(want, rel=1e-4)


def test_the_gradient_reaches_the_router_alone():
    method = before_training()
    method.requires_grad_()
    method.adapt_loss(random_images(4)).backward()
    assert all(p.grad.isfinite().all() for p in method.learned.router.parameters())
    assert all(p.grad is None for p in method.learned.head.parameters())
    optimizer = method.configure_optimizers()
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in method.learned.router.parameters()}
    assert optimizer.defaults["lr"] == 1e-3


def test_settings_of_the_loss():
    batch = random_images(5)

    def step(**config):
        with torch.no_grad():
            return before_training(**config).losses(batch)

    full, joint = step(), step(entropy_over="joint")
    alone = step(contrast=False, spread=0.0)
    assert alone.loss == alone.entropy == full.entropy
    assert joint.entropy > full.entropy  # of nine classes
    assert joint.contrast == full.contrast
    for threshold, values in (("value", {"epsilon": 1e9}), ("value", {"epsilon": -1.0})):
        found = step(threshold=threshold, spread=0.0, **values)  # no negatives; no positives
        assert found.contrast == 0
        assert found.loss == found.entropy
        assert found.negatives.item() == (values["epsilon"] < 0)
    # 15 images, 4 neighbours each: of 60 pairs the tenth above the .9 quantile, 6
    assert step(threshold="batch").negatives.item() == pytest.approx(0.1)
    differs = [full.contrast] + [
        step(**{name: False}).contrast for name in ("ads", "sharp", "div", "conf")
    ]
    assert len({value.item() for value in differs}) == 5
    assert step(near="radius", radius=2.0).negatives > 0
    assert step(near="radius", radius=1e-6).contrast == 0  # no neighbours at all


def test_a_batch_without_positives_or_negatives_still_trains():
    for epsilon in (1e9, -1.0):
        method = built(threshold="value", epsilon=epsilon)
        assert all(p.isfinite().all() for p in method.learned.parameters())
        assert method.report["negatives"] == (epsilon < 0)
