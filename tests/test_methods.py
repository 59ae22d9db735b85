"""Every method keeps the contract of methods/checks.py, and the contract catches who does not."""

import pickle
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import pytest
import torch
from lightning import Trainer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from bench.errors import UnknownNameError, UserError
from methods import METHODS, Checkpoints, MergingMethod, Needs, merge
from methods import checks as contract
from methods.average import Average
from methods.base import NO_PAPER, Held
from methods.checks import EXEMPT, all_checks, cases
from methods.config import BaseConfig, inside
from methods.probe import TASKS, VIT, Recorder, images, logits, small_checkpoints
from methods.ties import Ties
from methods.vit import PlainOps, encode
from methods.weights import Weights, total

PARAMS = [
    pytest.param(
        name, check, id=f"{name}-{check.__name__}",
        marks=[pytest.mark.xfail(reason=EXEMPT[name, check.__name__])]
        if (name, check.__name__) in EXEMPT else [],
    )
    for name, check in cases()
]  # fmt: skip


@pytest.mark.parametrize(("name", "check"), PARAMS)
def test_contract(name, check):
    check(METHODS[name], small_checkpoints())


def test_the_methods_of_the_foundation_are_found():
    assert set(METHODS) >= {"pretrained", "individual", "average", "task_arithmetic", "ties"}
    titles = [METHODS[name].title for name in ("pretrained", "individual", "average")]
    assert titles == ["Pretrained", "Individual", "Average"]
    assert [METHODS[n].title for n in ("task_arithmetic", "ties")] == ["Task Arithmetic", "TIES"]


def test_an_unknown_method_is_one_line_with_a_hint():
    with pytest.raises(UnknownNameError, match=r"no method named 'tie'; did you mean 'ties'\?"):
        METHODS["tie"]


# -- a method that learns fits the interface -----------------------------------------------------


class Learner(MergingMethod):
    """theta = theta_0 + coef * sum_t tau_t, coef learned by entropy minimisation."""

    name = "test_methods"
    title = "Learner"
    paper = NO_PAPER
    needs = Needs.IMAGES
    stores = "one model"

    def prepare(self, ckpts: Checkpoints, support) -> None:
        self.shown = sum(len(batch) for task in ckpts.experts for batch in support.images(task))
        self.base, self.sum = Held(ckpts.base), Held(total(ckpts.task_vectors))
        self.coef = nn.Parameter(torch.tensor(0.3))

    def current(self) -> Weights:
        tau = Weights(self.sum()).map(lambda tensor: self.coef * tensor)
        return Weights(self.base()) + tau

    def merge(self, ckpts: Checkpoints) -> Weights:
        return self.current()

    def features(self, images: Tensor, task: str) -> Tensor:
        if not self.training:
            return super().features(images, task)
        return encode(images, PlainOps(self.current()), self.vit)

    def adapt_loss(self, images: Mapping[str, Tensor]) -> Tensor:
        def entropy(values: Tensor) -> Tensor:
            return -(values.softmax(-1) * values.log_softmax(-1)).sum(-1).mean()

        return torch.stack([entropy(self.predict(x, task)) for task, x in images.items()]).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam([self.coef], lr=0.1)

    def on_fit_end(self) -> None:
        self.hold(self.current())


@pytest.mark.parametrize("check", all_checks(), ids=lambda check: check.__name__)
def test_a_method_that_learns_can_keep_the_contract(check):
    check(Learner, small_checkpoints())


def test_a_trainer_adapts_a_method():
    method = Learner().build(small_checkpoints(), Recorder())
    assert method.shown == 8 * len(TASKS)
    before = method.train().adapt_loss(dict.fromkeys(TASKS, images())).item()
    trainer = Trainer(
        max_steps=5, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_checkpointing=False, enable_model_summary=False,
    )  # fmt: skip
    stream = DataLoader([dict.fromkeys(TASKS, images())] * 5, batch_size=None)
    trainer.fit(method, stream)
    assert method.coef.item() != pytest.approx(0.3, abs=0.1)
    assert method.train().adapt_loss(dict.fromkeys(TASKS, images())).item() < before
    held = Weights(method.eval().models["all"]()).flat()
    torch.testing.assert_close(held, method.current().flat().detach())


# -- methods that break the contract are caught by the check of that name ------------------------


def breach(check: str, **members: object):
    """A method that is averaging, but for ``members``."""
    cls = type("Broken", (Average,), {"__doc__": Average.__doc__, "name": "average", **members})
    return pytest.param(getattr(contract, f"check_{check}"), cls, id=check)


def writes(self, ckpts):
    next(iter(ckpts.experts.values()))["proj"].add_(1)
    return Average.merge(self, ckpts)


def takes_the_first(self, ckpts):
    return next(iter(ckpts.experts.values()))


def adds_noise(self, ckpts):
    return Average.merge(self, ckpts).map(lambda tensor: tensor + torch.randn(tensor.shape))


def forgets_to_divide(self, ckpts):
    return total(list(ckpts.experts.values()))


def holds_everything(self, ckpts):
    return total([expert.materialise() for expert in ckpts.experts.values()])


def centres_the_batch(self, images, task):
    found = Average.features(self, images, task)
    return found - found.mean(0)


def looks_at_the_task(self, images, task):
    return Average.features(self, images, task) * (1 if task == "two" else -1)


def keeps_a_tensor_aside(self, ckpts, support):
    self.aside = [torch.ones(VIT.output_dim)]


def keeps_a_fleeting_buffer(self, ckpts, support):
    self.register_buffer("aside", torch.ones(VIT.output_dim), persistent=False)


def adds_what_was_kept(self, images, task):
    aside = self.aside[0] if isinstance(self.aside, list) else self.aside
    return Average.features(self, images, task) + aside


def multiplies_by_what_was_kept(self, images, task):
    return Average.features(self, images, task) @ torch.diag(self.aside[0])


def reads_images(self, ckpts, support):
    list(support.images("two"))


@dataclass(frozen=True, kw_only=True)
class Big(BaseConfig):
    scale: float = 1.0
    grid = {"scale": tuple(i / 10 for i in range(33))}


@dataclass(frozen=True, kw_only=True)
class Doubled(BaseConfig):
    scale: float = 1.0
    grid = {"scale": (0.5, 1.0, 0.5)}


BREACHES = [
    breach("says_where_it_comes_from", __doc__="Averages."),
    breach("says_where_it_comes_from", name="mean"),
    breach("says_where_it_comes_from", paper=replace(Average.paper, where="")),
    breach("grid_is_within_the_budget", Config=Big),
    breach("grid_is_within_the_budget", Config=Doubled),
    breach("logits_have_one_column_per_class",
           predict=lambda self, images, task: torch.zeros(len(images), 2)),
    breach("leaves_checkpoints_alone", merge=writes),
    breach("depends_on_its_seed_alone", merge=adds_noise),
    breach("still_experts_change_nothing", merge=forgets_to_divide),
    breach("lone_expert_comes_out", merge=lambda self, ckpts: ckpts.base),
    breach("task_order_does_not_matter", merge=takes_the_first),
    breach("predict_ignores_its_neighbours", features=centres_the_batch),
    breach("knows_the_task_only_if_it_says_so", features=looks_at_the_task),
    breach("knows_the_task_only_if_it_says_so", knows_task=True,
           merge=lambda self, ckpts: dict.fromkeys(TASKS, ckpts.base)),
    breach("follows_its_device",
           prepare=keeps_a_tensor_aside, features=adds_what_was_kept),
    breach("follows_its_device",
           prepare=keeps_a_tensor_aside, features=multiplies_by_what_was_kept),
    breach("state_survives", prepare=keeps_a_fleeting_buffer, features=adds_what_was_kept),
    breach("stores_what_it_says", stores=""),
    breach("touches_only_what_it_needs", prepare=reads_images),
    breach("touches_only_what_it_needs", needs=Needs.VAL_LABELS),
    breach("adapts_only_on_what_it_needs", adapt_loss=lambda self, images: torch.zeros(())),
    breach("holds_one_tensor_of_each", merge=holds_everything),
]  # fmt: skip


@pytest.mark.parametrize(("check", "cls"), BREACHES)
def test_a_breach_is_caught(check: Callable, cls):
    with pytest.raises(AssertionError):
        check(cls, small_checkpoints())


def test_every_check_catches_something():
    caught = {case.values[0] for case in BREACHES}
    frozen = contract.check_settings_have_defaults_and_are_frozen  # dataclasses see to that one
    assert caught == {*all_checks()} - {frozen}


# -- what a built method is ----------------------------------------------------------------------


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
    assert Learner().build(ckpts, Recorder()).num_stored == 3 * one + 1  # base, sum, merged, coef


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
    with pytest.raises(UserError, match="test_methods needs unlabelled images; build it with"):
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


# -- settings ------------------------------------------------------------------------------------


def test_settings_are_read_from_text():
    cfg = Ties.Config.parse(["keep=1", "merge=sum", "scale=3e-1"])
    assert cfg == Ties.Config(keep=1.0, merge="sum", scale=0.3)
    assert type(cfg.keep) is float
    assert Ties.Config.make({"keep": "0.5", "scale": 2}) == Ties.Config(keep=0.5, scale=2.0)
    assert Ties.Config.parse([]) == Ties.Config()
    assert Ties.Config().as_dict() == {
        "keep": 0.2, "merge": "mean", "scale": 1.0, "zero_sign": "zero",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "pairs", "message"),
    [
        ("ties", ["keep=20"], r"ties\.keep must be a number in \(0, 1\]; got 20\.0"),
        ("ties", ["keep=0"], r"ties\.keep must be a number in \(0, 1\]; got 0\.0"),
        ("ties", ["keep=nan"], r"ties\.keep must be .*; got nan"),
        ("ties", ["scale=inf"], r"ties\.scale must be a number in \[0, inf\); got inf"),
        ("ties", ["scale=much"], r"ties\.scale must be .*; got 'much'"),
        ("ties", ["merge=max"], r"ties\.merge must be one of mean, sum; got 'max'"),
        ("ties", ["kep=0.2"], r"ties has no setting 'kep'; did you mean 'keep'\? it has: keep, "),
        ("ties", ["keep"], r"a setting of ties is written KEY=VALUE; got 'keep'"),
        ("ties", ["keep=.1", "keep=.2"], r"ties\.keep is set twice"),
        ("average", ["scale=1"], r"average has no setting 'scale'; it has none"),
        ("task_arithmetic", ["scale=-1"], r"task_arithmetic\.scale must be .*; got -1\.0"),
    ],
)
def test_bad_settings_are_one_line(name, pairs, message):
    with pytest.raises(UserError, match=message):
        METHODS[name].Config.parse(pairs)


@dataclass(frozen=True, kw_only=True)
class Every(BaseConfig):
    method = "every"
    count: Annotated[int, "[1, 9]"] = 2
    clamp: bool = False
    how: Literal["a", "b"] = "a"
    note: str = ""


def test_every_kind_of_setting_is_checked():
    assert Every.parse(["count=3", "clamp=True", "how=b", "note=x=y"]) == Every(
        count=3, clamp=True, how="b", note="x=y"
    )
    for bad in ("count=2.5", "count=10", "clamp=1", "how=c"):
        with pytest.raises(UserError, match=f"every.{bad.partition('=')[0]} must be"):
            Every.parse([bad])
    for value in (True, 2.0, None):
        with pytest.raises(UserError, match="whole number"):
            Every(count=value)


def test_candidates_are_the_grid_around_the_other_fields():
    cfg = replace(Ties.Config(), zero_sign="majority")
    found = list(cfg.candidates())
    assert len(found) == 32
    assert {(c.keep, c.merge, c.scale) for c in found} == {
        (k, m, s) for k in cfg.grid["keep"] for m in cfg.grid["merge"] for s in cfg.grid["scale"]
    }
    assert {c.zero_sign for c in found} == {"majority"}
    fixed = list(replace(cfg, keep=0.33).candidates(fixed=["keep"]))
    assert len(fixed) == 16
    assert {c.keep for c in fixed} == {0.33}
    assert list(Average.Config().candidates()) == [Average.Config()]


@pytest.mark.parametrize("name", METHODS)
def test_settings_travel_between_processes(name):
    cfg = METHODS[name].Config()
    assert pickle.loads(pickle.dumps(cfg)) == cfg
    assert type(cfg).method == name


def test_an_interval_must_be_one():
    assert inside(0.5, "[0, 1)")
    with pytest.raises(AssertionError, match="not an interval"):
        inside(1, "0..1")


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
