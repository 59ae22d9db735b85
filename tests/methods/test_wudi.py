"""WUDI against NumPy, written from the objective; its gradient, its steps, what is degenerate."""

import numpy as np
import pytest
import torch

from methods import merge
from methods.contract import TASKS, small_checkpoints
from methods.wudi import WUDI, descend, sums
from tests.helpers.counting_experts import counted


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def objective(tau: torch.Tensor, taus: torch.Tensor) -> torch.Tensor:
    """sum_t ||(tau - tau_t) tau_t^T||_F^2 / ||tau_t||_F^2."""
    parts = [((tau - one) @ one.T).square().sum() / one.square().sum() for one in taus if one.any()]
    return torch.stack(parts).sum()


def adam(taus: list[np.ndarray], lr: float, steps: int) -> np.ndarray:
    """Adam on the objective from the sum; every gradient written out."""
    tau = np.sum(taus, axis=0)
    mean, square = np.zeros_like(tau), np.zeros_like(tau)
    for step in range(1, steps + 1):
        gradient = sum(
            2 * (tau - one) @ one.T @ one / np.linalg.norm(one) ** 2 for one in taus if one.any()
        )
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        unbiased = mean / (1 - 0.9**step), square / (1 - 0.999**step)
        tau = tau - lr * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8)
    return tau


def relative(taus: list[np.ndarray], steps: int) -> np.ndarray:
    unit = np.sqrt(np.mean(np.sum(taus, axis=0) ** 2))
    return unit * adam([tau / unit for tau in taus], 0.013, steps)


# -- the formula ---------------------------------------------------------------------------------


def test_the_gradient_is_twice_the_sum_of_what_grams_make_of_the_differences():
    taus, tau = random(4, 6, 5), random(6, 5, seed=1).requires_grad_()
    (by_autograd,) = torch.autograd.grad(objective(tau, taus), tau)
    start = taus.sum(0)
    curvature, pull = sums(taus, start)
    got = 2 * ((tau - start) @ curvature - pull)
    torch.testing.assert_close(got, by_autograd)
    grams = [one.T @ one / one.square().sum() for one in taus]
    by_grams = 2 * sum((tau - one) @ gram for one, gram in zip(taus, grams, strict=True))
    torch.testing.assert_close(by_grams, by_autograd)


@pytest.mark.parametrize("steps", [0, 1, 2, 300])
@pytest.mark.parametrize("shape", [(6, 6), (12, 5), (5, 12)])
def test_one_matrix_equals_numpy(shape, steps):
    taus = random(3, *shape)
    np.testing.assert_allclose(descend(taus, 0.01, steps), adam(list(taus.numpy()), 0.01, steps),
                               atol=1e-6)  # fmt: skip


@pytest.mark.parametrize("others", ["pretrained", "mean"])
@pytest.mark.parametrize("step_size", ["relative", "published"])
@pytest.mark.parametrize("in_proj", ["fused", "split"])
def test_a_model_equals_numpy(in_proj, step_size, others):
    ckpts = small_checkpoints()
    cfg = WUDI.Config(
        scale=0.7, in_proj=in_proj, step_size=step_size, others=others, steps=25, lr=1e-3
    )
    got = WUDI(cfg).merge(ckpts)
    taus = [{k: tau[k].double().numpy() for k in tau} for tau in ckpts.task_vectors]

    def solve(mine: list[np.ndarray]) -> np.ndarray:
        return relative(mine, 25) if step_size == "relative" else adam(mine, 1e-3, 25)

    for name in ckpts.base:
        mine = [tau[name] for tau in taus]
        if mine[0].ndim != 2 or "resblocks" not in name:
            moved = sum(mine) / 3 if others == "mean" else 0 * mine[0]
        elif in_proj == "split" and name.endswith("in_proj_weight"):
            thirds = [np.split(tau, 3) for tau in mine]
            moved = np.concatenate([solve([third[i] for third in thirds]) for i in range(3)])
        else:
            moved = solve(mine)
        want = ckpts.base[name].double().numpy() + 0.7 * moved
        np.testing.assert_allclose(got[name], want, rtol=0, atol=1e-5, err_msg=name)


def test_it_goes_down_to_the_minimum():
    # enough steps reach where the gradient is 0: C S^-1 with C = sum_t tau_t G_t, S = sum_t G_t
    taus = random(3, 8, 4)
    grams = [one.T @ one / one.square().sum() for one in taus]
    target = sum(one @ gram for one, gram in zip(taus, grams, strict=True))
    want = torch.linalg.solve(sum(grams).T, target.T).T
    torch.testing.assert_close(descend(taus, 0.02, 3000), want, atol=1e-4, rtol=0)
    values = [objective(descend(taus, 0.01, steps), taus) for steps in (0, 20, 100, 300)]
    assert values == sorted(values, reverse=True)


# -- the step ------------------------------------------------------------------------------------


def test_published_steps_cannot_go_far_and_relative_ones_follow_the_task_vectors():
    taus = random(3, 6, 6)
    published = WUDI(WUDI.Config(step_size="published"))
    moved = (published.solve(taus) - taus.sum(0)).abs().max()
    assert 0 < moved < 300 * 1e-5 * 1.2
    ours = WUDI()
    torch.testing.assert_close(ours.solve(100 * taus), 100 * ours.solve(taus))
    assert (ours.solve(taus) - taus.sum(0)).abs().max() > 0.5


def test_presets_are_the_published_settings():
    cfg = WUDI.Config.make({"preset": "published"})
    assert (cfg.step_size, cfg.lr, cfg.steps, cfg.scale) == ("published", 1e-5, 300, 1)
    assert (cfg.matrices, cfg.others, cfg.in_proj) == ("blocks", "pretrained", "fused")
    peer = WUDI.Config.make({"preset": "fusionbench"})
    assert (peer.steps, peer.matrices, peer.others) == (400, "all", "mean")


# -- what is degenerate --------------------------------------------------------------------------


def test_one_expert_comes_out_bit_for_bit():
    tau = random(1, 5, 7)
    assert torch.equal(descend(tau, 0.01, 50), tau[0])
    assert torch.allclose(WUDI().solve(tau), tau[0], rtol=1e-12)


def test_a_task_vector_of_zeros_changes_nothing():
    taus = random(2, 5, 5)
    still = torch.zeros(1, 5, 5, dtype=torch.float64)
    want = descend(taus, 0.01, 50)
    torch.testing.assert_close(descend(torch.cat([taus[:1], still, taus[1:]]), 0.01, 50), want)
    assert WUDI().solve(still.expand(3, 5, 5)).abs().max() == 0


def test_rank_deficient_task_vectors_stay_where_no_task_has_a_say():
    # tau_t = a_t b_t^T: only b_1 and b_2 are inputs, so columns outside their span keep the sum, 0
    a, b = random(2, 6), torch.zeros(2, 8, dtype=torch.float64)
    b[:, :2] = random(2, 2, seed=1)
    taus = a[:, :, None] * b[:, None]
    found = WUDI().solve(taus)
    assert found[:, 2:].abs().max() == 0
    np.testing.assert_allclose(found, relative(list(taus.numpy()), 300), atol=1e-6)


def test_experts_that_cancel_still_work():
    tau = random(1, 5, 5)
    found = WUDI().solve(torch.cat([tau, -tau]))  # the gradient is 2 (0 - tau + tau) G = 0
    assert found.abs().max() < 1e-9


def test_the_order_of_experts_does_not_matter():
    taus = random(4, 6, 9)
    torch.testing.assert_close(WUDI().solve(taus.flip(0)), WUDI().solve(taus), atol=1e-9, rtol=0)


# -- any model -----------------------------------------------------------------------------------


def test_reading_a_tensor_reads_no_other():
    ckpts, reads = counted(small_checkpoints())
    name = "transformer.resblocks.1.mlp.c_fc.weight"
    model = WUDI(WUDI.Config(steps=2)).merge(ckpts)
    model["ln_post.bias"]
    assert not reads  # the pretrained model's
    model[name]
    assert reads == {(task, name): 1 for task in TASKS}


def test_names_of_other_models_are_merged_as_matrices_too():
    base = {"fc.weight": random(4, 6), "fc.bias": random(4), "conv": random(2, 3, 1, 1)}
    experts = [{k: v + 0.1 * random(*v.shape, seed=i) for k, v in base.items()} for i in (1, 2)]
    merged = merge("wudi", base, experts, steps=50)
    taus = [(expert["fc.weight"] - base["fc.weight"]).numpy() for expert in experts]
    want = base["fc.weight"].numpy() + relative(taus, 50)
    np.testing.assert_allclose(merged["fc.weight"], want, atol=1e-9)
    assert torch.equal(merged["fc.bias"], base["fc.bias"])
    mean = merge("wudi", base, experts, steps=0, others="mean")
    torch.testing.assert_close(mean["conv"], (experts[0]["conv"] + experts[1]["conv"]) / 2)
    summed = sum(expert["fc.weight"] - base["fc.weight"] for expert in experts)
    torch.testing.assert_close(mean["fc.weight"], base["fc.weight"] + summed)
