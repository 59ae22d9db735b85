"""WIDEN against NumPy; its identity, limits, and what is degenerate."""

import numpy as np
import pytest
import torch

from methods import merge
from methods.contract import small_checkpoints
from methods.widen import Widen, changes, scores
from tests.helpers.numpy_models import random


def score(values: np.ndarray, ratio: float, calibration: float) -> np.ndarray:
    found = np.exp(values) / np.exp(values).sum(0)
    for expert, mine in enumerate(values):
        found[expert][mine > ratio * mine.mean()] = calibration
    return found


def columns(base: np.ndarray, experts: list[np.ndarray], *rule: float) -> np.ndarray:
    """A matrix, column by column."""
    count, n = len(experts), base.shape[1]
    changed = np.zeros((2, count, n))
    for t, expert in enumerate(experts):
        for j in range(n):
            before, after = np.linalg.norm(base[:, j]), np.linalg.norm(expert[:, j])
            changed[0, t, j] = abs(after - before)
            changed[1, t, j] = 1 - base[:, j] @ expert[:, j] / (before * after)
    ranks = np.zeros_like(changed)
    for kind in range(2):
        for t in range(count):
            ranks[kind, t, np.argsort(changed[kind, t], kind="stable")] = np.arange(n) / n
    weights = (score(ranks[0], *rule) + score(ranks[1], *rule)) / 2
    return sum(w * (expert - base) for w, expert in zip(weights, experts, strict=True))


@pytest.mark.parametrize("in_proj", ["split", "fused"])
@pytest.mark.parametrize("rule", [(1.0, 1.0), (1.5, 0.8)])
def test_a_model_equals_numpy(in_proj, rule):
    ckpts = small_checkpoints()
    cfg = Widen.Config(ratio=rule[0], calibration=rule[1], scale=0.6, in_proj=in_proj)
    got = Widen(cfg).merge(ckpts)
    for name in ckpts.base:
        base = ckpts.base[name].double().numpy()
        experts = [expert[name].double().numpy() for expert in ckpts.experts.values()]
        if base.ndim == 1 or "embedding" in name:
            taus = np.stack([(expert - base).ravel() for expert in experts])
            moved = (score(np.abs(taus), *rule) * taus).sum(0).reshape(base.shape)
        elif name == "proj":
            moved = columns(base.T, [expert.T for expert in experts], *rule).T
        else:
            cuts = 3 if in_proj == "split" and "in_proj" in name else 1
            parts = [np.split(m.reshape(len(m), -1), cuts) for m in (base, *experts)]
            found = [columns(parts[0][i], [p[i] for p in parts[1:]], *rule) for i in range(cuts)]
            moved = np.concatenate(found).reshape(base.shape)
        np.testing.assert_allclose(got[name], base + 0.6 * moved, rtol=0, atol=1e-5, err_msg=name)


def test_one_expert_comes_out():
    base, expert = {"w": random(5, 4), "b": random(5)}, {"w": random(5, 4, seed=1), "b": random(5)}
    got = merge("widen", base, [expert])
    assert all((got[name] - expert[name]).abs().max() < 1e-12 for name in base)


def test_the_order_of_experts_does_not_matter():
    base = {"w": random(6, 9)}
    experts = [{"w": random(6, 9, seed=i)} for i in (1, 2, 3)]
    torch.testing.assert_close(merge("widen", base, experts), merge("widen", base, experts[::-1]))


def test_a_ratio_of_zero_calibrates_all_but_the_lowest_and_a_large_one_nothing():
    values = torch.tensor([[0.75, 0.5, 0.25, 0.0], [0.75, 0.5, 0.25, 0.0]])
    assert scores(values, 0.0, 1.0).tolist() == [[1, 1, 1, 0.5]] * 2
    assert scores(values, 100.0, 1.0).tolist() == [[0.5] * 4] * 2  # the average


def test_columns_of_zeros_have_no_direction():
    base = torch.zeros(2, 3, dtype=torch.float64)
    base[0, 0] = 1
    taus = torch.zeros(1, 2, 3, dtype=torch.float64)
    taus[0, 0, 0], taus[0, 1, 1] = -1, 2  # to zeros; from zeros; zeros before and after
    stretched, turned = changes(base, taus)
    assert stretched.tolist() == [[1, 2, 0]]
    assert turned.tolist() == [[1, 1, 0]]


def test_a_number_and_a_tensor_without_entries_are_merged_too():
    base = {"scale": torch.tensor(1.0), "none": torch.zeros(0, 3), "w": torch.eye(2)}
    experts = [{k: v + 1 for k, v in base.items()}, {k: v + 3 for k, v in base.items()}]
    got = merge("widen", base, experts, in_proj="fused")
    assert got["none"].shape == (0, 3)
    # |tau| 1 and 3, each its own mean, and so not above it: their softmax
    want = 1 + (np.e * 1 + np.e**3 * 3) / (np.e + np.e**3)
    assert got["scale"].item() == pytest.approx(want, rel=1e-6)
