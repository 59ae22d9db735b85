"""DAM: its perturbation, its loss written out, and where it is Concrete AdaMerging."""

import pytest
import torch
from torch.nn import functional as F

from methods import METHODS
from methods.common.vit import PlainOps, encode
from methods.contract import TASKS, VIT, Recorder, small_checkpoints
from methods.dam import DAM
from tests.helpers.learning_methods import fit_on, random_images

QUICK = {"steps": 2, "more_steps": 1}


def learned(name: str = "dam", batches: int = 3, **config: object) -> DAM:
    cls = METHODS[name]
    method = cls(cls.Config.make({**QUICK, **config}))
    method.generator = DAM().generator  # one stream of masks for both
    return method.build(small_checkpoints(), Recorder(), fit_on([random_images(8)] * batches))


def ready(**config: object) -> DAM:
    """As it is in front of its first step."""
    return DAM(DAM.Config.make(config)).build(small_checkpoints(), Recorder(), lambda _: None)


def logits(model, images: torch.Tensor, task: str) -> torch.Tensor:
    x = F.normalize(encode(images, PlainOps(model), VIT), dim=-1)
    return x @ small_checkpoints().heads[task].T


def weights_of(method: DAM) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in method.models["all"]().values()])


def test_without_the_perturbed_term_it_is_concrete_adamerging_bit_for_bit():
    assert torch.equal(weights_of(learned(alpha=0.0)), weights_of(learned("concrete_adamerging")))


def test_with_it_the_mask_is_another():
    plain, ours = learned("concrete_adamerging"), learned(alpha=5.0, perturbation_lr=0.5)
    assert (weights_of(ours) - weights_of(plain)).abs().max() > 1e-5


def test_a_perturbation_turns_predictions_and_moves_by_its_step():
    method, shown = ready(perturbation_lr=0.05), random_images(8)
    mask = method.mask.sample(method.generator("any"))
    model = {k: t.detach() for k, t in method.merged(method.base(), method.taus(), mask).items()}
    answers = {task: logits(model, shown[task], task).argmax(1) for task in TASKS}

    def loss(task: str) -> float:
        moved = shown[task] + method.triggers[task].detach()
        return F.cross_entropy(logits(model, moved, task), answers[task]).item()

    before = {task: loss(task) for task in TASKS}
    method.before_mask_step(shown, mask)
    assert all(trigger.abs().max() <= 0.05 * 1.01 for trigger in method.triggers.values())
    for _ in range(10):
        method.before_mask_step(shown, mask)
    assert all(loss(task) > before[task] for task in TASKS)


@pytest.mark.parametrize("term", ["entropy", "consistency"])
@pytest.mark.parametrize("clamp", ["none", "published"])
def test_the_loss_of_the_mask_is_as_written(term, clamp):
    method, shown = ready(alpha=0.3, term=term, clamp=clamp), random_images(8)
    model = dict(small_checkpoints().experts["two"])
    want = torch.zeros(())
    for task in TASKS:
        method.triggers[task].data.normal_(generator=torch.Generator().manual_seed(2))
        clean = logits(model, shown[task], task)
        moved = shown[task] + method.triggers[task].detach()
        found = logits(model, moved.clamp(0, 1) if clamp == "published" else moved, task)
        shares = clean.softmax(1)
        want = want - (shares * shares.log()).sum(1).mean()
        log = found.log_softmax(1)
        other = -(log.exp() * log).sum(1).mean()
        if term == "consistency":
            other = -log[torch.arange(8), clean.argmax(1)].mean()
        want = want + 0.3 * other
    torch.testing.assert_close(method.mask_loss(shown, model), want, atol=1e-4, rtol=1e-4)


def test_an_idle_perturbation_is_the_entropy_once_more():
    method, shown = ready(alpha=0.25), random_images(8)
    model = dict(small_checkpoints().base)
    torch.testing.assert_close(
        method.mask_loss(shown, model), 1.25 * method.entropy(shown, model), atol=1e-5, rtol=1e-5
    )


def test_nothing_of_the_learning_is_kept():
    method = learned()
    assert not hasattr(method, "triggers")
    assert method.num_stored == small_checkpoints().base.num_entries
