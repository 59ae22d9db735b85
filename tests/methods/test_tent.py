"""Tent: norms alone, AdaMerging's loss, and the merge that it stands on."""

import pytest
import torch
from torch.nn import functional as F

from mergeshift import UserError
from methods import METHODS, Needs
from methods.common.vit import PlainOps, encode
from methods.contract import VIT, Recorder, small_checkpoints
from methods.tent import Tent, is_norm
from tests.helpers.learning_methods import fit_on, random_images


def tent(steps: int = 3, on: str = "ta", **config: object) -> Tent:
    method = Tent(Tent.Config.make({"on": on, **config}))
    return method.build(small_checkpoints(), Recorder(), fit_on([random_images(6)] * steps))


def entropies(model: dict[str, torch.Tensor]) -> torch.Tensor:
    """The sum over tasks of the mean entropy, written out."""
    ckpts, found = small_checkpoints(), []
    for task, images in random_images(6).items():
        x = F.normalize(encode(images.double(), PlainOps(model), VIT), dim=-1)
        shares = (x @ ckpts.heads[task].double().T).softmax(-1)
        found.append(-(shares * shares.log()).sum(-1).mean())
    return torch.stack(found).sum()


@pytest.mark.parametrize("on", ["ta", "average", "ties", "tsv", "regmean"])
def test_it_moves_the_norms_of_another_merge_and_nothing_else(on):
    method = tent(on=on)
    cls = METHODS[{"ta": "task_arithmetic"}.get(on, on)]
    merged = cls().build(small_checkpoints(), Recorder()).models["all"]()  # at its own defaults
    for name, tensor in method.models["all"]().items():
        gap = (tensor - merged[name]).abs().max()
        assert (gap > 1e-4) == is_norm(name), name
        assert gap <= 3 * 1e-3 * 1.5, name  # three steps of Adam
    assert method.needs == cls().needs | Needs.IMAGES


def test_without_a_step_size_it_is_the_merge():
    method = tent(lr=0.0)
    merged = METHODS["task_arithmetic"]().merge(small_checkpoints())
    for name, tensor in method.models["all"]().items():
        torch.testing.assert_close(tensor, merged[name])


def test_the_first_step_goes_down_every_slope():
    method, step = tent(steps=1), 1e-6
    start = {
        k: t.double() for k, t in METHODS["task_arithmetic"]().merge(small_checkpoints()).items()
    }
    name = "transformer.resblocks.1.ln_2.weight"
    for place in (0, 7, 31):
        up = {**start, name: start[name].clone()}
        up[name][place] += step
        slope = (entropies(up) - entropies(start)).item() / step
        moved = (method.models["all"]()[name].double() - start[name])[place].item()
        assert moved == pytest.approx(-1e-3 * (1 if slope > 0 else -1), rel=1e-2)


def test_the_entropy_falls():
    before = {
        k: t.double() for k, t in METHODS["task_arithmetic"]().merge(small_checkpoints()).items()
    }
    after = {k: t.double() for k, t in tent(steps=20).models["all"]().items()}
    assert entropies(after) < entropies(before)


def test_the_schedule_is_adamergings():
    assert Tent().adaptation == METHODS["adamerging"]().adaptation


def test_what_was_learned_is_the_norms_and_what_the_merge_has_learned():
    ckpts = small_checkpoints()
    norms = sum(ckpts.base[name].numel() for name in ckpts.base if is_norm(name))
    assert sum(t.numel() for t in tent().learned.parameters()) == norms
    assert "inner" in dict(tent(on="regmean").learned.items())
    assert tent().num_stored == ckpts.base.num_entries


def test_it_cannot_be_wrapped_itself():
    with pytest.raises(UserError, match=r"lines\.on must be a method that gives one model"):
        METHODS["lines"].Config(on="tent")


@pytest.mark.parametrize("on", ["twin_merging", "logit_ensemble"])
def test_what_keeps_more_than_one_model_is_refused(on):
    with pytest.raises(UserError, match=r"tent\.on must be a method that gives one model"):
        Tent.Config(on=on)


def test_the_loss_counts_every_task_and_every_batch_of_a_step():
    found = []

    def fit(method: Tent) -> None:
        found.append(method.adapt_loss(random_images(6)).item())
        method.on_fit_end()

    Tent(Tent.Config(batches=3)).build(small_checkpoints(), Recorder(), fit)
    start = {
        k: t.double() for k, t in METHODS["task_arithmetic"]().merge(small_checkpoints()).items()
    }
    assert found == [pytest.approx(3 * entropies(start).item(), rel=1e-4)]
