"""DO-Merging: lengths and directions, the factors' orthogonality, and its limits."""

import numpy as np
import pytest
import torch

from methods.contract import small_checkpoints
from methods.do_merging import DOMerging, decoupled_mean, orthogonalise
from tests.helpers.numpy_models import assert_moved, is_matrix, random


def by_hand(taus: list[np.ndarray]) -> np.ndarray:
    lengths = [np.linalg.norm(tau, axis=0) for tau in taus]
    summed = sum(tau / length for tau, length in zip(taus, lengths, strict=True))
    return np.mean(lengths, axis=0) * summed / np.linalg.norm(summed, axis=0)


def cut(tau: np.ndarray, rank: int) -> np.ndarray:
    u, s, v = np.linalg.svd(tau, full_matrices=False)
    return u[:, :rank] * s[:rank] @ v[:rank]


@pytest.mark.parametrize("rank", [3, 1000])
def test_a_model_without_orthogonalisation_equals_numpy(rank):
    ckpts = small_checkpoints()
    got = DOMerging(DOMerging.Config(rank=rank, steps=0, scale=0.7)).merge(ckpts)

    def rule(name: str, taus: list[np.ndarray]) -> np.ndarray:
        if not is_matrix(name, taus):
            return 0.7 * np.mean(taus, axis=0)
        return 0.7 * by_hand([cut(tau, rank) for tau in taus])

    assert_moved(got, ckpts, rule)


def descended(factors: np.ndarray, gamma: float, lr: float, steps: int) -> np.ndarray:
    """Adam on the loss pair by pair."""
    count, rank, width = factors.shape
    norms = np.linalg.norm(factors.reshape(count, -1), axis=1)[:, None, None]
    units, delta = factors / norms, np.zeros_like(factors)
    mean, square = np.zeros_like(delta), np.zeros_like(delta)
    for step in range(1, steps + 1):
        moved, gradient = units + delta, 2 * gamma * delta
        for i in range(count):
            for j in range(count):
                if i != j:  # ||A_i A_j^T||^2, and once more as ||A_j A_i^T||^2
                    gradient[i] += 4 * moved[i] @ moved[j].T @ moved[j]
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        unbiased = mean / (1 - 0.9**step), square / (1 - 0.999**step)
        delta = delta - lr / np.sqrt(rank * width) * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8)
    return (units + delta) * norms


@pytest.mark.parametrize("gamma", [0.0, 1.0])
def test_orthogonalisation_equals_numpy(gamma):
    factors = random(3, 4, 10)
    want = descended(factors.numpy(), gamma, 0.01, 60)
    np.testing.assert_allclose(orthogonalise(factors, gamma, 0.01, 60), want, atol=1e-8)


def test_factors_come_nearer_to_orthogonal_and_a_strong_gamma_holds_them():
    factors = random(2, 3, 10)
    overlap = [
        (x[0] @ x[1].T).norm() for x in (orthogonalise(factors, 0.0, 0.02, s) for s in (0, 50, 300))
    ]
    assert overlap[0] > overlap[1] > overlap[2]
    assert overlap[2] < 0.2 * overlap[0]
    free, held = (
        (orthogonalise(factors, gamma, 0.01, 100) - factors).norm() for gamma in (0.0, 1e6)
    )
    assert held < 0.05 * free


def test_orthogonal_factors_stay():
    factors = torch.eye(6, dtype=torch.float64).view(2, 3, 6)
    torch.testing.assert_close(orthogonalise(factors, 1.0, 0.1, 50), factors)
    alone = random(1, 3, 6)
    torch.testing.assert_close(orthogonalise(alone, 1.0, 0.1, 50), alone)


def test_equal_and_proportional_experts():
    tau = random(1, 5, 4)
    torch.testing.assert_close(decoupled_mean(tau.expand(3, 5, 4)), tau[0])
    torch.testing.assert_close(decoupled_mean(torch.cat([tau, 5 * tau])), 3 * tau[0])


def test_columns_have_the_mean_length_unless_directions_cancel():
    taus = random(3, 5, 4)
    torch.testing.assert_close(decoupled_mean(taus).norm(dim=0), taus.norm(dim=1).mean(0))
    opposite = torch.cat([taus[:1], -2 * taus[:1]])
    assert decoupled_mean(opposite).abs().max() == 0
    still = torch.cat([taus[:1], 0 * taus[:1]])  # no direction, but a length
    torch.testing.assert_close(decoupled_mean(still), taus[0] / 2)
