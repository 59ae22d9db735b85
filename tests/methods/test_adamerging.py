"""AdaMerging: numbers worked out by hand, the fast gradient against others, odd suites."""

from collections.abc import Mapping
from math import log

import numpy as np
import pytest
import torch
from torch import Tensor

from methods import METHODS, Checkpoints
from methods.adamerging import AdaMerging, stack
from methods.common.losses import entropy
from methods.common.vit import PlainOps, encode
from methods.common.weights import TensorBuffers, Weights
from methods.contract import TASKS, VIT, Recorder, small_checkpoints
from tests.helpers.learning_methods import ADAMERGING, Curves, fit_on, random_images, ready

# -- by hand -------------------------------------------------------------------------------------


class Linear(AdaMerging):
    """z = x W instead of a transformer."""

    name = "linear"

    def encode(self, images: Tensor, model: Mapping[str, Tensor]) -> Tensor:
        return images @ model["w"]


# W = W_0 + lambda_a tau_a + lambda_b tau_b, both lambdas 1/2, W_0 = 0:
#   tau_a = [[2 ln 3, 0], [0, 3 ln 7]], tau_b = [[0, 0], [0, -ln 7]], W = [[ln 3, 0], [0, ln 7]]
# Task a sees x = (1, 0): p = (3/4, 1/4); task b sees x = (0, 1): p = (1/8, 7/8).
# Of two classes dH/d(z_1 - z_2) = -(z_1 - z_2) p_1 p_2, so
#   dL/dW_11 = -(3/16) ln 3, dL/dW_22 = -(7/64) ln 7 (and as much with + in the other column)
#   dL/dlambda_a = 2 ln 3 dL/dW_11 + 3 ln 7 dL/dW_22 = -(3/8) ln^2 3 - (21/64) ln^2 7
#   dL/dlambda_b =                     -ln 7 dL/dW_22 = +(7/64) ln^2 7
# and L = (ln 4 - (3/4) ln 3) + (ln 8 - (7/8) ln 7).
TAU_A, TAU_B = [[2 * log(3), 0], [0, 3 * log(7)]], [[0, 0], [0, -log(7)]]
SEEN = {"a": torch.tensor([[1.0, 0.0]]), "b": torch.tensor([[0.0, 1.0]])}
LOSS = log(4) - 3 / 4 * log(3) + log(8) - 7 / 8 * log(7)
GRADIENT = [-3 / 8 * log(3) ** 2 - 21 / 64 * log(7) ** 2, 7 / 64 * log(7) ** 2]


def linear(**config) -> tuple[Linear, Checkpoints]:
    base = Weights({"w": torch.zeros(2, 2)})
    experts = {task: Weights({"w": torch.tensor(tau)}) for task, tau in
               (("b", TAU_B), ("a", TAU_A))}  # fmt: skip
    ckpts = Checkpoints(None, base, experts, {})
    method = Linear(Linear.Config.make({"init": 0.5, "batches": 1, **config}))
    method.heads = TensorBuffers(dict.fromkeys(experts, torch.eye(2)))
    method.prepare(ckpts)
    method.learn(ckpts, Recorder())
    return method, ckpts


@pytest.mark.parametrize("granularity", ["layer", "task"])
def test_the_entropy_gradient_of_a_linear_model(granularity):
    method, _ = linear(granularity=granularity)
    plain = method.adapt_loss(SEEN)
    assert plain.item() == pytest.approx(LOSS, abs=1e-6)
    (gradient,) = torch.autograd.grad(plain, method.learned.raw)
    assert gradient[0].tolist() == pytest.approx(GRADIENT, abs=1e-6)
    assert method.descend(SEEN).item() == pytest.approx(LOSS, abs=1e-6)
    assert method.learned.raw.grad[0].tolist() == pytest.approx(GRADIENT, abs=1e-6)


def test_a_first_step_moves_every_coefficient_by_the_rate():
    # Adam's first step is lr g / (|g| + 1e-8): lambda_a rises, lambda_b falls, both by lr.
    curves = Curves()
    method, ckpts = linear(lr=0.01)
    fit_on([SEEN], curves)(method)
    assert method.coefficients == {"w": pytest.approx({"a": 0.51, "b": 0.49}, abs=1e-6)}
    # the model that comes out: 0.51 * 2 ln 3; 0.51 * 3 ln 7 - 0.49 ln 7
    merged = method.merge(ckpts)["w"]
    want = [[1.02 * log(3), 0], [0, 1.04 * log(7)]]
    torch.testing.assert_close(merged, torch.tensor(want), rtol=0, atol=1e-6)
    logged = curves.steps[0]
    assert logged == pytest.approx({"loss": LOSS, "coef/a": 0.5, "coef/b": 0.5}, abs=1e-6)


@pytest.mark.parametrize(("clamp", "used"), [(True, 1.0), (False, 1.01)])
def test_coefficients_are_used_clamped(clamp, used):
    # At 1 the gradient of lambda_a is negative too: Adam takes it to 1.01.
    method, _ = linear(init=1.0, lr=0.01, clamp=clamp)
    fit_on([SEEN])(method)
    assert method.coefficients["w"]["a"] == pytest.approx(used, abs=1e-6)
    assert method.learned.raw[0, 0].item() == pytest.approx(1.01, abs=1e-6)


def test_a_coefficient_beyond_the_clamp_learns_no_more():
    method, _ = linear(init=1.5)
    method.descend(SEEN)
    assert method.learned.raw.grad.tolist() == [[0, 0]]


# Two tensors, keep = 3/4 of all four entries (as in the golden TIES case):
#   a: [3, -1 | 2, 0.1] -> [3, -1 | 2, 0]     sum     [4, 1 | 0, 0]
#   b: [1, 2 | -2, 0.2] -> [1, 2 | -2, 0]     elected [+, + | 0, 0]
# What agrees: a keeps [3, 0 | 0, 0], b keeps [1, 2 | 0, 0].
def test_what_is_trimmed_and_elected_is_not_merged():
    base = Weights({"u": torch.ones(2), "v": torch.ones(2)})
    taus = {"b": ([1, 2], [-2, 0.2]), "a": ([3, -1], [2, 0.1])}
    experts = {
        task: base + Weights({"u": torch.tensor(u).float(), "v": torch.tensor(v).float()})
        for task, (u, v) in taus.items()
    }
    ckpts = Checkpoints(None, base, experts, {})
    found = stack(ckpts, ["a", "b"], keep=0.75)
    assert found["u"].tolist() == [[3, 0], [1, 2]]
    assert found["v"].tolist() == [[0, 0], [0, 0]]
    cls = METHODS["adamerging_pp"]
    method = cls(cls.Config(keep=0.75))
    method.prepare(ckpts)
    method.learned.raw.data = torch.tensor([[0.5, 0.25], [0.1, 0.2]])  # rows u, v; columns a, b
    # 1 + 0.5 * 3 + 0.25 * 1, 1 + 0.25 * 2
    assert method.merge(ckpts)["u"].tolist() == [2.75, 1.5]
    assert method.merge(ckpts)["v"].tolist() == [1, 1]


def test_masks_equal_numpy():
    ckpts = small_checkpoints()
    base = ckpts.base.flat().numpy()
    taus = np.stack([ckpts.experts[t].flat().numpy() - base for t in sorted(TASKS)])
    for row in taus:
        row[np.abs(row) < np.sort(np.abs(row))[-round(0.2 * len(row))]] = 0
    taus[(np.sign(taus) != np.sign(taus.sum(0)))] = 0
    found = stack(ckpts, sorted(TASKS), 0.2)
    got = torch.cat([found[name].flatten(1) for name in found], dim=1)
    np.testing.assert_array_equal(got.numpy(), taus)
    assert 0 < (taus != 0).mean() < 0.2


# -- the loss and its gradient -------------------------------------------------------------------


def test_the_loss_is_the_mean_entropy_of_every_batch_of_16():
    ckpts, method = small_checkpoints(), ready(init=0.3)
    merged = dict(METHODS["task_arithmetic"]().merge(ckpts))  # what 0.3 everywhere is
    seen, want = random_images(32), 0.0
    for task, images in seen.items():
        for part in images.split(16):
            features = encode(part, PlainOps(merged), VIT).double().numpy()
            features /= np.linalg.norm(features, axis=1, keepdims=True)
            odds = np.exp(features @ ckpts.heads[task].double().numpy().T)
            p = odds / odds.sum(1, keepdims=True)
            want += np.mean(-(p * np.log(p)).sum(1))
    assert method.adapt_loss(seen).item() == pytest.approx(want, rel=1e-5)
    assert method.descend(seen).item() == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("clamp", [True, False])
@pytest.mark.parametrize("granularity", ["layer", "block", "task"])
@pytest.mark.parametrize("name", ADAMERGING)
def test_the_fast_gradient_is_that_of_autograd(name, granularity, clamp):
    method = ready(name, granularity=granularity, clamp=clamp)
    spread = torch.linspace(-0.2, 1.2, method.learned.raw.numel())  # some beyond the clamp
    method.learned.raw.data = spread.view_as(method.learned.raw)
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        method, seen = method.to(dtype), random_images(5)
        seen = {task: images.to(dtype) for task, images in seen.items()}
        (want,) = torch.autograd.grad(method.adapt_loss(seen), method.learned.raw)
        method.zero_grad()
        method.descend(seen)
        got = method.learned.raw.grad
        assert got.shape == want.shape
        assert want.norm() > 0.01
        assert (got - want).norm() <= tolerance * want.norm()


def test_the_gradient_is_that_of_differences():
    method = ready(granularity="block").double()
    seen = {task: images.double() for task, images in random_images(4).items()}
    method.descend(seen)
    for row, column in ((0, 0), (1, 2), (3, 1)):
        ends = []
        for step in (1e-5, -1e-5):
            moved = method.learned.raw.detach().clone()
            moved[row, column] += step
            model = dict(method.learned.merged(method.base(), method.taus(), moved))
            ends.append(method.loss(seen, model).item())
        want = (ends[0] - ends[1]) / 2e-5
        assert method.learned.raw.grad[row, column].item() == pytest.approx(want, rel=1e-5)


def test_entropy_of_sure_and_unsure_predictions():
    found = entropy(torch.tensor([[0.0, 0.0, 0.0], [500.0, 0.0, 0.0], [0.0, log(3), -1e4]]))
    want = [log(3), 0.0, log(4) - 3 / 4 * log(3)]
    assert found.tolist() == pytest.approx(want, abs=1e-6)
    assert entropy(torch.randn(4, 1)).tolist() == [0, 0, 0, 0]
