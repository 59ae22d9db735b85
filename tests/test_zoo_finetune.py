"""Recipes of experts: the published one, and one training on several devices."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
import torch

from bench import devices
from bench.config import SWEEPS
from bench.errors import UserError
from bench.plan import resolve
from bench.zoo.encoders import ENCODERS
from bench.zoo.finetune import AsPublished, Batches, Expert, FineTune, Spread, accuracy, finetune
from methods.vit import ViT, init_weights
from methods.weights import Weights
from tasks import load, suite

TOY, TASK = ENCODERS["toy-vit"], suite("toy")[0]
QUICK = AsPublished(steps=3, batch=4, lr=1e-3)


class Steepest(FineTune):
    """Steps along the gradient: Adam's divide by its size, and where it is 0 but for rounding
    (the keys' bias) they are anything."""

    def optimiser(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.SGD:
        return torch.optim.SGD(parameters, self.lr)


def quiet() -> None:
    """Told of every step; picklable, as several processes need it."""


def tuned(recipe: FineTune, spread: Spread = Spread()):  # noqa: B008
    head = TOY.heads([TASK])[TASK.name]
    return finetune(TASK, TOY.vit, TOY.base(), head, recipe, TOY.normalise, 0, quiet, spread)


# -- the published recipe ------------------------------------------------------------------------


def test_the_recipe_is_that_of_the_model_cards():
    """Adam at a constant 1e-5, 4,000 steps of 32 images, the vision encoder alone."""
    recipe = ENCODERS["ViT-B-32-finetuned"].recipe
    assert (recipe.steps, recipe.batch, recipe.lr, recipe.weight_decay) == (4000, 32, 1e-5, 0)
    adam = recipe.optimiser([torch.nn.Parameter(torch.zeros(1))])
    assert type(adam) is torch.optim.Adam  # one alone: there is no schedule
    assert {ENCODERS[f"{name}-finetuned"].recipe for name in ("ViT-B-16", "ViT-L-14")} == {recipe}
    assert type(ENCODERS["pocket-vit"].recipe) is FineTune


def test_the_first_step_moves_every_entry_by_the_rate_and_the_projection_not_at_all():
    # Adam's first step is lr * g / (|g| + 1e-8): the rate, but for gradients near to 0
    weights, facts = tuned(replace(QUICK, steps=1))
    base = TOY.base()
    assert torch.equal(weights["proj"], base["proj"])
    for name, tensor in weights.items():
        step = (tensor - base[name]).abs()
        assert step.max() <= 1.001e-3
        if name != "proj":
            assert step.median() > 0.9e-3 or "embedding" in name
    assert len(facts["loss"]) == 1


def test_images_are_shown_as_they_are():
    images, labels = Batches(TASK, QUICK, 0)[2]
    train = load(TASK, "train")
    known = {image.tobytes(): label for image, label in
             zip(train.images, train.labels.tolist(), strict=True)}  # fmt: skip
    assert [known[image.numpy().tobytes()] for image in images] == labels.tolist()


def test_recipes_decide_keys_by_all_their_fields():
    keys = {replace(TOY, recipe=recipe).expert_key(TASK, 0) for recipe in (
        QUICK, FineTune(steps=3, batch=4, lr=1e-3, weight_decay=0, pad=0),
        replace(QUICK, frozen=()), replace(QUICK, steps=4))}  # fmt: skip
    assert len(keys) == 4


# -- what was made before is found ---------------------------------------------------------------


def test_experts_and_runs_have_the_keys_that_they_ever_had():
    """Of the first release: experts and results that lie on a disk are found by these."""
    pocket = {task.name: task for task in suite("pocket8")}
    for name, keys in (
        ("mnist", ["11a74d32dc92e029", "415a72e34ca63718"]),
        ("letters", ["d751155a7d5e042c", "26657efd343cb55c"]),
        ("brainplane", ["992da60aad159337", "58a34cc4801602ec"]),
    ):
        found = [ENCODERS["pocket-vit"].expert_key(pocket[name], seed) for seed in (0, 1)]
        assert found == keys
    assert [run.id for run in resolve(SWEEPS["smoke"]).runs] == [
        "toy-pretrained-cec2498aec3d972b",
        "toy-individual-fa640969db8a44b1",
        "toy-average-def4d857ba45036e",
        "toy-task_arithmetic-1b256eca50dd75d9",
        "toy-ties-8d2a5b8b8adb8685",
    ]


# -- several devices -----------------------------------------------------------------------------


def test_parts_of_a_batch_make_up_the_batch():
    recipe = FineTune(steps=2, batch=10, pad=2)
    images, labels = Batches(TASK, recipe, 0)[1]
    parts = [Batches(TASK, recipe, 0, (rank, 3))[1] for rank in range(3)]
    assert [len(part[1]) for part in parts] == [4, 3, 3]
    for rank, part in enumerate(parts):
        assert torch.equal(part[0], images[rank::3])
        assert torch.equal(part[1], labels[rank::3])


@pytest.mark.slow  # it starts two interpreters
def test_two_processes_learn_what_one_does():
    """Gradients of halves, averaged, are those of the whole; the losses come back, too."""
    with devices.using("cpu"):
        one, facts = tuned(Steepest(steps=3, batch=4, lr=0.01))
        two, shared = tuned(Steepest(steps=3, batch=4, lr=0.01), Spread(devices=2))
    moved = Weights(one) - TOY.base()
    assert moved.flat().norm() > 0.05
    for name in moved:
        torch.testing.assert_close(two[name], one[name], rtol=1e-4, atol=1e-5)
    assert shared["val_accuracy"] == pytest.approx(facts["val_accuracy"], abs=0.05)
    assert shared["loss"] == pytest.approx(facts["loss"], abs=2e-4)


def test_batches_may_be_made_by_other_processes():
    with devices.using("cpu"):
        one, _ = tuned(QUICK)
        two, _ = tuned(QUICK, Spread(workers=1))
    assert all(torch.equal(two[name], tensor) for name, tensor in one.items())


@pytest.mark.parametrize("strategy", ["ddp", "fsdp", "deepspeed"])
def test_a_strategy_that_starts_the_command_again_is_refused(strategy, command):
    with pytest.raises(UserError, match=f"--strategy {strategy} starts the command anew"):
        Spread(devices=2, strategy=strategy)
    words = ("zoo", "build", "--suite", "toy", "--strategy", strategy, "--devices", 2)
    assert "auto, ddp_spawn, ddp_fork" in command(*words).error


def test_devices_need_equal_parts_and_one_training_at_a_time(command):
    with pytest.raises(UserError, match="a batch of 4 images is not divided by 3"):
        tuned(QUICK, Spread(devices=3))
    words = ("zoo", "build", "--suite", "toy", "--devices", 2)
    assert "give --jobs 1" in command(*words, "--jobs", 2).error


def test_accuracy_is_a_share_of_all_images():
    vit = ViT(32, 16, width=8, layers=1, heads=1, output_dim=4)
    base = init_weights(vit, torch.Generator().manual_seed(0))
    same = Expert(vit, base, torch.zeros(2, 4), QUICK, TOY.normalise)  # both alike: class 0
    split = load(TASK, "val")
    assert accuracy(same, split, batch=7) == pytest.approx(float(np.mean(split.labels == 0)))
