"""BMM on whole models against NumPy, and its identities. The search is off here."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from methods import METHODS, Needs
from methods.bmm.inner import anchor_of, share_of_vectors
from methods.common.weights import Weights
from methods.contract import small_checkpoints
from tests.helpers.bmm_parts import (
    MATRICES,
    PAIRS,
    SETTINGS,
    VARIANTS,
    Shown,
    inputs_of,
    make,
    normal,
    numpy,
    regression,
    task_arithmetic,
    vector_grams,
    weights_of,
)


def apart(one: Weights, other: Weights, names=MATRICES) -> float:
    """The largest relative distance between two matrices of the same name."""

    def gap(mine: Tensor, theirs: Tensor) -> float:
        return ((mine - theirs).norm() / theirs.norm()).item()

    return max(gap(one[name], other[name]) for name in names)


# -- against NumPy -------------------------------------------------------------------------------


@pytest.mark.parametrize("in_proj", ["fused", "split"])
def test_bmm_equals_numpy(in_proj):
    ckpts, access = small_checkpoints(), Shown()
    got = weights_of(make("bmm", ckpts, access, alpha=0.2, in_proj=in_proj, **SETTINGS))
    seen = inputs_of(ckpts, access)
    for name in ckpts.base:
        want = task_arithmetic(ckpts, name)
        if name in MATRICES:
            inputs = [seen[task][MATRICES[name]] for task in ckpts.experts]
            grams = [normal(x.T @ x) for x in inputs]
            experts = [numpy(expert[name]) for expert in ckpts.experts.values()]
            want = regression(want, experts, grams, 0.2)
        np.testing.assert_allclose(numpy(got[name]), want, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("centre", [False, True])
@pytest.mark.parametrize(("in_proj", "parts"), [("fused", 1), ("split", 3)])
def test_bmm_without_data_equals_numpy(in_proj, parts, centre):
    ckpts = small_checkpoints()
    config = {"alpha": 0.2, "in_proj": in_proj, "centre": centre, **SETTINGS}
    got = weights_of(make("bmm_datafree", ckpts, **config))
    for name in MATRICES:
        rows = len(ckpts.base[name])
        step = rows // parts if "in_proj" in name else rows
        want = []
        for part in (slice(at, at + step) for at in range(0, rows, step)):
            experts = [numpy(expert[name])[part] for expert in ckpts.experts.values()]
            grams = vector_grams(ckpts, name, part, centre)
            want.append(regression(task_arithmetic(ckpts, name)[part], experts, grams, 0.2))
        np.testing.assert_allclose(numpy(got[name]), np.concatenate(want), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(("config", "rho"), [({"rho": 0.3}, 0.3), ({"rho_images": 4.0}, 4 / 16)])
def test_the_hybrid_equals_numpy(config, rho):
    ckpts, access = small_checkpoints(), Shown(12)
    got = weights_of(make("bmm_hybrid", ckpts, access, alpha=0.2, **config, **SETTINGS))
    seen = inputs_of(ckpts, access)
    for name in MATRICES:
        data = [normal(x.T @ x) for x in (seen[task][MATRICES[name]] for task in ckpts.experts)]
        vectors = vector_grams(ckpts, name, slice(None))
        grams = [(1 - rho) * d + rho * v for d, v in zip(data, vectors, strict=True)]
        experts = [numpy(expert[name]) for expert in ckpts.experts.values()]
        want = regression(task_arithmetic(ckpts, name), experts, grams, 0.2)
        np.testing.assert_allclose(numpy(got[name]), want, rtol=1e-4, atol=2e-5)


# -- identities on whole models ------------------------------------------------------------------


@pytest.mark.parametrize(("name", "anchor"), PAIRS)
def test_the_top_of_the_range_is_the_anchor_and_the_bottom_is_not(name, anchor):
    ckpts = small_checkpoints()
    cfg = METHODS[name].Config(anchor=anchor)
    method = METHODS[{"ta": "task_arithmetic"}.get(anchor, anchor)]
    want = method().merge(ckpts).materialise()
    assert apart(anchor_of(ckpts, cfg), want, ckpts.base) < 1e-6
    top, bottom = (
        weights_of(make(name, ckpts, trials=0, anchor=anchor, alpha=alpha))
        for alpha in (cfg.alpha_high, cfg.alpha_low)
    )
    assert apart(top, want) < 1e-4
    assert apart(bottom, want) > 0.05
    rest = [key for key in ckpts.base if key not in MATRICES]
    assert all(torch.equal(bottom[key], top[key]) for key in rest)
    assert apart(bottom, want, rest) < 1e-6


def test_an_anchor_can_be_scaled_and_split():
    ckpts, some = small_checkpoints(), [next(iter(MATRICES))]
    config = METHODS["bmm"].Config
    for anchor in ("tsv", "wudi"):
        cls = METHODS[anchor]
        scaled = anchor_of(ckpts, config(anchor=anchor, anchor_scale=0.5))
        assert apart(scaled, cls(cls.Config(scale=0.5)).merge(ckpts), some) < 1e-6
        split = anchor_of(ckpts, config(anchor=anchor, in_proj="split"))
        assert apart(split, cls(cls.Config(in_proj="split")).merge(ckpts), some) < 1e-6
        assert apart(split, anchor_of(ckpts, config(anchor=anchor)), some) > 1e-3


def test_alpha_to_zero_is_regmean_only_as_stated():
    # Behind a layer norm entries sum to 0: there the anchor stays, at a scale of 1/3 the mean.
    ckpts, access = small_checkpoints(), Shown(60)
    config = {"alpha": 1e-9, "anchor_scale": 1 / 3, **SETTINGS}
    plain = weights_of(make("bmm", ckpts, access, normalise="none", **config))
    trace = weights_of(make("bmm", ckpts, access, **config))
    regmean = weights_of(make("regmean", ckpts, access, off_diagonal=1.0))
    shrunk = weights_of(make("regmean", ckpts, access, off_diagonal=0.95))
    assert apart(plain, regmean) < 1e-4
    assert apart(trace, regmean) > 1e-3
    assert apart(plain, shrunk) > 1e-2
    rest = [key for key in ckpts.base if key not in MATRICES]
    assert apart(plain, regmean, [key for key in rest if plain[key].any()]) < 1e-5
    own = weights_of(make("bmm", ckpts, access, normalise="none", alpha=1e-9, **SETTINGS))
    assert apart(own, regmean, ["proj", "positional_embedding"]) > 0.01  # those of another anchor


def test_one_expert_is_given_back_on_what_it_saw():
    ckpts, access = small_checkpoints(), Shown(4)  # 20 tokens for 32 features and for 128
    task, expert = next(iter(ckpts.experts.items()))
    alone = replace(ckpts, experts={task: expert}, heads={task: ckpts.heads[task]})
    seen = inputs_of(alone, access)[task]
    sure, calm = (weights_of(make("bmm", alone, access, alpha=a, **SETTINGS)) for a in (1e-6, 1.0))
    for name, layer in MATRICES.items():
        x, want = seen[layer], seen[layer] @ numpy(expert[name]).T
        gaps = [abs(x @ numpy(got[name]).T - want).max() / abs(want).max() for got in (sure, calm)]
        assert gaps[0] < 1e-3
        assert gaps[1] > 1e-2
    assert apart(sure, expert) > 0.1  # elsewhere it is the anchor


def test_fused_and_split_agree_with_data_alone():
    both = [
        {k: weights_of(make(name, in_proj=k, **SETTINGS)) for k in ("fused", "split")}
        for name in VARIANTS
    ]
    gaps = [apart(found["split"], found["fused"]) for found in both]
    assert gaps[0] < 1e-6
    assert min(gaps[1:]) > 1e-3


def test_scaling_the_images_does_not_only_scale_the_inputs():
    """The class token and the positions stay, so it does not drop out in the normalisation."""
    first, second = (weights_of(make("bmm", access=Shown(12, k), **SETTINGS)) for k in (1.0, 3.0))
    assert apart(first, second) > 1e-3


def test_without_calibration_images_it_is_the_data_free_variant():
    free = weights_of(make("bmm_datafree", **SETTINGS))
    for name in ("bmm", "bmm_hybrid"):
        method = make(name, calibration=0, **SETTINGS)
        assert method.needs == Needs.NOTHING
        assert apart(weights_of(method), free) == 0
    assert apart(weights_of(make("bmm_hybrid", rho=1.0, **SETTINGS)), free) < 1e-5
    none = weights_of(make("bmm_hybrid", rho=0.0, **SETTINGS))
    assert apart(none, weights_of(make("bmm", **SETTINGS))) < 1e-6
    assert apart(none, free) > 0.01


def test_few_images_lean_on_the_task_vectors():
    cfg = METHODS["bmm_hybrid"].Config(rho_images=32)
    assert [share_of_vectors(cfg, n) for n in (0, 32, 96)] == [1, 0.5, 0.25]


def test_calibration_counts_images():
    all_twelve = weights_of(make("bmm", access=Shown(12), **SETTINGS))
    limited = Shown(12)
    limited.unlabeled = lambda task: [limited.draw("images", task)[:7]]
    first = weights_of(make("bmm", access=limited, calibration=256, **SETTINGS))
    seven = weights_of(make("bmm", access=Shown(12), calibration=7, **SETTINGS))
    assert apart(seven, first) < 1e-6
    assert apart(seven, all_twelve) > 1e-3


def test_where_a_merged_matrix_is_put():
    ckpts, anchor = small_checkpoints(), METHODS["task_arithmetic"]().merge(small_checkpoints())
    mean = weights_of(make("bmm_datafree", ckpts, **SETTINGS))
    for assembly, start in (("base", ckpts.base), ("anchor", anchor)):
        got = weights_of(make("bmm_datafree", ckpts, scale=0.4, assembly=assembly, **SETTINGS))
        want = start + 0.4 * (mean - start)
        assert apart(got, want) < 1e-5
        assert torch.equal(got["proj"], mean["proj"])


def test_the_anchor_alone_is_scaled_like_a_regression_at_an_infinite_alpha():
    ckpts = small_checkpoints()
    for anchor in ("ta", "tsv"):
        got = weights_of(make("anchor_scales", ckpts, trials=0, anchor=anchor, scale=0.6))
        want = weights_of(make("bmm", ckpts, trials=0, anchor=anchor, scale=0.6, alpha=1e12))
        assert apart(got, want, ckpts.base) < 1e-5
