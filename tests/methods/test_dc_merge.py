"""DC-Merge against NumPy; its identity; what is degenerate."""

import numpy as np
import pytest
import torch

from methods.contract import small_checkpoints
from methods.dc_merge import DCMerge, largest_entries, merge_in_cover
from methods.tsv import tsv
from tests.helpers.numpy_models import assert_moved, is_matrix, random


def by_hand(taus: list[np.ndarray], share: float) -> np.ndarray:
    """Written from the paper's steps, with SVDs."""
    count, rank = len(taus), min(taus[0].shape) // len(taus)
    parts = [np.linalg.svd(tau, full_matrices=False) for tau in taus]
    low = [u[:, :rank] * s[:rank] @ v[:rank] for u, s, v in parts]
    sides = np.hstack([u[:, :rank] for u, _, _ in parts]), np.vstack([v[:rank] for *_, v in parts])
    outer, inner = (p @ q for p, _, q in (np.linalg.svd(m, full_matrices=False) for m in sides))
    turned = []
    for tau in low:
        matrix = outer.T @ tau @ inner.T
        kept = min(max(1, int(share * min(taus[0].shape) ** 2)), matrix.size)
        bound = np.sort(np.abs(matrix).ravel())[-kept]
        turned.append(matrix * (np.abs(matrix) >= bound))
    stack = np.stack(turned)
    agree = (np.sign(stack) == np.sign(stack.sum(0))) & (stack != 0)
    merged = (stack * agree).sum(0) / np.maximum(agree.sum(0), 1)
    mask = np.kron(np.eye(count), np.ones((rank, rank)))
    return outer @ (merged * mask) @ inner


@pytest.mark.parametrize("share", [0.001, 0.1, 1.0])
@pytest.mark.parametrize("shape", [(12, 12), (20, 11), (9, 30)])
@pytest.mark.parametrize("count", [1, 3])
def test_one_matrix_equals_numpy(share, shape, count):
    taus = random(count, *shape)
    want = by_hand(list(taus.numpy()), share)
    np.testing.assert_allclose(merge_in_cover(taus, share), want, atol=1e-9)


def test_a_model_equals_numpy():
    ckpts = small_checkpoints()
    got = DCMerge(DCMerge.Config(share=0.05, scale=0.7)).merge(ckpts)

    def rule(name: str, taus: list[np.ndarray]) -> np.ndarray:
        return 0.7 * (by_hand(taus, 0.05) if is_matrix(name, taus) else np.mean(taus, axis=0))

    assert_moved(got, ckpts, rule)


def test_a_lone_expert_keeps_a_thousandth_unless_all_is_kept():
    tau = random(1, 40, 40)
    torch.testing.assert_close(merge_in_cover(tau, 1.0), tau[0])
    sizes = torch.linalg.svdvals(merge_in_cover(tau, 0.001))
    torch.testing.assert_close(sizes[0], torch.linalg.svdvals(tau[0])[0])
    assert sizes[1] < 1e-9  # one of 1,600 entries: the largest triplet


def test_so_many_of_the_largest_entries():
    kept = [(largest_entries(random(6, 6), count) != 0).sum().item() for count in (0, 9, 36, 99)]
    assert kept == [1, 9, 36, 36]


def test_orthogonal_experts_are_merged_as_tsv_merges_them():
    taus = torch.zeros(2, 4, 4, dtype=torch.float64)
    taus[0, :2, :2], taus[1, 2:, 2:] = random(2, 2), random(2, 2, seed=1)
    torch.testing.assert_close(merge_in_cover(taus, 1.0), tsv(taus))


def test_more_experts_than_rows_and_none_that_moved():
    assert merge_in_cover(random(5, 3, 8), 0.5).isfinite().all()
    assert merge_in_cover(torch.zeros(3, 4, 4).double(), 0.5).abs().max() == 0
