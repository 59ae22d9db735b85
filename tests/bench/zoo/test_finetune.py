"""Recipes of experts: the published one, and one training on several devices."""

from collections.abc import Iterable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from bench.runtime import devices
from bench.zoo import experts
from bench.zoo.encoders import ENCODERS
from bench.zoo.experts import preserved
from bench.zoo.finetune import Batches, Expert, Preserved, Spread, accuracy, finetune
from bench.zoo.recipes import AsPublished, FineTune, Preserving
from mergeshift import UserError
from methods.common.vit import PlainOps, ViT, encode, encode_plain, init_weights
from methods.common.weights import Weights
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
    assert recipe == AsPublished()
    assert (recipe.cosine, recipe.epochs, recipe.pad) == (False, True, 0)
    assert (recipe.steps, recipe.batch, recipe.lr, recipe.weight_decay) == (4000, 32, 1e-5, 0)
    adam = recipe.optimiser([torch.nn.Parameter(torch.zeros(1))])
    assert type(adam) is torch.optim.Adam  # one alone: there is no schedule
    assert {ENCODERS[f"{name}-finetuned"].recipe for name in ("ViT-B-16", "ViT-L-14")} == {recipe}
    assert type(ENCODERS["pocket-vit"].recipe) is Preserving


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


def test_epochs_show_every_image_once_before_any_twice():
    """Batches of 4 of 10 images: 2 and a half make an epoch, and the third begins the next."""
    recipe = replace(QUICK, batch=4)
    drawn = [recipe.rows(("task", 0), step, 10, np.random.default_rng(step)) for step in range(10)]
    assert [len(rows) for rows in drawn] == [4] * 10
    epochs = np.concatenate(drawn).reshape(4, 10)
    assert np.sort(epochs).tolist() == [list(range(10))] * 4
    assert len({tuple(epoch) for epoch in epochs}) == 4  # each in an order of its own
    again = recipe.rows(("task", 0), 7, 10, np.random.default_rng(0))
    assert again.tolist() == drawn[7].tolist()  # a step is the same, whatever came before it
    assert recipe.rows(("task", 1), 7, 10, np.random.default_rng(0)).tolist() != again.tolist()
    small = replace(QUICK, batch=7).rows(("task", 0), 1, 3, np.random.default_rng(0))
    assert (len(small), set(small.tolist())) == (7, {0, 1, 2})  # the last two of an epoch, one
    # whole epoch, and the first two of the next


def test_drawn_from_all_for_each_step_as_the_pocket_recipe_does():
    rows = replace(QUICK, epochs=False, batch=40).rows((), 0, 10, np.random.default_rng(3))
    assert rows.tolist() == np.random.default_rng(3).integers(0, 10, 40).tolist()
    assert FineTune(batch=40).rows((), 0, 10, np.random.default_rng(3)).tolist() == rows.tolist()


def test_the_rate_may_fall_along_a_cosine():
    """lr (1 + cos(pi s / steps)) / 2 at step s: of 4 steps 1, .854, .5, .146 times it."""
    weight = torch.nn.Parameter(torch.ones(1))
    (adam,), (told,) = replace(QUICK, steps=4, lr=2.0, cosine=True).optimiser([weight])
    rates = []
    for _ in range(4):
        rates.append(adam.param_groups[0]["lr"])
        adam.step()
        told["scheduler"].step()
    assert rates == pytest.approx([2, 1.7071, 1, 0.2929], abs=1e-4)
    assert adam.param_groups[0]["lr"] == pytest.approx(0)
    assert told["interval"] == "step"


def test_recipes_decide_keys_by_all_their_fields():
    keys = {replace(TOY, recipe=recipe).expert_key(TASK, 0) for recipe in (
        QUICK, FineTune(steps=3, batch=4, lr=1e-3, weight_decay=0, pad=0),
        replace(QUICK, frozen=()), replace(QUICK, steps=4), replace(QUICK, cosine=True),
        replace(QUICK, epochs=False),
    )}  # fmt: skip
    assert len(keys) == 6


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


# -- keeping features in place -------------------------------------------------------------------


def held(count: int = 12) -> Preserved:
    """Pictures of no task, and their features by the base."""
    images = torch.randint(
        0, 256, (count, 32, 32, 3), generator=torch.Generator().manual_seed(4), dtype=torch.uint8
    )
    with torch.inference_mode():
        found = encode_plain(TOY.normalise(images), TOY.base(), TOY.vit)
    return Preserved(images, F.normalize(found, dim=-1).clone())


def kept(preserve: float, steps: int = 20):
    recipe = Preserving(
        steps=steps, batch=16, lr=3e-3, pictures=6, preserve=preserve, blocks=(1,), pool="0" * 16
    )
    head = TOY.heads([TASK])[TASK.name]
    return recipe, finetune(
        TASK, TOY.vit, TOY.base(), head, recipe, TOY.normalise, 0, quiet, preserved=held()
    )


def moved(weights) -> float:
    """Mean squared distance of the pool's features."""
    pool = held()
    with torch.inference_mode():
        found = encode_plain(TOY.normalise(pool.images), weights, TOY.vit)
    distance = F.normalize(found, dim=-1).double() - pool.features.double()
    return float(distance.square().sum(1).mean())


def test_preserving_trains_the_matrices_of_its_blocks_alone():
    recipe, (weights, _) = kept(1.0)
    changed = {name for name, start in TOY.base().items() if not torch.equal(start, weights[name])}
    block = "transformer.resblocks.1."
    parts = ("attn.in_proj_weight", "attn.out_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
    assert changed == {block + part for part in parts} == set(filter(recipe.trains, TOY.base()))


def test_preserving_holds_features_of_the_pool_in_place():
    far, near = (moved(kept(preserve)[1][0]) for preserve in (0.0, 30.0))
    assert 0 < near < 0.5 * far


def test_the_loss_of_preserving_is_cross_entropy_and_the_distance():
    recipe, pool = kept(2.5, steps=2)[0], held()
    head, base = TOY.heads([TASK])[TASK.name], TOY.base()
    learner = Expert(TOY.vit, base, head, recipe, TOY.normalise, pool)
    images, labels, rows = Batches(TASK, recipe, 0, pool=len(pool.images))[0]
    assert len(set(rows.tolist())) == 6
    with torch.no_grad():
        for parameter in learner.tensors:
            parameter.add_(0.01)
    there = learner.features(pool.images[rows]).detach().double().numpy()
    logits = learner(images).detach().double().numpy()
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    entropy = -log_p[np.arange(16), labels.numpy()].mean()
    distance = ((there - pool.features[rows].double().numpy()) ** 2).sum(1).mean()
    learner.trainer = SimpleNamespace(strategy=SimpleNamespace(reduce=lambda x, **_: x))
    learner.log = lambda *_, **__: None
    loss = learner.training_step((images, labels, rows), 0).item()
    assert loss == pytest.approx(entropy + 2.5 * distance, abs=1e-4)


def test_features_of_the_pool_are_computed_once(monkeypatch, tmp_path):
    monkeypatch.setenv("MERGESHIFT_HOME", str(tmp_path))
    images, asked = held().images.numpy(), []
    recipe = Preserving(blocks=(1,), pool="1" * 16)
    encoder = replace(TOY, recipe=recipe, pool=lambda: asked.append(1) or images)
    first = preserved(encoder)
    torch.testing.assert_close(first.features, held().features, rtol=0, atol=1e-6)
    monkeypatch.setattr(experts, "encode_plain", None)  # it is not asked again
    torch.testing.assert_close(preserved(encoder).features, first.features, rtol=0, atol=0)
    assert preserved(TOY) is None


# -- what Adam holds at the end ------------------------------------------------------------------


def test_the_second_moments_are_adams_averages_of_squared_gradients():
    """v = 0.999 * 0.001 * g_1^2 + 0.001 * g_2^2, g by autograd at the weights of either step."""
    recipe, head = AsPublished(steps=2, batch=4, lr=1e-3), TOY.heads([TASK])[TASK.name]
    batches, held = Batches(TASK, recipe, 0), {}
    weights = {name: tensor.clone() for name, tensor in TOY.base().items()}
    one, _ = finetune(TASK, TOY.vit, TOY.base(), head, replace(recipe, steps=1), TOY.normalise, 0,
                      quiet)  # fmt: skip
    wanted = dict.fromkeys(weights, 0.0)
    for step, at in enumerate((weights, one)):
        images, labels = batches[step]
        leaves = {name: tensor.clone().requires_grad_() for name, tensor in at.items()}
        features = F.normalize(encode_plain_with_grad(images, leaves), dim=-1)
        F.cross_entropy(features @ head.T, labels).backward()
        for name, leaf in leaves.items():
            wanted[name] = 0.999 * wanted[name] + 0.001 * leaf.grad.square()
    finetune(TASK, TOY.vit, TOY.base(), head, recipe, TOY.normalise, 0, quiet, curvature=held)
    assert held.keys() == weights.keys()
    assert (held["proj"] == 0).all()  # is not trained
    for name in set(held) - {"proj"}:
        torch.testing.assert_close(held[name], wanted[name], rtol=1e-3, atol=1e-12)
    with pytest.raises(UserError, match="kept where one device trains: --devices 1"):
        finetune(TASK, TOY.vit, TOY.base(), head, recipe, TOY.normalise, 0, quiet,
                 Spread(devices=2), curvature={})  # fmt: skip


def encode_plain_with_grad(images, leaves):
    return encode(TOY.normalise(images), PlainOps(leaves), TOY.vit)
