"""Every method keeps the contract of methods/contract.py, and the contract catches who does not."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from lightning import Trainer
from torch import nn
from torch.utils.data import DataLoader

from mergeshift import UnknownNameError
from methods import METHODS, Needs, contract
from methods.average import Average
from methods.common.config import BaseConfig, Setting
from methods.common.data_access import AdaptationSchedule
from methods.common.weights import Weights, total
from methods.contract import (
    EXEMPT,
    TASKS,
    VIT,
    Recorder,
    all_checks,
    cases,
    images,
    small_checkpoints,
)
from tests.helpers.learning_methods import Learner

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


@pytest.mark.parametrize(
    ("name", "law"),
    [("pretrained", "ignored"), ("average", "averaged"), ("ties", "averaged"),
     ("task_arithmetic", "added")],
)  # fmt: skip
def test_duplicates_of_well_known_methods_obey_a_law(name, law):
    declared = type("Declared", (METHODS[name],), {"duplicates": law})
    contract.check_duplicates_do_what_is_declared(declared, small_checkpoints())
    if law != "ignored":  # what is ignored is averaged as well
        stronger = type("Stronger", (METHODS[name],), {"duplicates": "ignored"})
        with pytest.raises(AssertionError, match="duplicates are not ignored"):
            contract.check_duplicates_do_what_is_declared(stronger, small_checkpoints())


def test_the_methods_of_the_foundation_are_found():
    assert set(METHODS) >= {"pretrained", "individual", "average", "task_arithmetic", "ties"}
    titles = [METHODS[name].title for name in ("pretrained", "individual", "average")]
    assert titles == ["Pretrained", "Individual", "Average"]
    assert [METHODS[n].title for n in ("task_arithmetic", "ties")] == ["Task Arithmetic", "TIES"]


def test_an_unknown_method_is_one_line_with_a_hint():
    with pytest.raises(UnknownNameError, match=r"no method named 'tie'; did you mean 'ties'\?"):
        METHODS["tie"]


# -- a method that learns fits the interface -----------------------------------------------------


@pytest.mark.parametrize("check", all_checks(), ids=lambda check: check.__name__)
def test_a_method_that_learns_can_keep_the_contract(check):
    check(Learner, small_checkpoints())


def test_a_trainer_adapts_a_method():
    ckpts, losses = small_checkpoints(), []

    def fit(method):
        assert method.shown == 8 * len(TASKS)
        batch = dict.fromkeys(TASKS, images())
        losses.append(method.adapt_loss(batch).item())
        trainer = Trainer(
            max_steps=5, accelerator="cpu", logger=False, enable_progress_bar=False,
            enable_checkpointing=False, enable_model_summary=False,
        )  # fmt: skip
        stream = DataLoader([batch] * 5, batch_size=None)
        base, tau = method.base, method.sum
        trainer.fit(method, stream)
        method.base, method.sum = base, tau
        losses.append(method.adapt_loss(batch).item())

    method = Learner().build(ckpts, Recorder(), fit)
    coef = method.learned.coef
    assert coef.item() != pytest.approx(0.3, abs=0.1)
    assert losses[1] < losses[0]
    assert not coef.requires_grad
    want = ckpts.base + coef.item() * total(ckpts.task_vectors)
    torch.testing.assert_close(Weights(method.models["all"]()).flat(), want.flat())


# -- methods that break the contract are caught by the check of that name ------------------------


def breach(check: str, **members: object):
    """A method that is averaging, but for ``members``."""
    own = {"__doc__": Average.__doc__, "__module__": "methods.average", "name": "average"}
    cls = type("Broken", (Average,), {**own, **members})
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


def keeps_a_tensor_aside(self, ckpts):
    self.aside = [torch.ones(VIT.output_dim)]


def keeps_a_fleeting_buffer(self, ckpts):
    self.register_buffer("aside", torch.ones(VIT.output_dim), persistent=False)


def adds_what_was_kept(self, images, task):
    aside = self.aside[0] if isinstance(self.aside, list) else self.aside
    return Average.features(self, images, task) + aside


def multiplies_by_what_was_kept(self, images, task):
    return Average.features(self, images, task) @ torch.diag(self.aside[0])


def reads_images(self, ckpts, access):
    list(access.unlabeled("two"))


def has_a_number(self, ckpts):
    self.learned, self.factor = nn.Linear(1, 1), 1.0


def forgets_it(self, ckpts, access):
    self.factor = 2.0
    self.merge = lambda ckpts: self.factor * Average.merge(self, ckpts)


class Big(BaseConfig):
    scale: float = Setting(1.0, grid=tuple(i / 10 for i in range(33)))


class Twice(BaseConfig):
    scale: float = Setting(1.0, grid=(0.5, 1.0))


class Doubled(BaseConfig):
    scale: float = Setting(1.0, grid=(0.5, 1.0, 0.5))


BREACHES = [
    breach("says_where_it_comes_from", __doc__="Averages."),
    breach("says_where_it_comes_from", name="mean"),
    breach("says_where_it_comes_from", name="averaged"),
    breach("says_where_it_comes_from", paper=replace(Average.paper, where="")),
    breach("says_where_it_comes_from", paper=replace(Average.paper, authors="")),
    breach("grid_is_within_the_budget", Config=Big),
    breach("grid_is_within_the_budget", Config=Doubled),
    breach("grid_is_within_the_budget", Config=Twice, num_validation_passes=17),
    breach("logits_have_one_column_per_class",
           predict=lambda self, images, task: torch.zeros(len(images), 2)),
    breach("leaves_checkpoints_alone", merge=writes),
    breach("depends_on_its_seed_alone", merge=adds_noise),
    breach("still_experts_change_nothing", merge=forgets_to_divide),
    breach("lone_expert_comes_out", merge=lambda self, ckpts: ckpts.base),
    breach("task_order_does_not_matter", merge=takes_the_first),
    breach("duplicates_do_what_is_declared", duplicates="ignored"),
    breach("duplicates_do_what_is_declared", duplicates="averaged", needs=Needs.IMAGES),
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
    breach("touches_only_what_it_needs", learn=reads_images),
    breach("touches_only_what_it_needs", needs=Needs.VAL_LABELS),
    breach("adapts_only_on_what_it_needs", adaptation=AdaptationSchedule(1, 1)),
    breach("need_not_learn_twice", needs=Needs.IMAGES, prepare=has_a_number, learn=forgets_it),
    breach("need_not_learn_twice", needs=Needs.IMAGES),
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
