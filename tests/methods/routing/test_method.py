"""Methods that weigh the experts image by image: routers and knowledge in any combination."""

from dataclasses import replace
from functools import lru_cache
from itertools import product

import pytest
import torch
from torch.nn import functional as F

from mergeshift import UserError
from methods import METHODS, Needs, contract, merge
from methods.common.vit import PlainOps, encode
from methods.common.weights import Weights, total
from methods.contract import TASKS, VIT, Recorder, few_steps, images, logits, small_checkpoints
from methods.routing.compression import is_matrix, largest, low_rank
from tests.helpers.learning_methods import at_settings

ROUTERS = ["oracle_router", "centroid_router", "ce_router", "entropy_router", "twin_merging"]
LEARNED = ROUTERS[1:]
KNOWLEDGE = [("dense", "pretrained"), ("svd", "shared"), ("magnitude", "shared")]
OTHERS = ["routed", "merged", "task"]
CONFIGS = [
    {"knowledge": how, "anchor": anchor, "others": others, "null_route": i % 2 == 1, "share": 0.3}
    for i, ((how, anchor), others) in enumerate(product(KNOWLEDGE, OTHERS))
]


class Varied(Recorder):
    """Images that tell their tasks."""

    def unlabeled(self, task):
        self.seen |= Needs.IMAGES
        number = [*TASKS].index(task)
        yield images() + torch.eye(3)[number, :, None, None] * 3


def built(name, ckpts=None, **config):
    cls = METHODS[name]
    method = cls(cls.Config.make(config))
    return method.build(ckpts or small_checkpoints(), Varied(), few_steps)


@lru_cache
def parts(knowledge, anchor, share, scale):
    """What is mixed of the small models: the anchor; and of each expert, tensor by tensor."""
    ckpts = small_checkpoints()
    start = ckpts.base
    if anchor == "shared":
        start = (ckpts.base + scale * total(ckpts.task_vectors)).materialise()

    def part(name, v):
        if knowledge == "svd" and is_matrix(name, v):
            left, right = low_rank(v.flatten(1), share)
            return (left @ right).view_as(v)
        return largest(v, share) if knowledge == "magnitude" and is_matrix(name, v) else v

    return start, {
        task: {name: part(name, expert[name] - start[name]) for name in start}
        for task, expert in ckpts.experts.items()
    }


def by_hand(cfg, weights, x, task):
    """Features of one image, by a forward pass of its own.  ``[K'], [3, H, W] -> [D]``."""
    anchor, moved = parts(cfg.knowledge, cfg.anchor, cfg.share, cfg.scale)
    routed = dict(zip(moved, weights.tolist(), strict=False))  # the null route adds nothing

    def mixed(name):
        result = anchor[name].clone()
        for other, tensors in moved.items():
            weight, v = routed[other], tensors[name]
            if not is_matrix(name, v):
                weight = {"routed": weight, "merged": 0, "task": other == task}[cfg.others]
            result += weight * v
        return result

    return encode(x[None], PlainOps(Weights({k: mixed(k) for k in anchor})), VIT)[0]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: "-".join(map(str, c.values())))
@pytest.mark.parametrize("name", ROUTERS)
def test_any_router_mixes_any_knowledge(name, config):
    ckpts = small_checkpoints()
    method = built(name, ckpts, **config)
    assert method.routes == [*TASKS] + ["null"] * config["null_route"]
    assert method.knows_task == (config["others"] == "task" or name == "oracle_router")
    shown = torch.stack([next(Varied().unlabeled(task))[0] for task in TASKS])
    with torch.no_grad():
        for task, head in ckpts.heads.items():
            got, weights = method.predict_routed(shown, task)
            assert weights.shape == (3, len(method.routes))
            torch.testing.assert_close(weights.sum(1), torch.ones(3))
            torch.testing.assert_close(got, method.predict(shown, task))
            oracle = F.one_hot(torch.tensor(method.routes.index(task)), len(method.routes))
            sure = method.predict_oracle(shown, task)
            for i, x in enumerate(shown):
                for values, w in ((got, weights[i]), (sure, oracle)):
                    want = by_hand(method.cfg, w, x, task)
                    want = F.normalize(want, dim=-1) @ head.T
                    torch.testing.assert_close(values[i], want, rtol=0, atol=2e-4)


CHECKS = [
    getattr(contract, f"check_{name}") for name in (
        "logits_have_one_column_per_class", "leaves_checkpoints_alone", "depends_on_its_seed_alone",
        "still_experts_change_nothing", "task_order_does_not_matter", "follows_its_device",
        "predict_ignores_its_neighbours", "knows_the_task_only_if_it_says_so", "state_survives",
        "stores_what_it_says", "touches_only_what_it_needs", "need_not_learn_twice",
        "holds_one_tensor_of_each",
    )
]  # fmt: skip
VARIANTS = {  # settings other than the defaults keep the contract, too
    "oracle_router": {"anchor": "shared", "knowledge": "svd", "null_route": True},
    "centroid_router": {"anchor": "shared", "knowledge": "magnitude"},
    "ce_router": {"anchor": "shared", "knowledge": "svd", "others": "task", "null_route": True},
    "entropy_router": {"anchor": "shared", "knowledge": "svd", "null_route": True},
    "twin_merging": {"preset": "released", "feature": "tokens", "null_route": True},
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", VARIANTS)
def test_other_settings_keep_the_contract(name, check):
    check(variant(name), small_checkpoints())


@lru_cache(maxsize=1)
def variant(name: str) -> type:
    """One class for all checks: they share what it builds."""
    return at_settings(METHODS[name], VARIANTS[name])


def test_with_whole_knowledge_the_oracle_is_the_individual_expert():
    ckpts = small_checkpoints()
    want = logits(METHODS["individual"]().build(ckpts))
    for config in ({}, {"anchor": "shared"}):
        got = logits(built("oracle_router", ckpts, **config))
        assert all(torch.allclose(got[task], want[task], atol=1e-4) for task in TASKS)


@pytest.mark.parametrize("name", LEARNED)
def test_the_weights_do_not_depend_on_the_order_of_the_suite(name):
    ckpts = small_checkpoints()
    back = replace(ckpts, experts=dict(reversed(ckpts.experts.items())))
    first, second = built(name, ckpts), built(name, back)
    assert second.routes == first.routes[::-1]
    shown = torch.cat([next(Varied().unlabeled(task)) for task in TASKS])
    with torch.no_grad():
        weights, turned = (method.route(shown, "two") for method in (first, second))
    assert torch.equal(weights, turned.flip(-1))
    assert weights.unique(dim=0).shape[0] > 1  # images differ


@pytest.mark.parametrize("name", LEARNED)
@pytest.mark.parametrize("count", [1, 2])
def test_one_and_two_tasks_work_and_batches_of_one(name, count):
    ckpts = small_checkpoints()
    few = [*TASKS][:count]
    ckpts = replace(
        ckpts,
        experts={task: ckpts.experts[task] for task in few},
        heads={task: torch.ones(1, 16) for task in few},  # of one class
    )
    method = built(name, ckpts)
    values, weights = method.predict_routed(images()[:1], few[0])
    assert values.shape == (1, 1)
    assert weights.shape == (1, count)


def test_a_null_route_between_one_task_is_refused():
    ckpts = small_checkpoints()
    alone = replace(ckpts, experts={"two": ckpts.experts["two"]})
    for name in ("centroid_router", "ce_router", "twin_merging"):
        with pytest.raises(UserError, match="between two tasks; got one: set null_route=false"):
            built(name, alone, null_route=True)


class Empty(Recorder):
    def unlabeled(self, task):
        yield from ()


def test_no_images_are_refused():
    for name in ("centroid_router", "ce_router", "twin_merging"):
        with pytest.raises(UserError, match=f"{name} learns from images of every task; got none"):
            METHODS[name]().build(small_checkpoints(), Empty(), few_steps)


def test_what_is_stored_is_counted():
    ckpts = small_checkpoints()
    one = ckpts.base.num_entries
    # (out + in) * rank of every matrix of rank int(.1 * 16) = 1 for proj, else int(.1 * 32) = 3;
    # two layers of in_proj 96 x 32, out_proj 32 x 32, c_fc 128 x 32 and c_proj 32 x 128
    factors = 3 * (2 * (128 + 64 + 160 + 160) + (32 + 768)) + 1 * (32 + 16)
    others = sum(t.numel() for name, t in ckpts.base.items() if not is_matrix(name, t))
    assert built("oracle_router").num_stored == 4 * one
    assert built("centroid_router").num_stored == 4 * one + 3 * 16
    svd = {"knowledge": "svd", "share": 0.1}
    assert built("oracle_router", **svd).num_stored == one + 3 * (factors + others)
    merged = built("oracle_router", **svd, others="merged")
    assert merged.num_stored == one + 3 * factors
    shared = built("centroid_router", **svd, anchor="shared", null_route=True)
    assert shared.num_stored == 2 * one + 3 * (factors + others) + 4 * 16
    assert shared.stores == "two models, low-rank matrices per task and a router"
    sparse = built("oracle_router", knowledge="magnitude", share=0.1)
    kept = sum(max(1, int(0.1 * t.numel())) for k, t in ckpts.base.items() if is_matrix(k, t))
    moved = sum(  # norms and biases start alike in every model: their differences are zero
        int((expert[name] != ckpts.base[name]).sum())
        for expert in ckpts.experts.values()
        for name in expert
        if not is_matrix(name, expert[name])
    )
    assert sparse.num_stored == one + 3 * kept + moved


def test_what_is_learned_depends_on_the_seed_where_it_says_so():
    for name in ROUTERS:
        cls, ckpts = METHODS[name], small_checkpoints()
        states = [cls(seed=seed).build(ckpts, Recorder(), few_steps).learned for seed in (1, 2)]
        if name == "oracle_router":
            assert states == [None, None]
            continue
        first, second = (torch.cat([t.flatten() for t in s.parameters()] + [*s.buffers()][:1])
                         if name != "centroid_router" else s.centroids for s in states)  # fmt: skip
        assert torch.equal(first, second) != cls().depends_on_seed


def test_what_is_mixed_image_by_image_is_no_single_model():
    base, expert = small_checkpoints().base, small_checkpoints().experts["two"]
    with pytest.raises(UserError, match="keeps one model, a task vector per task: there is no si"):
        merge("oracle_router", base, [expert])
    with pytest.raises(UserError, match="logit_ensemble keeps one model per task"):
        merge("logit_ensemble", base, [expert])


def test_what_routers_look_at():
    needs = {name: str(METHODS[name]().needs) for name in ROUTERS}
    assert needs == {
        "oracle_router": "weights only",
        "centroid_router": "unlabelled images, task ids",
        "ce_router": "unlabelled images, task ids",
        "entropy_router": "unlabelled images",
        "twin_merging": "unlabelled images, task ids",
    }
    assert METHODS["logit_ensemble"]().needs == Needs.NOTHING
