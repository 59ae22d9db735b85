"""Multi-task training: its batches, its first step, and that it learns all tasks."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from bench.zoo.encoders import ENCODERS
from mergeshift import UserError
from methods import Needs
from methods.common.vit import PlainOps, encode
from methods.contract import TASKS, VIT, Recorder, images, logits, small_checkpoints
from methods.multitask import Multitask, translated


def trained(**config: object) -> Multitask:
    method = Multitask(Multitask.Config.make({"batch": 8, "pad": 0, **config}))
    return method.build(small_checkpoints(), Recorder())


def test_a_translated_image_is_a_window_of_the_padded_one():
    shown, corners = images(), torch.randint(7, (8, 2), generator=torch.Generator().manual_seed(0))
    padded = np.pad(shown.numpy(), ((0, 0), (0, 0), (3, 3), (3, 3)), mode="edge")
    got = translated(shown, corners, 3)
    for i, (top, left) in enumerate(corners.tolist()):
        np.testing.assert_array_equal(got[i], padded[i, :, top : top + 32, left : left + 32])
    assert torch.equal(translated(shown, torch.full((8, 2), 3), 3), shown)


def test_the_recipe_is_that_of_the_pocket_experts():
    recipe, cfg = ENCODERS["pocket-vit"].recipe, Multitask.Config().as_dict()
    shared = ("steps", "batch", "lr", "weight_decay", "pad")
    assert {name: cfg[name] for name in shared} == {name: getattr(recipe, name) for name in shared}


@pytest.mark.parametrize("task", sorted(TASKS))
def test_the_first_step_goes_down_the_slope_of_the_loss(task):
    whole = small_checkpoints()
    ckpts = replace(whole, experts={task: whole.experts[task]}, heads={task: whole.heads[task]})
    cfg = Multitask.Config(steps=1, batch=8, pad=0, weight_decay=0.0)
    method = Multitask(cfg).build(ckpts, Recorder())
    shown, labels = method.batch(images(), torch.arange(8) % TASKS[task], 0)
    start = {name: tensor.double().requires_grad_() for name, tensor in ckpts.base.items()}
    x = F.normalize(encode(shown.double(), PlainOps(start), VIT), dim=-1)
    logs = (x @ ckpts.heads[task].double().T).log_softmax(-1)
    loss = -logs[torch.arange(8), labels].mean()
    slopes = torch.autograd.grad(loss, list(start.values()))
    assert method.report["losses"] == [pytest.approx(loss.item(), rel=1e-4)]
    for (name, tensor), slope in zip(method.models["all"]().items(), slopes, strict=True):
        moved = (tensor.double() - start[name]).detach()
        clear = slope.abs() > 1e-4
        assert torch.equal(moved[clear].sign(), -slope[clear].sign()), name
        assert moved.abs().max() <= cfg.lr * 1.01, name  # of Adam: by the signs, not the sizes


def test_it_learns_all_tasks_at_once():
    method = trained(steps=60, lr=3e-3)
    for task, values in logits(method).items():
        assert (values.argmax(1) == torch.arange(8) % TASKS[task]).float().mean() >= 0.75, task
    assert np.mean(method.report["losses"][-6:]) < np.mean(method.report["losses"][:6])
    assert len(method.report["losses"]) == 60 * len(TASKS)


def test_every_task_has_its_turn_in_every_round():
    method, tasks = Multitask(), sorted(TASKS)
    rounds = [method.turns(tasks, number) for number in range(20)]
    assert all(sorted(turns) == tasks for turns in rounds)
    assert len({tuple(turns) for turns in rounds}) > 1
    assert method.turns(tasks, 3) == rounds[3]


def test_without_a_step_it_is_the_pretrained_model():
    ckpts, method = small_checkpoints(), trained(steps=0)
    for name, tensor in method.models["all"]().items():
        assert torch.equal(tensor, ckpts.base[name])


def test_it_looks_at_training_labels_alone_and_at_so_many_images():
    access = Recorder()
    method = Multitask(Multitask.Config(steps=1, images=3))
    method.build(small_checkpoints(), access)
    assert access.seen == method.needs == Needs.TRAIN_LABELS
    assert str(method.needs) == "training labels"
    assert len(method.shown("two", Recorder())[0]) == 3


def test_a_task_without_images_is_one_line():
    class Without(Recorder):
        def training(self, task: str):
            yield from () if task == "two" else super().training(task)

    with pytest.raises(UserError, match="multitask trains on images of every task; two has none"):
        Multitask().build(small_checkpoints(), Without())
