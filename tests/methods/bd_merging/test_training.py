"""BD-Merging: what it learns, and what it says when that fails."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from methods import METHODS, Needs
from methods.bd_merging.config import BDConfig
from methods.bd_merging.evidential_head import label_space
from methods.bd_merging.training import (
    RouterLosses,
    contrast_problems,
    router_problems,
    summarise_router,
)
from methods.contract import TASKS, VIT, images, small_checkpoints
from tests.helpers.bd_merging_parts import BOTH, IGNORED, ORDER, built
from tests.helpers.learning_methods import Curves, fit_on, random_images

pytestmark = pytest.mark.filterwarnings(IGNORED)


@pytest.mark.parametrize("name", BOTH)
def test_learning_makes_predictions_surer(name):
    seen, curves = random_images(16), Curves()
    method = built(name, fit=fit_on([seen] * 12, curves), lr=0.02)
    losses = [step["entropy"] for step in curves.steps]
    assert losses[-1] < 0.95 * losses[0]
    told = {"contrast", "evenness", "largest_weight", "negatives", "same_task", "anchors"}
    assert told <= curves.steps[0].keys()
    usage = method.report["usage"]
    assert list(usage) == ORDER
    assert sum(usage.values()) == pytest.approx(1)
    rows = ["all"] if name == "bd_merging_task" else ["input", *VIT.blocks, "output"]
    table = method.coefficients
    assert list(table) == rows
    assert list(table[rows[0]]) == list(TASKS)
    for task in TASKS:
        mean = np.mean([table[row][task] for row in rows])
        assert mean == pytest.approx(usage[task], abs=1e-6)
    assert not hasattr(method, "last")
    assert not any(p.requires_grad for p in method.parameters())


def test_the_head_is_trained_once_and_epsilon_is_fixed():
    method = built(quantile=0.5, head_steps=40)
    assert [len(curve) for curve in method.curves.values()] == [40, 40]
    report = method.report
    assert report["epsilon"] == method.learned.epsilon.item() > 0
    assert (report["classes"], report["classes_used"]) == (9, report["classes_used"])
    lower = built(quantile=0.1, head_steps=40)
    assert lower.report["epsilon"] < report["epsilon"]
    assert lower.report["median_u"] == report["median_u"]
    assert torch.equal(method.learned.head.rows, label_space(small_checkpoints()).rows)
    free = built(head="linear")
    assert not torch.equal(free.learned.head.rows, method.learned.head.rows)


@pytest.mark.filterwarnings("default")
def test_a_head_that_collapses_warns_and_says_so():
    config = {"kl": 5.0, "kl_by": "constant", "head_steps": 400, "head_lr": 0.2}
    with pytest.warns(UserWarning, match=r"bd_merging: the head has lost its evidence .*=classes"):
        method = built(**config)
    assert "lost its evidence" in method.report["problems"][0]
    assert method.report["median_u"] > 0.95
    with pytest.warns(UserWarning, match="sure of everything"):
        built(kl=0.0, head_steps=200, head_lr=0.1)


def test_failed_trainings_of_the_router_say_so():
    equal = dict.fromkeys("abcd", 0.25)
    assert router_problems(equal, 0.5) == []
    assert "stuck at equal weights (mean largest 0.300" in router_problems(equal, 0.3)[0]
    one = {"a": 0.94, "b": 0.02, "c": 0.02, "d": 0.02}
    assert router_problems(one, 1.0) == [
        "the router gives all to a (mean weight 0.940 > 0.9)",
        "the router leaves out b (0.020), c (0.020), d (0.020): below 1 / (4 * 4)",
    ]
    least = {"a": 0.5, "b": 0.5 - 1 / 16, "c": 1 / 16, "null": 0.0}
    assert router_problems(least, 0.9) == ["the router leaves out c (0.062): below 1 / (4 * 3)"]
    assert router_problems({"a": 1.0}, 1.0) == []  # one task has no choice
    assert "stuck" in built().report["problems"][-1]  # two steps change nothing


def taken(weights: list[list[float]], **numbers: float) -> RouterLosses:
    """A step of which this is known."""
    known = {name: torch.tensor(value) for name, value in numbers.items()}
    unknown = dict.fromkeys(RouterLosses._fields, torch.zeros(()))
    return RouterLosses(**unknown | known | {"weights": torch.tensor(weights)})


def test_the_last_steps_are_averaged():
    method = built("bd_merging_task", fit=lambda _: None)
    steps = [
        taken([[1.0, 0, 0], [0, 1, 0]], negatives=0.2, same_task=0.5, anchors=0.0),
        taken([[0.5, 0.5, 0], [0, 0, 1]], negatives=0.4, same_task=0.7, anchors=0.5),
    ]
    report = summarise_router(method.learned, steps, method.cfg)
    assert report["usage"] == {"four": 0.375, "three": 0.375, "two": 0.25}
    assert report["largest_weight"] == pytest.approx((1 + 0.75) / 2)
    assert report["negatives"] == pytest.approx(0.3)
    assert report["same_task"] == pytest.approx(0.6)
    assert report["anchors"] == 0.25
    assert report["problems"] == []
    assert (
        "taught nothing" in summarise_router(method.learned, steps[:1], method.cfg)["problems"][0]
    )


@pytest.mark.parametrize(("negatives", "config", "said"), [
    (0.0, {}, "(none is negative); lower quantile"),
    (1.0, {}, "(all are negative); raise quantile"),
    (1.0, {"threshold": "value"}, "(all are negative); raise epsilon"),
    (0.0, {"near": "radius"}, "(none is negative); lower quantile or raise radius"),
    (0.3, {}, "(those of one image are all alike); raise nearest"),
    (0.3, {"near": "radius"}, "(those of one image are all alike); raise radius"),
    (0.3, {"conf": False}, "(all neighbours of an image are alike); set conf=true"),
])  # fmt: skip
def test_a_contrastive_loss_that_taught_nothing_says_why(negatives, config, said):
    (problem,) = contrast_problems(0.0, negatives, BDConfig(**config))
    assert problem == (
        "the contrastive loss taught nothing: in the last steps no image had both positive and "
        f"negative neighbours {said}"
    )
    assert contrast_problems(0.01, negatives, BDConfig(**config)) == []
    for off in ({"contrast": False}, {"eta": 0.0}):  # not asked to
        assert contrast_problems(0.0, negatives, BDConfig(**config | off)) == []


def test_only_trainings_without_anchors_say_so():
    def said(shown, **config) -> list[str]:
        report = built("bd_merging_task", fit=fit_on(shown), **config).report
        return [text for text in report["problems"] if "taught nothing" in text]

    shown = random_images(8)
    assert said([shown] * 2) == []
    assert "none is negative" in said([shown] * 2, threshold="value", epsilon=1e9)[0]
    assert "all are negative" in said([shown] * 2, threshold="value", epsilon=-1.0)[0]
    assert said([shown] * 2, threshold="value", epsilon=1e9, contrast=False) == []
    one = {"three": shown["three"][:1]}  # no neighbours
    assert len(said([one] * 10)) == 1
    assert said([one] * 9 + [shown]) == []


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("size", [1, 3])
def test_few_tasks_few_classes_and_small_batches_work(name, count, size):
    ckpts = small_checkpoints()
    few = [*TASKS][:count]
    ckpts = replace(
        ckpts,
        experts={task: ckpts.experts[task] for task in few},
        heads={task: torch.ones(1, 16) for task in few},  # of one class
        classes=dict.fromkeys(few, ("one",)),  # of one name
    )
    method = built(name, ckpts, fit=fit_on([random_images(size, few)] * 2))
    assert len(method.learned.head.rows) == 1
    values, weights = method.predict_routed(images()[:1], few[0])
    assert values.shape == (1, 1)
    assert weights.shape == ((1, 4, count) if name == "bd_merging" else (1, count))
    assert all(t.isfinite().all() for t in method.learned.state_dict().values())


def test_the_defaults_are_those_of_the_paper_where_it_has_some():
    cfg = METHODS["bd_merging"].Config()
    assert (cfg.kl, cfg.gamma, cfg.eta) == (0.1, 0.1, 0.1)
    assert (cfg.steps, cfg.batch, cfg.granularity) == (300, 16, "layer")
    assert METHODS["bd_merging_task"].Config() == METHODS["bd_merging_task"].Config(
        granularity="task"
    )
    assert {f.name for f in fields(METHODS["bd_merging_task"].Config)} == {
        f.name for f in fields(cfg)
    }
    assert (METHODS["bd_merging"].title, METHODS["bd_merging_task"].title) == (
        "BD-Merging (reimpl.)", "BD-Merging, task-wise (reimpl.)",
    )  # fmt: skip
    assert METHODS["bd_merging"].paper == METHODS["bd_merging_task"].paper
    method = METHODS["bd_merging"]()
    assert (method.needs, method.knows_task) == (Needs.IMAGES, False)
    assert (method.adaptation.steps, method.adaptation.batch) == (300, 16)
    assert built().stores == "one model, a task vector per task, a router and an evidential head"
