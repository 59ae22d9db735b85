"""OTA and FFG against numbers by hand and NumPy; their limits."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mergeshift import UserError
from methods import METHODS, Needs, fisher
from methods.contract import TASKS, VIT, Recorder, build, images, small_checkpoints
from methods.fisher import diagonal_fisher
from methods.ota import OTA, OTAFFG, OTAAdam, OTAAdamFFG, threshold

BIAS = "transformer.resblocks.0.mlp.c_fc.bias"


def bent(monkeypatch: pytest.MonkeyPatch, curvatures: dict[str, torch.Tensor]) -> None:
    """Let each expert's curvature be what is given for one tensor, and 1 elsewhere.

    Experts are learned in the order of the alphabet.
    """
    turns = iter(sorted(curvatures))

    def given(expert, head, batches, vit):
        task = next(turns)
        return {k: curvatures[task] if k == BIAS else torch.ones_like(t) for k, t in expert.items()}

    monkeypatch.setattr(fisher, "diagonal_fisher", given)


def two(taus: dict[str, torch.Tensor]):
    """Two experts that differ from the base in one tensor alone."""
    ckpts = small_checkpoints()
    experts = {
        task: replace_tensor(ckpts.base, ckpts.base[BIAS] + tau) for task, tau in taus.items()
    }
    return replace(ckpts, experts=experts, heads={task: ckpts.heads[task] for task in taus})


def replace_tensor(base, tensor):
    return type(base)({**dict(base), BIAS: tensor})


@pytest.mark.parametrize(("power", "want"), [(0.5, [0.0, 3.0]), (1.0, [0.4, 3.0])])
def test_two_entries_by_hand(monkeypatch, power, want):
    # v = (4, 1), (1, 1), tau = (1, 2), (-2, 4): at 1/2 (2 - 2) / 3 and 6 / 2, at 1 (4 - 2) / 5
    v = {task: torch.ones(128) for task in ("three", "two")}
    tau = {task: torch.zeros(128) for task in ("three", "two")}
    v["three"][:2], v["two"][:2] = torch.tensor([4.0, 1.0]), torch.tensor([1.0, 1.0])
    tau["three"][:2], tau["two"][:2] = torch.tensor([1.0, 2.0]), torch.tensor([-2.0, 4.0])
    bent(monkeypatch, v)
    ckpts = two(tau)
    method = OTA(OTA.Config(power=power)).build(ckpts, Recorder())
    moved = method.models["all"]()[BIAS] - ckpts.base[BIAS]
    torch.testing.assert_close(moved[:2], torch.tensor(want), atol=1e-6, rtol=0)
    assert moved[2:].abs().max() == 0


def by_numpy(density: float, power: float) -> dict[str, np.ndarray]:
    ckpts = small_checkpoints()
    above, below = {}, {}
    for task in TASKS:
        expert = dict(ckpts.experts[task])
        bends = diagonal_fisher(expert, ckpts.heads[task], images().split(8), VIT)
        v = {k: one.double().numpy() for k, one in bends.items()}
        tau = {k: (expert[k] - ckpts.base[k]).double().numpy() for k in expert}
        flat = np.concatenate([(v[k] * tau[k] ** 2).ravel() for k in expert])
        bound = np.sort(flat)[-max(1, round(density * len(flat)))] * (1 - 1e-6)
        for k in expert:
            weight = (v[k] ** power + 1e-26) * (v[k] * tau[k] ** 2 >= bound)
            above[k] = above.get(k, 0) + weight * tau[k]
            below[k] = below.get(k, 0) + weight
    return {k: np.divide(above[k], below[k], out=0 * above[k], where=below[k] > 0) for k in above}


@pytest.mark.parametrize(("density", "power"), [(1.0, 0.5), (0.3, 0.5), (0.3, 1.0)])
def test_a_model_equals_numpy(density, power):
    ckpts = small_checkpoints()
    method = build(OTA, ckpts, density=density, power=power, scale=0.7)
    for name, moved in by_numpy(density, power).items():
        want = ckpts.base[name].double().numpy() + 0.7 * moved
        np.testing.assert_allclose(method.models["all"]()[name], want, atol=1e-5, err_msg=name)


def test_equal_curvature_is_the_average_whatever_its_size(monkeypatch):
    ckpts = small_checkpoints()
    want = METHODS["average"]().merge(ckpts)
    for size in (1e-9, 1.0, 1e6):
        monkeypatch.setattr(
            fisher, "diagonal_fisher",
            lambda expert, *_, s=size: {k: torch.full_like(t, s) for k, t in expert.items()},
        )  # fmt: skip
        got = build(OTA, ckpts).models["all"]()
        for name in got:
            torch.testing.assert_close(got[name], want[name], atol=1e-5, rtol=0)


def test_the_threshold_is_of_the_whole_vector():
    curvature = {"a": torch.ones(2), "b": torch.full((2,), 4.0)}
    taus = {"a": torch.tensor([3.0, 1.0]), "b": torch.tensor([1.0, 0.5])}
    assert threshold(curvature, taus, 0.5) == 4  # of 9, 1, 4 and 1
    assert threshold(curvature, taus, 1.0) == 0


def test_ffg_is_ota_of_a_share():
    ckpts = small_checkpoints()
    ffg, plain = (
        build(OTAFFG, ckpts).models["all"](),
        build(OTA, ckpts, density=0.4).models["all"](),
    )
    assert all(torch.equal(ffg[name], plain[name]) for name in ffg)
    still = [(ffg[k] == ckpts.base[k]).float().mean() for k in ("proj", "conv1.weight")]
    assert max(still) > 0.05  # entries that no expert keeps


def test_a_task_without_images_is_one_line():
    class Without(Recorder):
        def unlabeled(self, task: str):
            yield from () if task == "two" else super().unlabeled(task)

    with pytest.raises(UserError, match="ota learns from images of every task; two has none"):
        OTA().build(small_checkpoints(), Without())


# -- with what Adam held -------------------------------------------------------------------------


def moments_of(ckpts, values: dict[str, torch.Tensor]):
    """Second moments of 1 but for one tensor."""
    ones = {k: torch.ones(ckpts.base.shape(k)) for k in ckpts.base}
    return {task: type(ckpts.base)({**ones, BIAS: value}) for task, value in values.items()}


def test_adams_moments_by_hand():
    # as above: at 1/2 (2 - 2) / 3 and 6 / 2; twice v changes nothing
    tau = {task: torch.zeros(128) for task in ("three", "two")}
    tau["three"][:2], tau["two"][:2] = torch.tensor([1.0, 2.0]), torch.tensor([-2.0, 4.0])
    ckpts = two(tau)
    for factor in (1.0, 2.0):
        v = {task: torch.full((128,), factor) for task in tau}
        v["three"][0] = 4 * factor
        method = OTAAdam().build(replace(ckpts, curvature=moments_of(ckpts, v)))
        moved = method.models["all"]()[BIAS] - ckpts.base[BIAS]
        torch.testing.assert_close(moved[:2], torch.tensor([0.0, 3.0]), atol=1e-6, rtol=0)
    # FFG keeps 1 of 128 x 2 + ... entries of each: v tau^2 are (4, 4) and (4, 16)
    lone = METHODS["ota_adam_ffg"].Config(density=1 / ckpts.base.num_entries)
    method = OTAAdamFFG(lone).build(replace(ckpts, curvature=moments_of(ckpts, {
        "three": torch.ones(128), "two": torch.ones(128)})))  # fmt: skip
    moved = method.models["all"]()[BIAS] - ckpts.base[BIAS]
    torch.testing.assert_close(moved[:2], torch.tensor([0.0, 3.0]), atol=1e-6, rtol=0)


def test_equal_moments_are_the_average_and_no_image_is_looked_at():
    ckpts = small_checkpoints()
    ones = type(ckpts.base)({k: torch.ones(ckpts.base.shape(k)) for k in ckpts.base})
    method = OTAAdam().build(replace(ckpts, curvature=dict.fromkeys(TASKS, ones)))
    want = METHODS["average"]().merge(ckpts)
    for name, tensor in method.models["all"]().items():
        torch.testing.assert_close(tensor, want[name], atol=1e-5, rtol=0)
    assert (method.needs, str(method.needs)) == (Needs.OPTIMIZER_STATE, "optimizer state")
    assert not method.depends_on_seed


def test_experts_without_moments_are_one_line():
    ckpts = small_checkpoints()
    some = replace(ckpts, curvature={"two": ckpts.curvature["two"]})
    said = r"ota_adam weighs by .*: four, three; keep them .*--keep-curvature\), or take ota, which"
    with pytest.raises(UserError, match=said):
        OTAAdam().build(some)
    with pytest.raises(UserError, match="the second moments of two do not fit the base"):
        replace(ckpts, curvature={"two": type(ckpts.base)({"proj": torch.ones(1)})})
