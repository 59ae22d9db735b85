"""Concrete TA and Concrete AdaMerging: masks, gradients against autograd, meta-steps."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from methods import METHODS
from methods.common.data_access import AdaptationSchedule
from methods.common.vit import PlainOps, encode
from methods.concrete import ConcreteAdaMerging, ConcreteTA, Mask
from methods.contract import TASKS, VIT, Recorder, small_checkpoints
from tests.helpers.learning_methods import fit_on, random_images


def learned(name: str, batches: int, **config: object) -> ConcreteTA:
    cls = METHODS[name]
    method = cls(cls.Config.make(config))
    assert isinstance(method, ConcreteTA)
    return method.build(small_checkpoints(), Recorder(), fit_on([random_images(8)] * batches))


def entropies(model: dict[str, torch.Tensor], images: dict[str, torch.Tensor]) -> torch.Tensor:
    """The sum over tasks of the mean entropy, written out."""
    heads, found = small_checkpoints().heads, []
    for task, batch in images.items():
        x = F.normalize(encode(batch, PlainOps(model), VIT), dim=-1)
        shares = (x @ heads[task].T).softmax(-1)
        found.append(-(shares * shares.log()).sum(-1).mean())
    return torch.stack(found).sum()


# -- the mask ------------------------------------------------------------------------------------


def test_a_mask_is_a_relaxed_bernoulli_sample_whose_mean_is_one():
    mask = Mask({"w": (200, 100)}, temperature=0.5)
    torch.nn.init.normal_(mask.logits[0])
    one = mask.draw("w", torch.Generator().manual_seed(3)).detach()
    assert one.mean().item() == pytest.approx(1, abs=1e-5)
    uniform = torch.rand((200, 100), generator=torch.Generator().manual_seed(3)).double().numpy()
    odds = mask.logits[0].detach().double().numpy() + np.log(uniform / (1 - uniform))
    want = 1 / (1 + np.exp(-odds / 0.5))
    np.testing.assert_allclose(one, want / want.mean(), atol=1e-4)
    # more than a half where the logit and the noise say so: with the probability of the logit
    share = (want > 0.5).mean()
    assert share == pytest.approx(torch.sigmoid(mask.logits[0]).mean().item(), abs=0.02)


@pytest.mark.parametrize("name", ["concrete_ta", "concrete_adamerging"])
def test_logits_without_end_are_the_plain_sum(name):
    ckpts, cls = small_checkpoints(), METHODS[name]
    method = cls()
    method.prepare(ckpts)
    for logits in method.learned["mask"].logits:
        logits.data.fill_(100.0)
    want = METHODS["task_arithmetic"](METHODS["task_arithmetic"].Config(scale=0.3)).merge(ckpts)
    torch.testing.assert_close(method.merge(ckpts).flat(), want.flat(), atol=1e-5, rtol=0)


def test_the_last_mask_is_the_seeds():
    ckpts = small_checkpoints()
    models = []
    for seed in (0, 0, 1):
        method = ConcreteTA(seed=seed)
        method.prepare(ckpts)
        models.append(method.merge(ckpts)["proj"])
    assert torch.equal(models[0], models[1])
    assert not torch.equal(models[0], models[2])


def test_a_model_equals_numpy():
    ckpts = small_checkpoints()
    method = learned("concrete_ta", 2, steps=2)
    for place, name in enumerate(ckpts.base):
        logits = method.learned["mask"].logits[place].detach().double().numpy()
        chance = torch.rand(logits.shape, generator=method.generator("last", name)).double().numpy()
        mask = 1 / (1 + np.exp(-(logits + np.log(chance / (1 - chance))) / 0.5))
        moved = sum((e[name] - ckpts.base[name]).double().numpy() for e in ckpts.experts.values())
        want = ckpts.base[name].double().numpy() + 0.3 * mask / mask.mean() * moved
        np.testing.assert_allclose(method.models["all"]()[name], want, atol=1e-4, err_msg=name)


# -- learning ------------------------------------------------------------------------------------


def test_the_first_step_of_the_logits_goes_down_their_slope():
    ckpts = small_checkpoints()
    method = learned("concrete_ta", 1, steps=1)
    fresh = Mask({name: ckpts.base.shape(name) for name in ckpts.base}, 0.5)
    masks = fresh.sample(method.generator("mask", 0))
    model = {
        name: ckpts.base[name] + 0.3 * masks[name]
        * sum(expert[name] - ckpts.base[name] for expert in ckpts.experts.values())
        for name in ckpts.base
    }  # fmt: skip
    slopes = torch.autograd.grad(entropies(model, random_images(8)), list(fresh.logits))
    for slope, moved in zip(slopes, method.learned["mask"].logits, strict=True):
        clear = slope.abs() > 1e-5  # of Adam's epsilon, 1e-8
        torch.testing.assert_close(
            moved.detach()[clear], -1e-3 * slope.sign()[clear], atol=2e-5, rtol=0
        )


def test_the_entropy_falls():
    before, after = learned("concrete_ta", 1, steps=1, lr=0.0), learned("concrete_ta", 25, lr=0.1)
    shown = random_images(8)
    assert entropies(after.models["all"](), shown) < entropies(before.models["all"](), shown)


BATCHES = [random_images(8), {task: 0.5 - x for task, x in random_images(8).items()}]


def meta_steps(count: int, **config: object) -> tuple[ConcreteAdaMerging, torch.Tensor]:
    """A method after some meta-steps, and the coefficients as the last one has left them."""
    left = []

    def fit(method: ConcreteAdaMerging) -> None:
        adam = method.configure_optimizers()
        for step in range(count):
            method.step(BATCHES[step % 2], adam)
            method.done += 1
        left.append(method.coefs.raw.detach().clone())
        method.on_fit_end()

    method = ConcreteAdaMerging(ConcreteAdaMerging.Config.make({"steps": count, **config}))
    return method.build(small_checkpoints(), Recorder(), fit), left[0]


@pytest.mark.parametrize("inner", ["published", "clean"])
def test_two_meta_steps_equal_autograd(inner):
    ckpts, inner_lr = small_checkpoints(), 0.4
    method, left = meta_steps(2, inner=inner, inner_lr=inner_lr)
    names = list(ckpts.base)
    taus = [
        torch.stack([ckpts.experts[task][name] - ckpts.base[name] for task in method.tasks])
        for name in names
    ]
    shares = torch.full((len(names), len(taus[0])), 0.3, requires_grad=True)
    masks = Mask({name: ckpts.base.shape(name) for name in names}, 0.5)
    coefs_adam = torch.optim.Adam([shares], lr=inner_lr)
    logits_adam = torch.optim.Adam(masks.parameters(), lr=1e-3)

    def model(coefs: torch.Tensor, mask: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        moved = zip(names, coefs, taus, strict=True)
        return {
            name: ckpts.base[name] + mask[name] * torch.tensordot(row, tau, 1)
            for name, row, tau in moved
        }

    clear_rows, clear_logits = [], []
    for step, batch in enumerate(BATCHES):
        if inner == "clean":
            shares.data.fill_(0.3)
        mask = masks.sample(method.generator("mask", step))  # one for both parts
        fixed = {name: one.detach() for name, one in mask.items()}
        first = {task: x[:4] for task, x in batch.items()}
        (shares.grad,) = torch.autograd.grad(entropies(model(shares, fixed), first), shares)
        clear_rows.append(shares.grad.abs() > 1e-3)
        shares.data.fill_(0.3)
        coefs_adam.step()
        others = {task: x[4:] for task, x in batch.items()}
        loss = entropies(model(shares.detach(), mask), others)
        slopes = torch.autograd.grad(loss, list(masks.logits))
        for logits, slope in zip(masks.logits, slopes, strict=True):
            logits.grad = slope
        clear_logits.append([slope.abs() > 1e-5 for slope in slopes])
        logits_adam.step()
    clear = clear_rows[0] & clear_rows[1]
    assert clear.float().mean() > 0.3
    torch.testing.assert_close(left[clear], shares.detach()[clear], atol=1e-3, rtol=0)
    trio = zip(method.learned["mask"].logits, masks.logits, *clear_logits, strict=True)
    for got, want, one, two in trio:
        sure = one & two
        torch.testing.assert_close(got.detach()[sure], want.detach()[sure], atol=2e-5, rtol=0)
    assert sum(int((one & two).sum()) for one, two in zip(*clear_logits, strict=True)) > 1000


def test_the_published_inner_step_moves_every_coefficient_by_one():
    _, left = meta_steps(1)
    moved = left - 0.3
    clear = moved.abs() > 0.5
    torch.testing.assert_close(moved[clear].abs(), torch.ones_like(moved[clear]), atol=1e-2, rtol=0)
    tau = small_checkpoints().task_vectors[0]
    there = torch.tensor([bool(tau[name].any()) for name in tau])  # others have no slope
    assert clear[there].float().mean() > 0.95
    assert not clear[~there].any()


def test_the_clean_inner_step_is_small():
    _, left = meta_steps(3, preset="clean")
    assert 0 < (left - 0.3).abs().max() < 2e-3


def test_without_a_second_part_the_coefficients_are_those_of_the_start():
    method = learned("concrete_adamerging", 2, steps=2, more_steps=0)
    assert (method.coefs.raw == torch.tensor(0.3)).all()


def test_coefficients_are_learned_under_one_mask_after_the_meta_steps():
    method = learned("concrete_adamerging", 3, steps=2, more_steps=1)
    moved = method.coefs.raw.detach() - 0.3  # one step of Adam from the start
    assert moved.abs().max() == pytest.approx(1e-3, rel=1e-2)
    logits = learned("concrete_adamerging", 2, steps=2, more_steps=0).learned["mask"].logits
    pairs = zip(method.learned["mask"].logits, logits, strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)  # the mask stays


@pytest.mark.parametrize("granularity", ["task", "layer"])
def test_coefficients_are_shown(granularity):
    method = learned("concrete_adamerging", 1, steps=1, granularity=granularity)
    rows = method.coefficients
    assert len(rows) == (1 if granularity == "task" else len(small_checkpoints().base))
    assert list(next(iter(rows.values()))) == list(TASKS)


def test_schedules_and_presets():
    assert ConcreteTA().adaptation == AdaptationSchedule(2000, 16)
    # two batches of 16 for a meta-step
    assert ConcreteAdaMerging().adaptation == AdaptationSchedule(2000, 32)
    cfg = ConcreteAdaMerging.Config.make({"preset": "clean"})
    assert (cfg.inner, cfg.inner_lr) == ("clean", 1e-3)
