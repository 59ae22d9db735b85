"""TSV-M against NumPy, written from the paper's formula; and what is degenerate."""

import numpy as np
import pytest
import torch

from methods import METHODS, merge
from methods.common.spectral import polar, triplets
from methods.contract import TASKS, build, logits, small_checkpoints
from methods.tsv import TSV, tsv
from tests.helpers.counting_experts import counted


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_hand(taus: list[np.ndarray]) -> np.ndarray:
    """As the authors lay it out: a slot for every triplet, both sides whitened by an SVD each."""
    height, width = taus[0].shape
    least = min(height, width)
    rank = least // len(taus)
    u, s, v = np.zeros((height, least)), np.zeros(least), np.zeros((least, width))
    for i, tau in enumerate(taus):
        left, sizes, right = np.linalg.svd(tau, full_matrices=False)
        slot = slice(i * rank, (i + 1) * rank)
        u[:, slot], s[slot], v[slot] = left[:, :rank], sizes[:rank], right[:rank]
    white = [p @ q for p, _, q in (np.linalg.svd(side, full_matrices=False) for side in (u, v))]
    return white[0] @ np.diag(s) @ white[1]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("shape", [(9, 9), (12, 7), (7, 12), (5, 40)])
def test_one_matrix_equals_numpy(shape, count):
    taus = 0.1 * random(count, *shape)
    want = by_hand(list(taus.numpy()))
    np.testing.assert_allclose(tsv(taus), want, atol=1e-9)


@pytest.mark.parametrize("matrices", ["all", "blocks"])
@pytest.mark.parametrize("in_proj", ["fused", "split"])
def test_a_model_equals_numpy(in_proj, matrices):
    ckpts = small_checkpoints()
    cfg = TSV.Config(scale=0.7, in_proj=in_proj, matrices=matrices)
    got = TSV(cfg).merge(ckpts)
    taus = [{k: tau[k].double().numpy() for k in tau} for tau in ckpts.task_vectors]
    for name in ckpts.base:
        mine = [tau[name] for tau in taus]
        if mine[0].ndim != 2 or (matrices == "blocks" and "resblocks" not in name):
            moved = sum(mine) / 3
        elif in_proj == "split" and name.endswith("in_proj_weight"):
            thirds = [np.split(tau, 3) for tau in mine]
            moved = np.concatenate([by_hand([third[i] for third in thirds]) for i in range(3)])
        else:
            moved = by_hand(mine)
        want = ckpts.base[name].double().numpy() + 0.7 * moved
        np.testing.assert_allclose(got[name], want, rtol=0, atol=1e-5, err_msg=name)


def test_fused_and_split_differ():
    models = [TSV(TSV.Config(in_proj=how)).merge(small_checkpoints()) for how in ("fused", "split")]
    differ = [name for name in models[0] if not torch.equal(models[0][name], models[1][name])]
    assert differ == [f"transformer.resblocks.{i}.attn.in_proj_weight" for i in range(2)]


def test_reading_a_tensor_reads_no_other():
    ckpts, reads = counted(small_checkpoints())
    model = TSV().merge(ckpts)
    assert not reads
    for name in ("proj", "ln_pre.bias"):
        model[name]
        assert reads == {(task, name): 1 for task in TASKS}
        reads.clear()


# -- what is degenerate --------------------------------------------------------------------------


def test_one_expert_comes_out_whole():
    for shape in ((4, 6), (6, 4)):
        tau = random(1, *shape)
        torch.testing.assert_close(tsv(tau), tau[0])
        low = tau @ torch.diag(torch.tensor([1.0, 1, 0, 0, 0, 0][: shape[1]]).double())
        torch.testing.assert_close(tsv(low), low[0])


def test_a_task_vector_of_zeros_takes_no_part_but_its_share_of_the_rank():
    # of three the rank is 9 // 3 = 3; the third has nothing, so that the triplets of two are left
    taus = random(2, 9, 9)
    still = torch.zeros(1, 9, 9, dtype=torch.float64)
    u, s, v = zip(*(np.linalg.svd(tau.numpy()) for tau in taus), strict=True)
    left, right = np.hstack([m[:, :3] for m in u]), np.hstack([m[:3].T for m in v])
    sizes = np.diag(np.hstack([values[:3] for values in s]))
    want = whitened(left) @ sizes @ whitened(right).T
    for where in ([still, taus], [taus, still], [taus[:1], still, taus[1:]]):
        np.testing.assert_allclose(tsv(torch.cat(where)), want, atol=1e-9)
    assert tsv(torch.zeros(3, 4, 4)).abs().max() == 0


def whitened(matrix: np.ndarray) -> np.ndarray:
    """A (A^T A)^-1/2 of independent columns."""
    values, vectors = np.linalg.eigh(matrix.T @ matrix)
    return matrix @ vectors @ np.diag(values**-0.5) @ vectors.T


def test_rank_deficient_task_vectors_add_no_noise():
    # each of rank 1 with 9 // 2 = 4 places: the triplets are two, the empty places do not count
    a, b, c, d = random(4, 9).numpy()
    taus = torch.from_numpy(np.stack([np.outer(a, b), np.outer(c, d)]))
    left = whitened(np.stack([x / np.linalg.norm(x) for x in (a, c)], 1))
    right = whitened(np.stack([x / np.linalg.norm(x) for x in (b, d)], 1))
    sizes = np.diag([np.linalg.norm(a) * np.linalg.norm(b), np.linalg.norm(c) * np.linalg.norm(d)])
    np.testing.assert_allclose(tsv(taus), left @ sizes @ right.T, atol=1e-9)
    # the same in float32, whose round-off is not taken for a direction
    np.testing.assert_allclose(tsv(taus.float().double()), left @ sizes @ right.T, atol=1e-5)


def test_experts_that_are_the_same_give_one_of_them_at_low_rank():
    # [u u] is whitened to [u u] / sqrt(2), on both sides: s (1/2 + 1/2) u v^T
    tau = random(6, 8)
    u, s, v = np.linalg.svd(tau.numpy(), full_matrices=False)
    want = u[:, :3] * s[:3] @ v[:3]
    np.testing.assert_allclose(tsv(torch.stack([tau, tau])), want, atol=1e-9)


def test_more_experts_than_rows_keep_one_triplet_each():
    taus = random(5, 2, 8)
    assert tsv(taus).norm() > 0.1
    row = random(3, 1, 4)  # tau_t = s_t 1 v_t^T: the left side is [1 1 1] / sqrt(3)
    lengths = row[:, 0].norm(dim=1).numpy()
    want = lengths / 3**0.5 @ whitened(row[:, 0].T.numpy() / lengths).T
    np.testing.assert_allclose(tsv(row)[0], want, atol=1e-9)


def test_the_order_of_experts_does_not_matter():
    taus = random(4, 10, 6)
    torch.testing.assert_close(tsv(taus.flip(0)), tsv(taus))


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
def test_triplets_and_polar_are_those_of_an_svd(shape):
    matrix = random(*shape)
    left, sizes, right = triplets(matrix, 3)
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    torch.testing.assert_close(sizes, s[:3])
    torch.testing.assert_close(left * sizes @ right.T, u[:, :3] * s[:3] @ v[:3])
    torch.testing.assert_close(left.T @ left, torch.eye(3).double())
    torch.testing.assert_close(polar(matrix), u @ v)


# -- any model -----------------------------------------------------------------------------------


def test_names_of_other_models_are_merged_as_matrices_too():
    base = {"fc.weight": random(4, 6), "fc.bias": random(4), "conv": random(2, 3, 1, 1)}
    experts = [{k: v + 0.1 * random(*v.shape, seed=i) for k, v in base.items()} for i in (1, 2)]
    for cfg in ({}, {"matrices": "blocks"}, {"in_proj": "split"}):
        merged = merge("tsv", base, experts, **cfg)
        assert merged["fc.weight"].dtype == torch.float64
        taus = [(expert["fc.weight"] - base["fc.weight"]).numpy() for expert in experts]
        want = base["fc.weight"].numpy() + by_hand(taus)
        np.testing.assert_allclose(merged["fc.weight"], want, atol=1e-9)
        for name in ("fc.bias", "conv"):
            mean = (experts[0][name] + experts[1][name]) / 2
            torch.testing.assert_close(merged[name], mean)


def test_the_grid_is_the_authors_and_two_small_scales():
    grid = METHODS["tsv"].Config.grid["scale"]
    assert len(grid) == 32
    np.testing.assert_allclose(grid[2:], np.linspace(0, 3, 31)[1:])
    assert max(grid[:2]) < 0.1
    assert TSV().cfg.scale == 1


def test_no_scale_is_the_pretrained_model():
    ckpts = small_checkpoints()
    nothing = logits(build(TSV, ckpts, scale=0.0))
    base = logits(METHODS["pretrained"]().build(ckpts))
    assert all(torch.allclose(nothing[task], base[task], atol=1e-5) for task in TASKS)
