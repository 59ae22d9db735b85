"""Iso-C and Iso-CTS against NumPy's SVD; their spectrum; what is degenerate."""

import numpy as np
import pytest
import torch

from methods import METHODS
from methods.contract import TASKS, small_checkpoints
from methods.iso import common_and_specific, isotropic
from tests.helpers.counting_experts import counted
from tests.helpers.numpy_models import assert_moved, is_matrix, random


def iso_c(taus: list[np.ndarray]) -> np.ndarray:
    u, s, v = np.linalg.svd(np.sum(taus, axis=0), full_matrices=False)
    return s.mean() * u @ v


def iso_cts(taus: list[np.ndarray]) -> np.ndarray:
    """As the authors lay it out: slots of all triplets, each side whitened by an SVD."""
    places, count = min(taus[0].shape), len(taus)
    own = round((places - int(0.8 * places)) / count)
    common = places - own * count
    u, s, v = np.linalg.svd(np.sum(taus, axis=0), full_matrices=False)
    left, sizes, right = [], [], []
    for tau in taus:
        rest = tau - u[:, :common] @ u[:, :common].T @ tau
        parts = np.linalg.svd(rest, full_matrices=False)
        left.append(parts[0][:, :own])
        sizes.append(parts[1][:own])
        right.append(parts[2][:own])
    left, right = np.hstack([*left, u[:, :common]]), np.vstack([*right, v[:common]])
    sizes = np.concatenate([*sizes, s[:common]])
    white = [p @ q for p, _, q in (np.linalg.svd(m, full_matrices=False) for m in (left, right))]
    return sizes.mean() * white[0] @ white[1]


@pytest.mark.parametrize(("fn", "by_hand"), [(isotropic, iso_c), (common_and_specific, iso_cts)])
@pytest.mark.parametrize("shape", [(12, 12), (20, 12), (12, 30), (1, 5)])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_one_matrix_equals_numpy(fn, by_hand, shape, count):
    taus = random(count, *shape)
    np.testing.assert_allclose(fn(taus), by_hand(list(taus.numpy())), atol=1e-8)


@pytest.mark.parametrize(("name", "by_hand"), [("iso_c", iso_c), ("iso_cts", iso_cts)])
def test_a_model_equals_numpy(name, by_hand):
    ckpts, cls = small_checkpoints(), METHODS[name]
    got = cls(cls.Config(scale=0.7)).merge(ckpts)

    def rule(tensor: str, taus: list[np.ndarray]) -> np.ndarray:
        return 0.7 * (by_hand(taus) if is_matrix(tensor, taus) else np.mean(taus, axis=0))

    assert_moved(got, ckpts, rule)


@pytest.mark.parametrize("fn", [isotropic, common_and_specific])
def test_all_singular_values_are_alike(fn):
    taus = random(3, 15, 20)
    sizes = np.linalg.svd(fn(taus).numpy(), compute_uv=False)
    np.testing.assert_allclose(sizes, sizes[0], rtol=1e-8)


def test_the_size_of_iso_c_is_the_mean_singular_value_of_the_sum():
    taus = random(3, 15, 20)
    want = np.linalg.svd(taus.sum(0).numpy(), compute_uv=False).mean()
    np.testing.assert_allclose(np.linalg.norm(isotropic(taus), 2), want)


def test_directions_that_no_expert_has_stay_still():
    # rank 1 of 3: the mean singular value is a third of the one there is
    tau = torch.zeros(1, 3, 3, dtype=torch.float64)
    tau[0, 0, 1] = 6.0
    want = torch.zeros(3, 3, dtype=torch.float64)
    want[0, 1] = 2.0
    torch.testing.assert_close(isotropic(tau), want)
    assert isotropic(0 * tau).abs().max() == 0
    assert common_and_specific(0 * tau.expand(2, 3, 3)).abs().max() == 0


def test_without_room_for_tasks_iso_cts_is_iso_c():
    taus = random(3, 4, 4)  # round((4 - 3) / 3) = 0
    torch.testing.assert_close(common_and_specific(taus), isotropic(taus))


def test_reading_a_tensor_reads_no_other():
    ckpts, reads = counted(small_checkpoints())
    model = METHODS["iso_cts"]().merge(ckpts)
    model["proj"]
    assert reads == {(task, "proj"): 1 for task in TASKS}
