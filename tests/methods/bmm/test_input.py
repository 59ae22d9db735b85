"""BMM: what it needs, what it refuses, and odd input. The search is off, or short."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mergeshift import UserError
from methods import METHODS, Checkpoints, Needs, merge
from methods.bmm.inner import anchor_of
from methods.common.weights import Weights
from methods.contract import TASKS, logits, small_checkpoints
from tests.helpers.bmm_parts import (
    MATRICES,
    PAIRS,
    SETTINGS,
    VARIANTS,
    Shown,
    make,
    numpy,
    regression,
    task_arithmetic,
    vector_grams,
    weights_of,
)

# -- what it needs, and what it refuses ----------------------------------------------------------


def test_it_declares_what_its_settings_need():
    def needs(name: str, **config) -> Needs:
        return METHODS[name](METHODS[name].Config(**config)).needs

    both = Needs.IMAGES | Needs.VAL_LABELS
    assert needs("bmm") == needs("bmm_hybrid") == needs("bmm_sampled") == both
    assert needs("bmm_datafree") == needs("anchor_scales") == Needs.VAL_LABELS
    assert needs("bmm", trials=0) == Needs.IMAGES
    assert needs("bmm_sampled", trials=0) == both  # the size of its noise is chosen
    assert needs("bmm_sampled", trials=0, kappa=0.1) == Needs.IMAGES
    assert needs("bmm_datafree", trials=0) == needs("anchor_scales", trials=0) == Needs.NOTHING


def test_without_images_and_search_any_state_dict_is_merged():
    random = torch.Generator().manual_seed(0)
    base, *experts = (
        {"w": torch.randn(4, 6, generator=random), "b": torch.randn(4, generator=random)}
        for _ in range(4)
    )
    got = merge("bmm_datafree", base, experts, trials=0, anchor="ta", alpha=0.5)
    ckpts = Checkpoints(
        None, Weights(base), {str(i): Weights(e) for i, e in enumerate(experts)}, {}
    )
    grams = vector_grams(ckpts, "w", slice(None))
    want = regression(task_arithmetic(ckpts, "w"), [numpy(e["w"]) for e in experts], grams, 0.5)
    np.testing.assert_allclose(numpy(got["w"]), want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(numpy(got["b"]), task_arithmetic(ckpts, "b"), rtol=1e-5, atol=1e-6)
    with pytest.raises(UserError, match="bmm_datafree needs validation labels"):
        merge("bmm_datafree", base, experts)
    with pytest.raises(UserError, match="10 models: there is no single merged model"):
        merge("bmm_sampled", base, experts, trials=0, kappa=0.1, calibration=0)


def test_a_matrix_is_read_when_it_is_asked_for():
    ckpts, read = small_checkpoints(), []

    def told(task: str, expert: Weights) -> Weights:
        return Weights.lazy(
            {k: expert.shape(k) for k in expert}, lambda k: read.append(k) or expert[k]
        )

    experts = {task: told(task, expert) for task, expert in ckpts.experts.items()}
    cls = METHODS["bmm_datafree"]
    merged = cls(cls.Config(**SETTINGS)).merge(replace(ckpts, experts=experts))
    assert read == []
    name = next(iter(MATRICES))
    _ = merged[name]
    assert set(read) == {name}


@pytest.mark.parametrize("name", ["bmm", "bmm_hybrid"])
def test_merging_from_images_that_nobody_showed_is_refused(name):
    with pytest.raises(UserError, match="build it first"):
        METHODS[name]().merge(small_checkpoints())


def test_settings_that_cannot_be():
    config = METHODS["bmm"].Config
    for wrong in ({"alpha_low": 1.0, "alpha_high": 0.1}, {"scale_low": 1.5}, {"scale_high": 0.9},
                  {"alpha": 0.0}, {"anchor": "ties"}):  # fmt: skip
        with pytest.raises(UserError):
            config(**wrong)


# -- degenerate ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "anchor"), PAIRS)
def test_an_expert_that_never_moved(name, anchor):
    ckpts = small_checkpoints()
    still = replace(ckpts, experts={**ckpts.experts, "two": ckpts.base})
    method = make(name, still, trials=0, anchor=anchor)
    assert all(values.isfinite().all() for values in logits(method).values())
    if name == "bmm_datafree":  # its Gram is zero: it pulls nowhere, but takes its share of beta
        config = {"anchor": anchor, "trials": 0, "alpha": 0.1}
        alone = replace(ckpts, experts={k: v for k, v in ckpts.experts.items() if k != "two"})
        anchors = anchor_of(still, METHODS[name].Config(anchor=anchor))
        name = next(iter(MATRICES))
        experts = [numpy(e[name]) for e in alone.experts.values()]
        grams = [2 / 3 * g for g in vector_grams(alone, name, slice(None))]
        want = regression(numpy(anchors[name]), experts, grams, 0.1)
        got = weights_of(make("bmm_datafree", still, **config))[name]
        np.testing.assert_allclose(numpy(got), want, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("name", [*VARIANTS, "bmm_sampled", "anchor_scales"])
def test_one_task_and_fewer_images_than_features(name):
    ckpts = small_checkpoints()
    task, expert = next(iter(ckpts.experts.items()))
    alone = replace(ckpts, experts={task: expert}, heads={task: ckpts.heads[task]})
    method = make(name, alone, Shown(1), trials=2, anchor="ta")
    assert method.predict(Shown().draw("x"), task).isfinite().all()


def test_a_task_without_images_is_refused_or_stood_in_for():
    empty = Shown()
    empty.unlabeled = lambda task: iter([] if task == "two" else [empty.draw("images", task)])
    with pytest.raises(UserError, match="images of every task; two has none"):
        make("bmm", access=empty, **SETTINGS)
    method = make("bmm_hybrid", access=empty, **SETTINGS)  # its task vector stands in
    assert all(values.isfinite().all() for values in logits(method).values())
    assert set(logits(method)) == set(TASKS)
