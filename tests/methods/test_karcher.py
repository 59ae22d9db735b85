"""The Karcher mean: SLERP's middle for two, the condition for the minimum, what is degenerate."""

import numpy as np
import pytest
import torch

from methods import METHODS, merge
from methods.contract import small_checkpoints
from methods.karcher import Karcher, karcher_mean
from tests.helpers.numpy_models import assert_moved, random


def slerp(a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
    """Shoemake's formula, of unit vectors."""
    angle = np.arccos(np.clip((a * b).sum(), -1, 1))
    return (np.sin((1 - share) * angle) * a + np.sin(share * angle) * b) / np.sin(angle)


def unit(array: np.ndarray) -> np.ndarray:
    return array / np.linalg.norm(array)


def descended(units: np.ndarray) -> np.ndarray:
    """The mean by gradient descent on the sphere, on all entries."""
    mean = unit(units.mean(0))
    for _ in range(200):
        cosines = units @ mean
        angles = np.arccos(np.clip(cosines, -1, 1))
        size = np.where(angles > 1e-6, angles / np.sin(angles.clip(1e-6)), 1)
        logs = size[:, None] * (units - cosines[:, None] * mean)
        mean = unit(mean + 0.5 * logs.mean(0))
    return mean


def test_of_two_it_is_slerp_at_the_middle():
    a, b = random(2, 6, 4).numpy()
    want = slerp(unit(a), unit(b), 0.5) * (np.linalg.norm(a) + np.linalg.norm(b)) / 2
    np.testing.assert_allclose(karcher_mean(torch.from_numpy(np.stack([a, b]))), want, atol=1e-12)


@pytest.mark.parametrize("of", ["task_vectors", "weights"])
def test_a_model_equals_numpy(of):
    ckpts = small_checkpoints()
    got = Karcher(Karcher.Config(of=of, scale=0.8)).merge(ckpts)

    def rule(name: str, taus: list[np.ndarray]) -> np.ndarray:
        base = ckpts.base[name].double().numpy()
        moved = [tau.ravel() + (base.ravel() if of == "weights" else 0) for tau in taus]
        lengths = [np.linalg.norm(one) for one in moved]
        if not any(lengths):
            return 0 * base
        mean = descended(np.stack([unit(one) for one in moved])) * np.mean(lengths)
        return 0.8 * (mean.reshape(base.shape) - (base if of == "weights" else 0))

    assert_moved(got, ckpts, rule)


def test_the_logarithms_at_the_mean_sum_to_zero():
    tensors = random(5, 40) + 0.5
    mean = karcher_mean(tensors).numpy()
    units, centre = np.stack([unit(one) for one in tensors.numpy()]), unit(mean)
    angles = np.arccos(units @ centre)
    logs = (angles / np.sin(angles))[:, None] * (units - np.cos(angles)[:, None] * centre)
    np.testing.assert_allclose(logs.sum(0), 0, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(mean), tensors.norm(dim=1).mean(), rtol=1e-12)


def test_of_weights_it_hardly_differs_from_the_average():
    base = {"w": 10 * random(50)}
    experts = [{"w": base["w"] + 0.01 * random(50, seed=i)} for i in (1, 2, 3)]
    average = merge("average", base, experts)["w"]
    got = merge("karcher", base, experts, of="weights")["w"]
    assert (got - average).abs().max() < 1e-4 * (average - base["w"]).abs().max() + 1e-5


def test_one_and_equal_and_proportional_experts():
    tau = random(1, 7)
    torch.testing.assert_close(karcher_mean(tau), tau[0])
    torch.testing.assert_close(karcher_mean(torch.cat([tau, 3 * tau])), 2 * tau[0])


def test_a_task_vector_of_zeros_has_no_direction_but_a_length():
    tau = random(1, 7)
    torch.testing.assert_close(karcher_mean(torch.cat([tau, 0 * tau])), tau[0] / 2)
    assert karcher_mean(0 * tau).abs().max() == 0


def test_opposites_have_no_mean():
    tau = random(1, 7)
    assert karcher_mean(torch.cat([tau, -tau])).abs().max() == 0
    got = karcher_mean(torch.cat([tau, tau, -tau]))  # the opposite of the mean pulls nowhere
    torch.testing.assert_close(got, tau[0])


def test_it_keeps_the_length_that_averaging_loses():
    ckpts = small_checkpoints()
    got = Karcher(Karcher.Config(scale=0.5)).merge(ckpts) - ckpts.base
    average = METHODS["average"]().merge(ckpts) - ckpts.base
    for name in ckpts.base:
        length = torch.stack([tau[name].norm() for tau in ckpts.task_vectors]).mean()
        torch.testing.assert_close(got[name].norm(), 0.5 * length, rtol=1e-4, atol=1e-6)
        assert average[name].norm() <= length * (1 + 1e-6), name
    assert average.flat().norm() < 0.9 * 2 * got.flat().norm()
