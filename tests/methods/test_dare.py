"""DARE: what is dropped and made up for, and what merges it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mergeshift import UserError
from methods import METHODS, Checkpoints, merge
from methods.common.weights import Weights
from methods.contract import TASKS, small_checkpoints
from methods.dare import Dare
from methods.ties import Ties
from tests.helpers.numpy_models import assert_moved


def dare(seed: int = 0, **config: object) -> Dare:
    return Dare(Dare.Config.make(config), seed)


def ones(count: int) -> Checkpoints:
    """Two experts of many entries, their task vectors 1 and 2."""
    base = Weights({"w": torch.zeros(count)})
    experts = {name: base.map(lambda t, s=size: t + s) for name, size in (("a", 1.0), ("b", 2.0))}
    return Checkpoints(None, base, experts, {})


@pytest.mark.parametrize("drop", [0.0, 0.3, 0.9])
def test_an_entry_is_dropped_or_made_up_for(drop):
    thinned = dare(drop=drop).changed_experts(ones(20_000)).experts
    for name, size in (("a", 1.0), ("b", 2.0)):
        entries = thinned[name]["w"]
        kept = entries != 0
        torch.testing.assert_close(entries[kept], torch.full_like(entries[kept], size / (1 - drop)))
        error = (drop * (1 - drop) / 20_000) ** 0.5
        assert abs(kept.float().mean().item() - (1 - drop)) <= 5 * error
        assert abs(entries.mean().item() - size) <= 5 * size * error / (1 - drop)


def test_masks_are_those_of_the_seed_the_expert_and_the_tensor():
    ckpts = small_checkpoints()
    masks = {
        (seed, task, name): tuple((expert[name] != ckpts.base[name]).flatten().tolist())
        for seed in (0, 1)
        for task, expert in dare(seed, drop=0.5).changed_experts(ckpts).experts.items()
        for name in ("proj", "transformer.resblocks.0.mlp.c_fc.weight")
    }
    assert len(set(masks.values())) == 2 * len(TASKS) * 2
    again = dare(0, drop=0.5).merge(ckpts)
    assert torch.equal(again["proj"], dare(0, drop=0.5).merge(ckpts)["proj"])
    assert torch.equal(again["proj"], again["proj"])
    back = replace(ckpts, experts=dict(reversed(ckpts.experts.items())))
    torch.testing.assert_close(dare(0, drop=0.5).merge(back).flat(), again.flat())
    assert not torch.equal(dare(1, drop=0.5).merge(ckpts)["proj"], again["proj"])


@pytest.mark.parametrize(("on", "share"), [("average", 1 / 3), ("ta", 1.0), ("task_arithmetic", 1)])
def test_linear_merges_equal_numpy(on, share):
    ckpts, method = small_checkpoints(), dare(on=on, drop=0.4, scale=0.7)

    def rule(name: str, taus: list[np.ndarray]) -> np.ndarray:
        chances = [torch.rand(taus[0].shape, generator=method.generator(task, name)).numpy()
                   for task in TASKS]  # fmt: skip
        parts = [tau * (chance >= 0.4) / 0.6 for tau, chance in zip(taus, chances, strict=True)]
        return 0.7 * share * np.sum(parts, axis=0)

    assert_moved(method.merge(ckpts), ckpts, rule)


@pytest.mark.parametrize("on", ["average", "ties", "tsv", "magmax", "lines"])
def test_nothing_dropped_is_what_it_stands_on(on):
    ckpts, cls = small_checkpoints(), METHODS[on]
    scaled = {"scale": 1.0} if "scale" in cls.Config().as_dict() else {}
    plain = cls(cls.Config.make(scaled)).merge(ckpts)
    torch.testing.assert_close(
        dare(on=on, drop=0.0).merge(ckpts).flat(), plain.flat(), atol=1e-5, rtol=0
    )


def test_ties_sees_the_thinned_task_vectors():
    ckpts, method = small_checkpoints(), dare(on="ties", drop=0.5)
    want = Ties(Ties.Config(scale=1.0)).merge(method.changed_experts(ckpts))
    torch.testing.assert_close(method.merge(ckpts).flat(), want.flat(), atol=1e-6, rtol=0)


def test_it_needs_what_it_stands_on_and_depends_on_chance():
    assert dare().depends_on_seed
    assert dare(on="regmean").needs == METHODS["regmean"]().needs
    assert dare(on="average").needs == METHODS["average"]().needs


@pytest.mark.parametrize(
    "on", ["individual", "adamerging", "oracle_router", "logit_ensemble", "twin_merging", "wise_ft"]
)
def test_what_is_not_one_merge_is_refused_in_one_line(on):
    with pytest.raises(UserError, match=r"dare\.on must be a method that gives one model"):
        Dare.Config(on=on)


def test_an_unknown_method_is_refused_too():
    with pytest.raises(UserError, match="no method named 'tie'"):
        Dare.Config(on="tie")


def test_any_state_dicts_can_be_merged():
    base = {"w": torch.zeros(3)}
    experts = [{"w": torch.ones(3)}, {"w": torch.tensor([3.0, 0.0, 0.0])}]
    assert merge("dare", base, experts, drop=0, on="average")["w"].tolist() == [2, 0.5, 0.5]
