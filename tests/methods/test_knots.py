"""KnOTS against NumPy; its limits, Task Arithmetic and a lone expert."""

import numpy as np
import pytest
import torch

from methods.contract import small_checkpoints
from methods.knots import Knots, outputs
from tests.helpers.numpy_models import assert_moved, is_matrix, random


def by_hand(taus: list[np.ndarray], keep: float) -> np.ndarray:
    """By the SVD of the task vectors side by side."""
    u, s, v = np.linalg.svd(np.hstack(taus), full_matrices=False)
    seen = s > 1e-6 * s[0]
    parts = np.split(s[seen, None] * v[seen], len(taus), axis=1)
    stack = []
    for part in parts:
        bound = np.sort(np.abs(part).ravel())[-max(1, int(keep * part.size))]
        stack.append(part * (np.abs(part) >= bound))
    stack = np.stack(stack)
    agree = (np.sign(stack) == np.sign(stack.sum(0))) & (stack != 0)
    return u[:, seen] @ ((stack * agree).sum(0) / np.maximum(agree.sum(0), 1))


@pytest.mark.parametrize("keep", [0.2, 1.0])
def test_a_model_equals_numpy(keep):
    ckpts = small_checkpoints()
    got = Knots(Knots.Config(keep=keep, scale=0.7)).merge(ckpts)

    def rule(name: str, taus: list[np.ndarray]) -> np.ndarray:
        if not is_matrix(name, taus):
            return 0.7 * np.mean(taus, axis=0)
        parts = zip(*(np.split(tau, 3 if "in_proj" in name else 1) for tau in taus), strict=True)
        return 0.7 * np.concatenate([by_hand(list(part), keep) for part in parts])

    assert_moved(got, ckpts, rule)


def test_summed_it_is_task_arithmetic_on_matrices():
    taus = random(3, 8, 5)
    found = Knots(Knots.Config(merge="sum")).merge_matrix(taus)
    torch.testing.assert_close(found, taus.sum(0))


def test_one_expert_comes_out_and_none_stays():
    tau, whole = random(1, 6, 9), Knots(Knots.Config(keep=1.0))
    torch.testing.assert_close(whole.merge_matrix(tau), tau[0])
    low = torch.outer(tau[0, :, 0], tau[0, 0])[None]
    torch.testing.assert_close(whole.merge_matrix(low), low[0])
    assert whole.merge_matrix(0 * tau).abs().max() == 0


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (20, 3)])
def test_the_basis_spans_the_outputs(shape):
    taus = random(3, *shape)
    basis = outputs(taus)
    assert basis.shape == (shape[0], min(shape[0], 3 * shape[1]))
    torch.testing.assert_close(basis @ (basis.T @ taus), taus)


def test_signs_of_the_basis_do_not_matter(monkeypatch):
    # TIES elects one sign for each entry: turning a direction turns all of them
    taus, method = random(3, 6, 6), Knots(Knots.Config(keep=0.3))
    found, signs = method.merge_matrix(taus), random(6, seed=1).sign()
    assert 0 < (signs > 0).sum() < 6
    monkeypatch.setattr("methods.knots.outputs", lambda taus: outputs(taus) * signs)
    torch.testing.assert_close(method.merge_matrix(taus), found)
