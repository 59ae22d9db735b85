"""DOGE against NumPy and autograd; its subspace, masks, units; what is degenerate."""

import numpy as np
import pytest
import torch

from methods.contract import small_checkpoints
from methods.doge import Doge, descend, shared_subspace
from tests.helpers.numpy_models import random, task_vectors


def shared(taus: list[np.ndarray]) -> np.ndarray:
    """B of the projection, as the authors lay it out."""
    least = min(taus[0].shape)
    tops = [np.linalg.svd(tau, full_matrices=False)[0][:, : least // len(taus)] for tau in taus]
    return np.linalg.svd(np.hstack(tops), full_matrices=False)[0][:, : least // 6]


def delta_of(taus: list[np.ndarray], factors: list[float], lr: float, steps: int) -> np.ndarray:
    """Adam; the gradient term by term."""
    basis = shared(taus)
    delta, mean, square = (np.zeros_like(taus[0]) for _ in range(3))
    whole, weight = sum(f * tau for f, tau in zip(factors, taus, strict=True)), sum(factors)
    for step in range(1, steps + 1):
        gradient = np.zeros_like(delta)
        for tau in taus:
            rows = (-tau * whole - tau * weight * delta + tau * tau).sum(1, keepdims=True)
            gradient += 2 * rows * (-weight * tau)
        gradient -= basis @ basis.T @ gradient
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        unbiased = mean / (1 - 0.9**step), square / (1 - 0.999**step)
        delta = delta - lr * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8)
    return delta


def loss(delta: torch.Tensor, taus: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    merged = torch.einsum("k,koi->oi", factors, taus + delta)
    return (taus * (taus - merged)).sum(2).square().sum()


@pytest.mark.parametrize("units", ["published", "relative"])
@pytest.mark.parametrize("in_proj", ["split", "fused"])
def test_a_model_equals_numpy(units, in_proj):
    ckpts, steps = small_checkpoints(), 20
    cfg = Doge.Config(units=units, scale=0.8, steps=steps, in_proj=in_proj, lr=1e-3)
    got, taus = Doge(cfg).merge(ckpts), task_vectors(ckpts)
    blocks = [k for k in taus if "resblocks" in k and taus[k][0].ndim == 2]
    flat = [np.concatenate([taus[k][i].ravel() for k in blocks]) for i in range(3)]
    bounds = [np.sort(np.abs(vector))[-round(0.3 * len(vector))] for vector in flat]

    def solve(mine: list[np.ndarray]) -> np.ndarray:
        norms = [np.linalg.norm(tau) for tau in mine]
        factors = [0.8 * (0.07 if units == "published" else np.mean(norms)) / n for n in norms]
        rms = 1.0 if units == "published" else np.sqrt(np.mean(np.sum(mine, axis=0) ** 2))
        lr = 1e-3 if units == "published" else 0.13
        delta = rms * delta_of([tau / rms for tau in mine], factors, lr, steps)
        masks = [np.abs(tau) >= bound * (1 - 1e-7) for tau, bound in zip(mine, bounds, strict=True)]
        parts = zip(factors, mine, masks, strict=True)
        return sum(factor * (tau + delta) * mask for factor, tau, mask in parts)

    for name, mine in taus.items():
        moved = 0 * mine[0]
        if name in blocks:
            cuts = 3 if in_proj == "split" and "in_proj" in name else 1
            parts = [np.split(tau, cuts) for tau in mine]
            moved = np.concatenate([solve([part[i] for part in parts]) for i in range(cuts)])
        want = ckpts.base[name].double().numpy() + moved
        np.testing.assert_allclose(got[name], want, rtol=0, atol=1e-5, err_msg=name)


def test_the_first_step_goes_down_the_slope_outside_of_the_shared_subspace():
    taus, factors = random(3, 12, 8), torch.tensor([0.5, 0.2, 0.9], dtype=torch.float64)
    basis = shared_subspace(taus, 4)
    at = torch.zeros(12, 8, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(loss(at, taus, factors), at)
    outside = slope - basis @ (basis.T @ slope)
    assert (outside.sign() != slope.sign()).any()  # the projection tells
    got = descend(taus, factors, basis, 0.01, 1)  # of Adam: by the signs
    torch.testing.assert_close(got, -0.01 * outside.sign(), atol=1e-6, rtol=0)


def test_the_loss_falls():
    taus, factors = random(3, 12, 8), torch.full((3,), 0.4, dtype=torch.float64)
    basis = shared_subspace(taus, 4)
    assert basis.shape == (12, 2)
    torch.testing.assert_close(basis.T @ basis, torch.eye(2).double())
    none = basis[:, :0]
    values = [loss(descend(taus, factors, none, 0.01, s), taus, factors) for s in (0, 20, 200)]
    assert values[0] > values[1] > values[2]


def test_relative_units_follow_the_task_vectors():
    taus, method = random(3, 6, 6), Doge(Doge.Config(steps=30, keep=1.0))
    torch.testing.assert_close(
        method.solve(100 * taus, [0.0] * 3), 100 * method.solve(taus, [0.0] * 3)
    )


def test_published_units_are_those_of_the_code():
    cfg = Doge.Config.make({"preset": "published"})
    assert (cfg.units, cfg.scale, cfg.lr, cfg.steps, cfg.keep) == ("published", 1, 1e-4, 400, 0.3)
    taus = random(1, 4, 4)
    moved = Doge(Doge.Config(units="published", scale=1.0, steps=0)).solve(taus, [0.0])
    torch.testing.assert_close(moved.norm(), torch.tensor(0.07, dtype=torch.float64))


def test_a_task_vector_of_zeros_changes_nothing():
    taus, method = random(2, 6, 6), Doge(Doge.Config(units="published", scale=1.0, steps=10))
    still = torch.cat([taus, torch.zeros(1, 6, 6).double()])
    assert method.solve(0 * still, [0.0] * 3).abs().max() == 0
    assert method.solve(still, [0.0] * 3).isfinite().all()
