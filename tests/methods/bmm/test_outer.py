"""The outer level of BMM: what is tried, what is chosen, what is told, and a search that is cut."""

from math import inf

import pytest
import torch
from torch import Tensor

from methods import METHODS
from methods.bmm.inner import MergedModels, SolvedLayer, keys_of, modules_of
from methods.bmm.outer import (
    Validation,
    expert_accuracies,
    initial_points,
    search_hyperparameters,
    space_of,
)
from methods.common.linear_layers import LinearLayer
from methods.common.timer import Timer
from methods.common.vit import encode_plain
from methods.contract import TASKS, VIT, logits, small_checkpoints
from tests.helpers.bmm_parts import Shown, make, weights_of
from tests.helpers.regressions import regression

GROUPS = ["qkv", "out", "fc1", "fc2"]


def config(name: str = "bmm", **settings):
    return METHODS[name].Config(**settings)


def family(*groups: str) -> MergedModels:
    """Matrices of one entry: M = 1 + 1 / (1 + alpha), as W_0, W_A, W_1 are 0, 1, 2 and G_1 = 1."""
    one = torch.ones(1, 1)
    parts = [
        SolvedLayer(LinearLayer(group, slice(0, 1), group, group, 0), group, torch.zeros(1, 1),
             regression([one], [2 * one], one).to(torch.float32))
        for group in groups
    ]  # fmt: skip
    return MergedModels(parts, {"rest": one})


class Stub(Validation):
    """A pass that looks at the weights alone: it counts how often it is asked."""

    def __init__(self, **tasks):
        self.tasks, self.data, self.asked, self.told = tasks, dict.fromkeys(tasks), 0, 0

    def count_pass(self) -> None:
        self.told += 1

    def accuracies(self, model) -> dict[str, float]:
        self.asked += 1
        return {task: fn(model) for task, fn in self.tasks.items()}


def near(target: float):
    return lambda model: max(0.0, 1 - abs(model["qkv"].item() - target))


# -- models by their constants -------------------------------------------------------------------


def test_a_model_is_one_product_away():
    found = family("qkv", "out").model(
        {"alpha.qkv": 1.0, "scale.qkv": 2.0, "alpha.out": inf, "scale.out": 1.0}
    )
    assert {name: tensor.item() for name, tensor in found.items()} == {
        "rest": 1, "qkv": 2 * (1 + 1 / 2), "out": 1,
    }  # fmt: skip
    anchored = MergedModels(family("qkv").parts, {}, "anchor")
    assert anchored.model({"alpha.qkv": 1.0, "scale.qkv": 2.0})["qkv"].item() == 1 + 2 * (1 / 2)


def test_constants_are_those_of_a_group_or_of_its_third():
    modules = modules_of(small_checkpoints().base, config())
    assert list(dict.fromkeys(keys_of(modules, depth=False))) == GROUPS
    thirds = keys_of(modules, depth=True)  # two blocks
    assert thirds == [f"{group}.{third}" for third in ("early", "middle") for group in GROUPS]
    deep = [LinearLayer("w", slice(0, 1), "w", "out", block) for block in range(12)]
    assert [keys_of(deep, depth=True).count(f"out.{third}") for third in
            ("early", "middle", "late")] == [4, 4, 4]  # fmt: skip
    other = [LinearLayer("w", slice(0, 1), "w", "other", -1)]
    assert keys_of(other, depth=True) == ["other"]


def test_the_range_and_the_first_points():
    models = family("qkv", "out")
    space = space_of(config(alpha_low=0.1, alpha_high=10, scale_high=1.5), models)
    assert space == {
        "alpha.qkv": (0.1, 10, True), "scale.qkv": (0.3, 1.5, False),
        "alpha.out": (0.1, 10, True), "scale.out": (0.3, 1.5, False),
    }  # fmt: skip
    space = space_of(config(), models)
    anchor, *ladder = initial_points(config(), space)
    assert anchor == {"alpha.qkv": 1e6, "scale.qkv": 1, "alpha.out": 1e6, "scale.out": 1}
    assert ladder == [
        {"alpha.qkv": alpha, "scale.qkv": 1, "alpha.out": alpha, "scale.out": 1}
        for alpha in (1e-2, 1.0, 0.1, 10.0)
    ]
    assert initial_points(config(ladder=False), space) == [anchor, ladder[0]]
    narrow = config(alpha_low=0.5, alpha_high=5)  # what lies outside is moved to the border
    tried = [start["alpha.out"] for start in initial_points(narrow, space_of(narrow, models))]
    assert tried == [5, 0.5, 1]  # nothing twice
    alone = config("anchor_scales")
    space = space_of(alone, models)
    assert space == dict.fromkeys(("scale.qkv", "scale.out"), (0.3, 2.0, False))
    scales = (1.0, 0.7, 1.3, 0.85, 1.6)
    assert initial_points(alone, space) == [{"scale.qkv": s, "scale.out": s} for s in scales]
    assert (
        initial_points(config("anchor_scales", ladder=False), space)
        == initial_points(alone, space)[:1]
    )


# -- the choice ----------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_the_best_trial_is_chosen_and_told(sampler):
    stub, clock = Stub(a=near(1.5)), Timer()
    cfg = config(trials=12, startup=4, sampler=sampler, ladder=False)
    chosen, report = search_hyperparameters(cfg, family("qkv"), stub, {"a": 1.0}, clock, 0, None)
    values = [trial["value"] for trial in report["trials"]]
    assert len(values) == report["budget"] == 12
    assert report["best"] == values.index(max(values))
    assert chosen == report["trials"][report["best"]]["params"]
    assert report["val"] == {"a": max(values)}
    assert report["anchor"] == pytest.approx(0.5, abs=1e-5)  # of 1 on the way to 1.5
    assert max(values) > 0.8
    assert report["problems"] == []
    assert stub.asked == stub.told == 13  # the best once more
    assert clock.times["solve"] == clock.times["validation"] == 13
    assert set(clock.report()) == {"solve", "validation", "trials"}


def test_a_search_that_ends_at_the_anchor_says_so():
    stub = Stub(a=near(1.0))
    chosen, report = search_hyperparameters(
        config(trials=6), family("qkv"), stub, {"a": 1.0}, Timer(), 0, None
    )
    assert chosen == {"alpha.qkv": 1e6, "scale.qkv": 1.0}
    assert report["best"] == 0
    assert report["problems"] == ["no trial was better than the anchor itself"]


def test_the_objective_divides_by_what_the_experts_reach():
    # the anchor (W = 1) is right on a, the sure regression (W = 1.99) on b
    stub = Stub(a=near(1.0), b=near(1.99))
    for experts, best in (({"a": 0.1, "b": 1.0}, 0), ({"a": 1.0, "b": 0.1}, 1)):
        cfg = config(trials=2)
        report = search_hyperparameters(cfg, family("qkv"), stub, experts, Timer(), 0, None)[1]
        assert report["best"] == best
        value = sum(report["val"][task] / experts[task] for task in "ab") / 2
        assert report["trials"][best]["value"] == pytest.approx(value)


def test_another_seed_looks_elsewhere():
    def points(seed: int) -> list:
        stub = Stub(a=near(1.5))
        report = search_hyperparameters(
            config(trials=7), family("qkv"), stub, {"a": 1.0}, Timer(), seed, None
        )[1]
        return [(trial["params"], trial["value"]) for trial in report["trials"]]

    assert points(0) == points(0)
    assert points(0)[:5] == points(1)[:5]
    assert points(0)[5:] != points(1)[5:]


# -- validation images ---------------------------------------------------------------------------


def test_accuracies_count_labels():
    ckpts, access = small_checkpoints(), Shown(11)
    validation = Validation(access, ckpts.heads, VIT)
    model = dict(ckpts.base)
    for task, got in validation.accuracies(model).items():
        features = encode_plain(access.draw("val", task), model, VIT)
        guessed = (features @ ckpts.heads[task].T).argmax(-1)
        assert got == (guessed == torch.arange(11) % TASKS[task]).sum().item() / 11
    assert list(validation.data) == sorted(TASKS)


@pytest.mark.parametrize(("limit", "count"), [(0, 11), (5, 5), (7, 7), (99, 11)])
def test_the_first_images_of_each_task_are_enough(limit, count):
    access = Shown(11)
    for images, labels in Validation(access, small_checkpoints().heads, VIT, limit).data.values():
        assert len(images) == len(labels) == count


def test_experts_are_asked_about_their_own_task():
    ckpts = small_checkpoints()
    validation = Validation(Shown(24), ckpts.heads, VIT)
    found = expert_accuracies(validation, ckpts)
    for task, expert in ckpts.experts.items():
        got = validation.accuracy(dict(expert), task)
        assert found[task] == max(got, 1 / 24)


# -- the methods ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bmm", "bmm_datafree", "anchor_scales", "bmm_sampled"])
def test_every_pass_is_announced_and_told(name):
    for settings in ({}, {"objective": "accuracy"}):
        access = Shown()
        method = make(name, access=access, trials=3, anchor="ta", **settings)
        assert access.told == method.num_validation_passes
        assert method.report["budget"] == 3 + (50 if name == "bmm_sampled" else 0)


def test_what_the_search_found_is_what_is_merged():
    method = make("bmm_datafree", trials=6, anchor="ta", in_proj="split", depth=True)
    found = method.report["constants"]
    assert len(found) == 2 * 2 * 4
    assert {"anchor", "grams", "eigh", "solve", "validation", "trials"} == set(
        method.report["seconds"]
    )
    validation = Validation(Shown(), small_checkpoints().heads, VIT)
    assert validation.accuracies(dict(weights_of(method))) == method.report["val"]


def test_a_search_of_one_trial_is_the_anchor():
    method = make("bmm", trials=1, anchor="tsv")
    want = METHODS["tsv"]().merge(small_checkpoints())
    got = weights_of(method)
    assert all(torch.allclose(got[name], want[name], atol=1e-4) for name in want)


class CutError(Exception):
    """The process was killed."""


class Journal(Shown):
    """A support with a journal that is cut off after some passes."""

    def __init__(self, journal, cut: float = inf):
        super().__init__()
        self.journal, self.cut = journal, cut

    def count_pass(self) -> None:
        super().count_pass()
        if self.told >= self.cut:
            raise CutError


@pytest.mark.parametrize("cut", [2, 5])
def test_a_search_that_was_cut_goes_on_as_if_it_had_not_been(tmp_path, cut):
    def build(access) -> tuple[dict[str, Tensor], list]:
        method = make("bmm", access=access, trials=7, startup=3, ladder=False, anchor="ta")
        told = [(trial["params"], trial["value"]) for trial in method.report["trials"]]
        return logits(method), told

    want, trials = build(Shown())
    path = tmp_path / "study.journal"
    with pytest.raises(CutError):
        build(Journal(path, cut))
    assert path.exists()
    again = Journal(path)
    got, resumed = build(again)
    assert resumed == trials
    assert all(torch.equal(got[task], want[task]) for task in TASKS)
