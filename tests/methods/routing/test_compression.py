"""What routed methods mix: differences to an anchor, whole and compressed."""

import numpy as np
import pytest
import torch

from methods.contract import TASKS, VIT, small_checkpoints
from methods.routing.compression import is_matrix, knowledge_of, largest, low_rank, num_numbers
from methods.routing.mixing import Factors, matrices

# A = 3 u1 v1' + 2 u2 v2' + 1 u3 v3' with orthonormal u and v:
#   u1 = (.6 .8 0)  u2 = (-.8 .6 0)  u3 = (0 0 1)
#   v1 = (0 .6 .8)  v2 = (1 0 0)     v3 = (0 -.8 .6)
# -1.6 = 2 * -.8 * 1; 1.08 = 3 * .6 * .6; 1.44 = 3 * .6 * .8; and so on
A = torch.tensor([[-1.6, 1.08, 1.44], [1.2, 1.44, 1.92], [0, -0.8, 0.6]])


def test_low_rank_by_hand():
    # int(.34 * 3) = 1: 3 u1 v1' is left
    left, right = low_rank(A, 0.34)
    assert left.shape == (3, 1)
    assert right.shape == (1, 3)
    want = torch.tensor([[0, 1.08, 1.44], [0, 1.44, 1.92], [0, 0, 0]])
    torch.testing.assert_close(left @ right, want, rtol=0, atol=1e-6)
    # int(.67 * 3) = 2: u3 v3' is missing; int(.3 * 3) = 0, but one is always kept
    left, right = low_rank(A, 0.67)
    want = A - torch.tensor([[0, 0, 0], [0, 0, 0], [0, -0.8, 0.6]])
    torch.testing.assert_close(left @ right, want, rtol=0, atol=1e-6)
    assert low_rank(A, 0.3).left.shape == (3, 1)


def test_largest_by_hand():
    # int(.34 * 9) = 3 of the entries: 1.92, -1.6, and both 1.44 tie
    want = torch.tensor([[-1.6, 0, 1.44], [0, 1.44, 1.92], [0, 0, 0]])
    assert torch.equal(largest(A, 0.34), want)
    assert torch.equal(largest(A, 1.0), A)
    assert torch.equal(largest(A, 0.01), torch.where(A == 1.92, A, 0))
    assert torch.equal(largest(torch.zeros(2, 2), 0.5), torch.zeros(2, 2))


def anchor_and_differences():
    """An anchor that is not the base, and NumPy's float64 differences to it."""
    ckpts = small_checkpoints()
    anchor = (ckpts.base + 0.1 * ckpts.task_vectors[0]).materialise()
    taus = {
        name: np.stack([e[name].double().numpy() for e in ckpts.experts.values()])
        - anchor[name].double().numpy()
        for name in anchor
    }
    return ckpts, anchor, taus


def test_dense_knowledge_is_the_difference():
    ckpts, anchor, taus = anchor_and_differences()
    found = knowledge_of(ckpts, anchor)
    assert list(found) == list(ckpts.base)
    for name, tensor in found.items():
        np.testing.assert_allclose(tensor, taus[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 1.0])
def test_svd_knowledge_equals_numpy(share):
    ckpts, anchor, taus = anchor_and_differences()
    found = knowledge_of(ckpts, anchor, "svd", share)
    for name, part in found.items():
        if not isinstance(part, Factors):
            np.testing.assert_allclose(part, taus[name], rtol=0, atol=1e-6)
            continue
        flat = taus[name].reshape(len(TASKS), taus[name].shape[1], -1)
        rank = max(1, int(share * min(flat.shape[1:])))
        assert part.left.shape == (3, flat.shape[1], rank)
        assert part.right.shape == (3, rank, flat.shape[2])
        u, s, vt = np.linalg.svd(flat, full_matrices=False)
        want = (u[..., :rank] * s[:, None, :rank]) @ vt[:, :rank]
        np.testing.assert_allclose(part.left @ part.right, want, rtol=0, atol=1e-5)


@pytest.mark.parametrize("share", [0.01, 0.2])
def test_magnitude_knowledge_equals_numpy(share):
    ckpts, anchor, taus = anchor_and_differences()
    found = knowledge_of(ckpts, anchor, "magnitude", share)
    for name, part in found.items():
        want = taus[name].copy()
        if is_matrix(name, anchor[name]):
            for tau in want:
                num_zero = tau.size - max(1, int(share * tau.size))
                tau.flat[np.argsort(np.abs(tau), axis=None)[:num_zero]] = 0
        np.testing.assert_allclose(part, want, rtol=0, atol=1e-6)


def test_only_matrices_are_compressed_and_the_rest_can_be_left_out():
    ckpts, anchor, _ = anchor_and_differences()
    found = knowledge_of(ckpts, anchor, "svd", 0.1)
    assert {name for name, part in found.items() if isinstance(part, Factors)} == {*matrices(VIT)}
    assert {*knowledge_of(ckpts, anchor, "svd", 0.1, others=False)} == {*matrices(VIT)}
    assert {*knowledge_of(ckpts, anchor, others=False)} == {*matrices(VIT)}


def test_numbers_to_be_stored():
    factors = Factors(torch.ones(2, 5, 1), torch.ones(2, 1, 3))
    whole = torch.tensor([[1.0, 0.0, 2.0], [0.0, 0.0, 3.0]])
    assert num_numbers({"a": factors, "b": whole}, "svd") == 10 + 6 + 6
    assert num_numbers({"b": whole}, "magnitude") == 3
