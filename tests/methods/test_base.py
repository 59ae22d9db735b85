"""What a built method is, and what merges any state dicts."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mergeshift import UserError
from methods import METHODS, Needs, merge
from methods.average import Average
from methods.common.vit import PlainOps, encode
from methods.common.weights import Weights
from methods.contract import TASKS, VIT, Recorder, few_steps, images, logits, small_checkpoints
from tests.helpers.learning_methods import Learner


def test_logits_are_scaled_cosines():
    ckpts = small_checkpoints()
    method = METHODS["individual"]().build(ckpts)
    for task, head in ckpts.heads.items():
        features = encode(images(), PlainOps(ckpts.experts[task]), VIT)
        cosine = F.cosine_similarity(features[:, None], head[None], dim=-1)  # [B, C]
        torch.testing.assert_close(logits(method)[task], 10 * cosine, rtol=0, atol=1e-5)
        step = method.test_step({"images": images(), "task": task}, 0)
        torch.testing.assert_close(step, logits(method)[task])


def test_what_is_stored_is_counted():
    ckpts = small_checkpoints()
    one = ckpts.base.num_entries
    assert METHODS["ties"]().build(ckpts).num_stored == one
    assert METHODS["individual"]().build(ckpts).num_stored == 3 * one
    learner = Learner().build(ckpts, Recorder(), few_steps)
    assert learner.num_stored == one + 1  # merged weights and the coefficient


def test_needs_are_written_out():
    assert str(METHODS["ties"]().needs) == "weights only"
    assert str(Needs.VAL_LABELS | Needs.TEST_STREAM) == "validation labels, test stream"


def test_seeds_give_different_random_numbers_to_different_methods():
    def draw(name: str, seed: int, *parts: object) -> float:
        return torch.rand(1, generator=METHODS[name](seed=seed).generator(*parts)).item()

    assert draw("ties", 1, "a") == draw("ties", 1, "a")
    different = {draw("ties", 1, "a"), draw("ties", 2, "a"), draw("ties", 1, "b")}
    assert len(different | {draw("average", 1, "a")}) == 4


def test_support_that_was_not_given_is_asked_for():
    with pytest.raises(UserError, match="learner needs unlabelled images; build it with"):
        Learner().build(small_checkpoints())


def test_every_expert_is_read_once_and_by_ties_twice():
    ckpts = small_checkpoints()
    reads: Counter[tuple[str, str]] = Counter()

    def counted(task: str) -> Weights:
        expert = ckpts.experts[task]
        shapes = {name: expert.shape(name) for name in expert}
        return Weights.lazy(shapes, lambda name: reads.update([(task, name)]) or expert[name])

    lazy = replace(ckpts, experts={task: counted(task) for task in TASKS})
    for name, passes in {"pretrained": 0, "average": 1, "task_arithmetic": 1, "ties": 2}.items():
        reads.clear()
        METHODS[name]().build(lazy)
        assert {reads[task, key] for task in TASKS for key in ckpts.base} == {passes}, name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"experts": {}}, "give at least one expert"),
        ({"heads": {"two": torch.zeros(2, 16)}}, "experts without a head: four, three; "),
        ({"base": Weights({"w": torch.zeros(1)})}, "the base does not fit ViT"),
        (
            {"experts": {"two": Weights({"w": torch.zeros(1)})}},
            "expert two does not fit the base: 33 names are in only one of the two",
        ),
    ],
)
def test_checkpoints_that_do_not_fit_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        replace(small_checkpoints(), **change)


def test_weights_without_an_architecture_cannot_be_run():
    with pytest.raises(UserError, match="average cannot run without an architecture"):
        Average().build(replace(small_checkpoints(), vit=None))


# -- merge(): any state dicts --------------------------------------------------------------------

BASE = {"w": torch.tensor([1.0, 1.0]), "steps": torch.tensor(5), "h": torch.zeros(2).half()}
EXPERTS = [
    {"w": torch.tensor([3.0, 1.0]), "steps": torch.tensor(6), "h": torch.ones(2).half()},
    {"w": torch.tensor([1.0, 5.0]), "steps": torch.tensor(7), "h": torch.zeros(2).half()},
]


def test_any_state_dicts_are_merged_and_integers_come_from_the_base():
    merged = merge("task_arithmetic", BASE, EXPERTS, scale=0.5)
    assert list(merged) == ["w", "steps", "h"]
    assert merged["w"].tolist() == [2, 3]
    assert merged["steps"].item() == 5
    assert merged["h"].tolist() == [0.5, 0.5]
    assert merged["h"].dtype == torch.float32


def test_a_module_can_be_merged():
    torch.manual_seed(0)
    layers = [nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)) for _ in range(3)]
    base, *experts = (layer.state_dict() for layer in layers)
    layers[0].load_state_dict(merged := merge("ties", base, {"a": experts[0], "b": experts[1]}))
    assert merged["1.num_batches_tracked"] == 0


@pytest.mark.parametrize(
    ("name", "base", "experts", "config", "message"),
    [
        ("tie", BASE, EXPERTS, {}, "did you mean 'ties'"),
        ("ties", BASE, EXPERTS, {"keep": 20}, r"ties\.keep must be"),
        ("ties", BASE, EXPERTS, {"kep": 0.2}, "did you mean 'keep'"),
        ("individual", BASE, EXPERTS, {}, "individual keeps one model per task"),
        ("average", BASE, [], {}, "give at least one expert"),
        ("average", BASE, [EXPERTS[0], {"w": torch.zeros(2)}], {}, "expert 2 does not fit.* h;"),
        ("average", BASE, {"a.pt": {**BASE, "w": torch.zeros(3)}}, {}, r"expert a\.pt does not"),
        ("average", BASE, [{**BASE, "w": torch.tensor([1, torch.nan])}], {}, "expert 1 holds NaN"),
        ("average", {**BASE, "w": torch.tensor([1, torch.inf])}, EXPERTS, {}, "the base holds Inf"),
    ],
)
def test_what_cannot_be_merged_is_refused_in_one_line(name, base, experts, config, message):
    with pytest.raises(UserError, match=message) as caught:
        merge(name, base, experts, **config)
    assert "\n" not in str(caught.value)


def test_a_method_that_needs_images_is_refused_with_the_reason(monkeypatch):
    monkeypatch.setitem(METHODS._items, "learner", Learner)
    with pytest.raises(UserError, match="learner needs unlabelled images, and checkpoints alone"):
        merge("learner", BASE, EXPERTS)
