"""Each method against numbers worked out by hand from its paper. One case per method, at least."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from methods import METHODS, Checkpoints
from methods.common.weights import Weights
from methods.ties import kth_largest


def golden(method: str, base: Sequence, experts: Sequence[Sequence], want: Sequence, **config):
    settings = "-".join(f"{k}={v}" for k, v in config.items())
    return pytest.param(method, base, experts, want, config, id=f"{method}-{settings}")


# Two task vectors for TIES. Of four entries each keeps three at keep = 0.75:
#   [3, -1, 2, 0.1] -> [3, -1,  2, 0]      sum      [4, 1, 0, 0]
#   [1, 2, -2, 0.2] -> [1,  2, -2, 0]      elected  [+, +, 0, 0]
# so that {3, 1} agree in the first place, {2} in the second, and none in the others.
TAUS = [[3, -1, 2, 0.1], [1, 2, -2, 0.2]]

GOLDEN = [
    golden("pretrained", [1, 2], [[5, 6], [7, 8]], [1, 2]),
    golden("individual", [1, 2], [[5, 6], [7, 8]], [[5, 6], [7, 8]]),
    # (2 + 0) / 2, (0 + 4) / 2: the base does not count
    golden("average", [9, 9], [[2, 0], [0, 4]], [1, 2]),
    # 1 + 0.5 * ((3 - 1) + (1 - 1)), 1 + 0.5 * ((1 - 1) + (5 - 1))
    golden("task_arithmetic", [1, 1], [[3, 1], [1, 5]], [2, 3], scale=0.5),
    # at 1/K it is the average: 1 + ((3 - 1) + (1 - 1)) / 2 = (3 + 1) / 2
    golden("task_arithmetic", [1, 1], [[3, 1], [1, 5]], [2, 3], scale=1 / 2),
    # (3 + 1) / 2, 2 / 1, 0, 0
    golden("ties", [0] * 4, TAUS, [2, 2, 0, 0], keep=0.75),
    # 1 + 0.5 * (3 + 1), 1 + 0.5 * 2, 1, 1: the experts are the base, 1, plus the task vectors
    golden("ties", [1] * 4, [[t + 1 for t in tau] for tau in TAUS], [3, 2, 1, 1],
           keep=0.75, merge="sum", scale=0.5),
    # the elected signs are + + 0 0, the majority is +: 2 agrees in the third, 0 never agrees
    golden("ties", [0] * 4, TAUS, [2, 2, 2, 0], keep=0.75, zero_sign="majority"),
    # two of four: the second largest of [1 1 1 5] is 1, and all that tie with it stay; of the other
    # -6 and a zero. elected: + + + -
    golden("ties", [0] * 4, [[1, 1, 1, 5], [0, 0, 0, -6]], [1, 1, 1, -6], keep=0.5),
    # round(0.01 * 4) is none, but one is always kept
    golden("ties", [0] * 4, [[1, -2, 0, 0], [3, 1, 0, 0]], [3, -2, 0, 0], keep=0.01),
    # everything kept, 5 - 6 + 2 > 0: the mean of 5 and 2
    golden("ties", [0], [[5], [-6], [2]], [3.5], keep=1.0),
    # what knowledge is mixed onto: theta_0; and the shared expert, by task arithmetic as above
    golden("oracle_router", [1, 1], [[3, 1], [1, 5]], [1, 1]),
    golden("twin_merging", [1, 1], [[3, 1], [1, 5]], [2, 3], scale=0.5),
    # every expert as it is: see test_twin.py for the mean of their answers
    golden("logit_ensemble", [1, 2], [[5, 6], [7, 8]], [[5, 6], [7, 8]]),
    # tau are diag(3, 1) and diag(1, 2), of rank 2 // 2 = 1 each: 3 e_1 e_1^T and 2 e_2 e_2^T, whose
    # sides are orthogonal; 1 + 0.5 * 3 and 1 + 0.5 * 2
    golden("tsv", [[1, 0], [0, 1]], [[[4, 0], [0, 2]], [[2, 0], [0, 3]]], [[2.5, 0], [0, 2]],
           scale=0.5),
    # diag(3, 1) and diag(2, 1): both sides are [e_1 e_1], whitened [e_1 e_1] / sqrt(2);
    # (3 + 2) / 2
    golden("tsv", [[0, 0], [0, 0]], [[[3, 0], [0, 1]], [[2, 0], [0, 1]]], [[2.5, 0], [0, 0]]),
    # no matrix: 1 + 0.5 * ((3 - 1) + (1 - 1)) / 2, 1 + 0.5 * ((1 - 1) + (5 - 1)) / 2
    golden("tsv", [1, 1], [[3, 1], [1, 5]], [1.5, 2], scale=0.5),
    # tau = 1 + 2 = 3 at first, where the gradient is 2 ((3 - 1) + (3 - 2)) = 6: Adam's first step
    # is lr, downwards, whatever the size of the gradient; 3 - 0.5, and relative to 3, 3 - 0.1 * 3
    golden("wudi", [[0]], [[[1]], [[2]]], [[2.5]], step_size="published", lr=0.5, steps=1),
    golden("wudi", [[1]], [[[2]], [[3]]], [[3.7]], lr_rel=0.1, steps=1),
    # no matrix: as the pretrained model has it, or the mean
    golden("wudi", [1, 1], [[3, 1], [1, 5]], [1, 1]),
    golden("wudi", [1, 1], [[3, 1], [1, 5]], [2, 3], others="mean"),
    # tau are [2 0] and [0 4], W_A = 0.3 of their sum = [0.6 1.2]; of trace 2, in = 2, the Grams are
    # diag(2, 0) and diag(0, 2), their mean is 1; the pull is ([1.4 0] 2 + [0 2.8] 2) / 2 =
    # [1.4 2.8], and M = W_A + [1.4 2.8] / (1 + alpha), alpha = 1
    golden("bmm_datafree", [[0, 0]], [[[2, 0]], [[0, 4]]], [[1.3, 2.6]], anchor="ta", alpha=1),
    # with traces of 1 their mean is 1/2, as is the pull: M = W_A + [0.7 1.4] / (0.5 + 0.5)
    golden("bmm_datafree", [[0, 0]], [[[2, 0]], [[0, 4]]], [[1.3, 2.6]], anchor="ta", alpha=0.5,
           normalise="frobenius"),
    # half of the way from W_0, and from W_A
    golden("bmm_datafree", [[0, 0]], [[[2, 0]], [[0, 4]]], [[0.65, 1.3]], anchor="ta", alpha=1,
           scale=0.5),
    golden("bmm_datafree", [[0, 0]], [[[2, 0]], [[0, 4]]], [[0.95, 1.9]], anchor="ta", alpha=1,
           scale=0.5, assembly="anchor"),
    # no matrix: 1 + 0.3 * 2, 1 + 0.3 * 4
    golden("bmm_datafree", [1, 1], [[3, 1], [1, 5]], [1.6, 2.2], anchor="ta"),
    # W_A = 1 + 0.3 * (2 + 4), 1 + 0.5 * 1.8; what is no matrix is not scaled
    golden("anchor_scales", [[1]], [[[3]], [[5]]], [[1.9]], anchor="ta", scale=0.5),
    golden("anchor_scales", [1, 1], [[3, 1], [1, 5]], [1.6, 2.2], anchor="ta", scale=0.5),
    # nothing dropped: Task Arithmetic, as above; test_dare.py has the chance
    golden("dare", [1, 1], [[3, 1], [1, 5]], [2, 3], on="ta", drop=0, scale=0.5),
    golden("dare", [1, 1], [[3, 1], [1, 5]], [2, 3], on="average", drop=0),
    # a fifth of four entries is one, 3; of the other 2 and -2, which tie
    golden("dare", [0] * 4, TAUS, [3, 2, -2, 0], on="ties", drop=0),
    # 3 of {3, 1}, -2 of {-1, -2}; 2 and -2 cancel; 1 + 0.5 * each
    golden("magmax", [1, 1, 1], [[4, 0, 3], [2, -1, -1]], [2.5, 0, 1], scale=0.5),
    # tau are diag(3, 1) and diag(1, 2): of their sum, diag(4, 3), the mean singular value is 3.5
    golden("iso_c", [[1, 0], [0, 1]], [[[4, 0], [0, 2]], [[2, 0], [0, 3]]], [[4.5, 0], [0, 4.5]]),
    # round((3 - int(2.4)) / 1) = 1 of three is the task's own: e_3 of diag(3, 2, 1), which lies
    # outside of the common e_1 and e_2; the mean of 3, 2 and 1
    golden("iso_cts", np.zeros((3, 3)), [np.diag([3, 2, 1])], 2 * np.eye(3)),
    # round((10 - 8) / 2) = 1 each: e_9 of the first, e_10 of the second beside the common
    # e_1 .. e_8 of the sum; the mean of 8 .. 1, 0.5 and 0.4 is 3.69
    golden("iso_cts", np.zeros((10, 10)),
           [np.diag([8, 7, 6, 5, 4, 3, 2, 1, 0.5, 0]), np.diag([0] * 9 + [0.4])],
           3.69 * np.eye(10)),
    # no block: alpha alone, ||tau_1 + tau_2||_1 / (2 ||tau||_1), 1 / 2 for the sum itself
    golden("lines", [1, 1], [[3, 1], [1, 5]], [2, 3], on="ta", beta=0.7),
    # the mean is half of the sum: alpha is 1
    golden("lines", [1, 1], [[3, 1], [1, 5]], [2, 3], on="average"),
    # tau = [4 -3 2], tau - tau_1 = [1 -4 2], tau - tau_2 = [3 1 0]; at 0.2 the first has a use for
    # 3 > 0.2 and 1 > 0.8, not for 0; the second for 1 > 0.6, 4 > 0.2 and 2 > 0
    golden("consensus_ta", [0, 0, 0], [[3, 1, 0], [1, -4, 2]], [4, -3, 0], threshold=0.2, scale=1),
    # TIES keeps 3 + 1, -4 and 2; then the first has a use for 3 > 0.2, not for 1 = 0.2 * 5
    golden("consensus_ties", [0, 0, 0], [[3, 1, 0], [1, -4, 2]], [4, 0, 0], threshold=0.2, scale=1,
           keep=1),
    # the middle of two directions at a right angle, as long as each: 2 (1, 1) / sqrt(2); 2 and 4
    # have the mean length 3
    golden("karcher", [1, 1], [[3, 1], [1, 3]], [1 + 2**0.5, 1 + 2**0.5]),
    golden("karcher", [0, 0], [[2, 0], [0, 4]], [4.5**0.5, 4.5**0.5]),
    # half of the way from 1 to each
    golden("wise_ft", [1, 1], [[3, 1], [1, 5]], [[2, 1], [1, 3]], share=0.5),
    # norms 1 and 2, the unit is their mean 1.5: lambda are 0.5 * 1.5 and 0.5 * 0.75
    golden("doge", [[0]], [[[1]], [[2]]], [[1.5]], scale=0.5, steps=0, keep=1),
    # in units of the sum, 3: tau are 1/3 and 2/3, lambda . tau is 1/2, the row sums
    # 1/3 (1/3 - 1/2) and 2/3 (2/3 - 1/2); 1/3 of the first and 2/3 of the second are > 0, so that
    # Adam's first step is up: delta = 0.1 * 3, and 0.75 * 1.3 + 0.375 * 2.3
    golden("doge", [[0]], [[[1]], [[2]]], [[1.8375]], scale=0.5, steps=1, lr_rel=0.1, keep=1),
    # no matrix: as the pretrained model has it
    golden("doge", [1, 1], [[3, 1], [1, 5]], [1, 1]),
    # no matrix: D = [3 4] of norm 5 in any order, brought to (3 + 4) / 2
    golden("opcm", [0, 0], [[3, 0], [0, 4]], [2.1, 2.8]),
    golden("opcm", [1, 1], [[4, 1], [1, 5]], [5.2, 6.6], scale=2),
    # as for TSV-M: of rank 1 each, the sides are orthogonal; each M_t has one entry that counts
    golden("dc_merge", [[1, 0], [0, 1]], [[[4, 0], [0, 2]], [[2, 0], [0, 3]]], [[2.5, 0], [0, 2]],
           scale=0.5),
    # columns (1, 1) and (0, 1) of the first: norms 1 -> 1.41 and 1, turned and not, so that its
    # ranks are 1/2 and 0; of the second 0 and 1/2. Ranks above the mean 1/4 count whole, and what
    # else there is was not moved
    golden("widen", [[1, 0], [0, 1]], [[[1, 0], [1, 1]], [[1, 0], [0, 3]]], [[1, 0], [1, 3]],
           in_proj="fused"),
    # |tau| are (2, 1) and (1, 1), means 1.5 and 1: 2 counts whole, 1 of the second not more than
    # its mean; the softmax of 2 and 1 is 0.7311, 0.2689, of 1 and 1 a half
    golden("widen", [0, 0], [[2, 1], [1, 1]], [2.268941, 1.0]),
    # columns alike but for their lengths: W_2 = 5 W_1 gives 3 W_1
    golden("do_merging", [[0, 0], [0, 0]], [[[1, 0], [1, 2]], [[5, 0], [5, 10]]], [[3, 0], [3, 6]],
           steps=0),
    # directions (1, 0) and (0, 1), lengths 3 and 1: the mean 2 along (1, 1) / sqrt(2)
    golden("do_merging", [[0], [0]], [[[3], [0]], [[0], [1]]], [[2**0.5], [2**0.5]],
           steps=0),
    # the outputs' basis is that of diag(10, 5), e_1 and e_2: TIES of the task vectors, 2 and 1.5;
    # and of a quarter of the entries, 3 and 2
    golden("knots", [[0, 0], [0, 0]], [[[3, 0], [0, 1]], [[1, 0], [0, 2]]], [[2, 0], [0, 1.5]],
           keep=1, scale=1),
    golden("knots", [[1, 0], [0, 1]], [[[4, 0], [0, 2]], [[2, 0], [0, 3]]], [[2.5, 0], [0, 2]],
           keep=0.25, scale=0.5),
]  # fmt: skip


@pytest.mark.parametrize(("method", "base", "experts", "want", "config"), GOLDEN)
def test_golden(method, base, experts, want, config):
    cls = METHODS[method]
    ckpts = models({"w": base}, [{"w": expert} for expert in experts])
    merged = cls(cls.Config(**config)).merge(ckpts)
    sets = [merged] if isinstance(merged, Weights) else list(merged.values())
    got = torch.stack([weights["w"] for weights in sets])
    want = torch.tensor(np.array(want)).float().view_as(got)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-6)


ELSEWHERE = {  # methods that need more than weights: the file that has their numbers
    "adamerging": "test_adamerging.py",
    "adamerging_pp": "test_adamerging.py",
    "adamerging_task": "test_adamerging.py",
    "bd_merging": "bd_merging/test_loss.py",
    "bd_merging_task": "bd_merging/test_loss.py",
    "bmm": "bmm/test_method.py",
    "bmm_hybrid": "bmm/test_method.py",
    "bmm_sampled": "bmm/test_sampled.py",
    "ce_router": "routing/test_routers.py",
    "centroid_router": "routing/test_routers.py",
    "concrete_adamerging": "test_concrete.py",
    "concrete_ta": "test_concrete.py",
    "entropy_router": "routing/test_routers.py",
    "dam": "test_dam.py",
    "evo_merging": "test_evo_merging.py",
    "fisher": "test_fisher.py",
    "fw_merging": "test_fw_merging.py",
    "fw_merging_soft": "test_fw_merging.py",
    "map": "test_map.py",
    "map_nested": "test_map.py",
    "multitask": "test_multitask.py",
    "mwa": "test_mwa.py",
    "ota": "test_ota.py",
    "ota_adam": "test_ota.py",
    "ota_adam_ffg": "test_ota.py",
    "ota_ffg": "test_ota.py",
    "regmean": "test_regmean.py",
    "regmean_pp": "test_regmean_pp.py",
    "tent": "test_tent.py",
}


def test_every_method_has_a_golden_case():
    assert {case.values[0] for case in GOLDEN} | set(ELSEWHERE) == set(METHODS)
    assert all((Path(__file__).parent / name).exists() for name in ELSEWHERE.values())


def models(base: dict[str, Sequence], experts: Sequence[dict[str, Sequence]]) -> Checkpoints:
    """Models that are a few vectors."""
    first, *rest = (
        Weights({k: torch.as_tensor(v).float() for k, v in model.items()})
        for model in (base, *experts)
    )
    return Checkpoints(None, first, {f"task{i}": w for i, w in enumerate(rest)}, {})


def test_ties_trims_the_whole_vector_not_each_tensor():
    # half of [10 9 | 1 2] is the whole first tensor and nothing of the second
    cls = METHODS["ties"]
    ckpts = models({"a": [0, 0], "b": [0, 0]}, [{"a": [10, 9], "b": [1, 2]}])
    merged = cls(cls.Config(keep=0.5)).merge(ckpts)
    assert merged["a"].tolist() == [10, 9]
    assert merged["b"].tolist() == [0, 0]


# -- TIES again, written entry by entry in NumPy, on random task vectors -------------------------


def ties_by_hand(taus: np.ndarray, keep: float, merge: str, zero_sign: str) -> np.ndarray:
    """``[K, P] -> [P]``, in float64 and plain loops."""
    num_kept = max(1, round(keep * taus.shape[1]))
    trimmed = taus.astype(np.float64)
    for row in trimmed:
        cut = sorted(np.abs(row))[-num_kept]
        row[np.abs(row) < cut] = 0
    signs = np.sign(trimmed.sum(0))
    if zero_sign == "majority":
        majority = np.sign((signs > 0).sum() - (signs < 0).sum())
        signs[signs == 0] = majority
    merged = np.zeros(taus.shape[1])
    for p, sign in enumerate(signs):
        agreeing = [v for v in trimmed[:, p] if v * sign > 0]
        if agreeing:
            merged[p] = sum(agreeing) if merge == "sum" else sum(agreeing) / len(agreeing)
    return merged


@pytest.mark.parametrize("zero_sign", ["zero", "majority"])
@pytest.mark.parametrize("merge", ["mean", "sum"])
@pytest.mark.parametrize("keep", [1e-4, 0.1, 0.2, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("quantised", [False, True])  # entries tie and cancel exactly
def test_ties_equals_numpy(keep, merge, zero_sign, quantised):
    rng = np.random.default_rng(3)
    for num_experts in (1, 2, 5):
        taus = rng.normal(size=(num_experts, 210)).astype(np.float32)
        taus = np.round(2 * taus) / 2 if quantised else taus
        base = rng.normal(size=210).astype(np.float32) if not quantised else np.zeros(210)
        shapes = {"a": (10, 7), "b": (3,), "c": (), "d": (136,)}
        cls = METHODS["ties"]
        cfg = cls.Config(keep=keep, merge=merge, zero_sign=zero_sign, scale=0.7)
        split = [cut(row, shapes) for row in (base, *(base + taus))]
        got = cls(cfg).merge(models(split[0], split[1:])).flat()
        moved = np.float32(base + taus) - np.float32(base)  # what float32 keeps of the task vectors
        want = base + 0.7 * ties_by_hand(moved, keep, merge, zero_sign)
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def cut(vector: np.ndarray, shapes: dict[str, tuple]) -> dict[str, np.ndarray]:
    sizes = [int(np.prod(shape)) for shape in shapes.values()]
    parts = np.split(vector, np.cumsum(sizes)[:-1])
    return {name: part.reshape(shapes[name]) for name, part in zip(shapes, parts, strict=True)}


@pytest.mark.parametrize("k", [1, 2, 60, 61, 599, 600])
def test_kth_largest_is_exact_in_one_pass(k):
    values = torch.randn(600, generator=torch.Generator().manual_seed(k))
    reads = []

    def read(name: str) -> torch.Tensor:
        reads.append(name)
        return values[10 * int(name) :][:10]

    weights = Weights.lazy({str(i): (10,) for i in range(60)}, read)
    assert kth_largest(weights, k) == sorted(values.abs().tolist())[-k]
    assert reads == list(weights)
