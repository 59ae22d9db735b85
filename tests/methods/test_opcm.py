"""OPCM against NumPy, with whole bases as the authors have them; order, norm, degenerate cases."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from methods import merge
from methods.contract import TASKS, small_checkpoints
from methods.opcm import Opcm, project
from tests.helpers.numpy_models import random, task_vectors


def by_hand(merged: np.ndarray, tau: np.ndarray, alpha: float) -> np.ndarray:
    """In the whole basis of both sides."""
    left, sizes, right = np.linalg.svd(merged)
    block = int(np.argmax(np.cumsum(sizes) / sizes.sum() > alpha))
    inner = left.T @ tau @ right.T
    np.fill_diagonal(inner, 0)
    inner[:block, :block] = 0
    return left @ inner @ right


@pytest.mark.parametrize("shape", [(6, 6), (9, 5), (5, 9)])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 0.9])
def test_one_matrix_equals_numpy(shape, alpha):
    merged, tau = random(*shape), random(*shape, seed=1)
    want = by_hand(merged.numpy(), tau.numpy(), alpha)
    np.testing.assert_allclose(project(merged, tau, alpha), want, atol=1e-9)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_model_equals_numpy(seed):
    ckpts = small_checkpoints()
    method = Opcm(Opcm.Config(alpha=0.4, scale=0.9), seed)
    got, taus = method.merge(ckpts), task_vectors(ckpts)
    order = [list(TASKS).index(task) for task in method.order(list(TASKS))]
    merged = {name: 0 * mine[0] for name, mine in taus.items()}
    factor, norms = 1.0, []
    for place in order:
        for name, mine in taus.items():
            tau = mine[place]
            if norms and tau.ndim == 2 and "resblocks" in name:
                cuts = 3 if "in_proj" in name else 1
                pairs = zip(np.split(merged[name], cuts), np.split(tau, cuts), strict=True)
                tau = np.concatenate([by_hand(m, t, 0.4) for m, t in pairs])
            merged[name] = factor * merged[name] + tau
        norms.append(np.sqrt(sum((mine[place] ** 2).sum() for mine in taus.values())))
        factor = np.sqrt(sum((m**2).sum() for m in merged.values())) / np.mean(norms)
        merged = {name: m / factor for name, m in merged.items()}
    for name, moved in merged.items():
        want = ckpts.base[name].double().numpy() + 0.9 * moved
        np.testing.assert_allclose(got[name], want, rtol=0, atol=1e-5, err_msg=name)


def test_what_is_added_is_orthogonal_to_what_is_there():
    merged, tau = random(6, 6), random(6, 6, seed=1)
    added = project(merged, tau, 0.5)
    assert abs((added * merged).sum()) < 1e-9
    left, _, right = torch.linalg.svd(merged)
    assert (left.T @ added @ right.T).diagonal().abs().max() < 1e-9


def test_the_order_is_the_seeds_and_not_the_suites():
    tasks = ["e", "d", "c", "b", "a"]
    orders = [Opcm(seed=seed).order(tasks) for seed in range(6)]
    assert all(sorted(order) == sorted(tasks) for order in orders)
    assert len({tuple(order) for order in orders}) > 1
    assert Opcm(seed=3).order(sorted(tasks)) == orders[3]
    assert Opcm().depends_on_seed


def test_the_norm_is_the_mean_norm_of_the_task_vectors():
    ckpts = small_checkpoints()
    moved = Opcm().merge(ckpts) - ckpts.base
    norms = [tau.flat().norm() for tau in ckpts.task_vectors]
    torch.testing.assert_close(moved.flat().norm(), torch.stack(norms).mean(), rtol=1e-4, atol=0)


def test_float64_stays():
    base = {"w": torch.zeros(3, 3).double()}
    experts = [{"w": random(3, 3, seed=i)} for i in (1, 2)]
    assert merge("opcm", base, experts)["w"].dtype == torch.float64


def test_one_expert_and_experts_that_never_moved():
    ckpts = small_checkpoints()
    alone = replace(ckpts, experts={"two": ckpts.experts["two"]})
    want = ckpts.experts["two"].flat()
    torch.testing.assert_close(Opcm().merge(alone).flat(), want, atol=1e-6, rtol=0)
    still = replace(ckpts, experts=dict.fromkeys(TASKS, ckpts.base))
    assert torch.equal(Opcm().merge(still).flat(), ckpts.base.flat())


def test_at_one_the_whole_block_goes_and_no_direction_is_made_up():
    merged, tau = random(6, 4), random(6, 4, seed=1)
    added = project(merged, tau, 1.0)
    assert (merged.T @ added).abs().max() < 1e-9  # nothing is left in the span of the outputs
    low = torch.outer(merged[:, 0], merged[0])
    taken = tau - project(low, tau, 0.5)
    sizes = torch.linalg.svdvals(taken)
    assert sizes[0] > 0.01
    assert sizes[1] < 1e-9
    assert torch.equal(project(0 * tau, tau, 0.5), tau)
