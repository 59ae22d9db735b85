"""The posterior of BMM's regression: its covariance, and directions that no task sees."""

import pytest
import torch
from torch.testing import assert_close

from methods.bmm.inner import MergedModels, SolvedLayer
from methods.bmm.sampled import roots_of, sample_weights
from methods.common.linear_layers import LinearLayer
from methods.common.regression import MatrixNormalPosterior
from tests.helpers.regressions import (
    ANCHOR,
    IN,
    OUT,
    experts,
    grams,
    inputs,
    near,
    random,
    regression,
    sums_of,
)

# -- degenerate ----------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.0, 1e-12, 1e-4, 1.0])
def test_directions_that_no_task_sees_keep_the_anchor(alpha):
    xs = [random(1, IN, seed=t) for t in range(3)]  # three images for six features
    ws = experts()
    found = regression(grams(xs, "trace"), ws, ANCHOR)
    unseen = torch.linalg.svd(torch.cat(xs)).Vh[3:]  # [3, in]
    near(found.solve(alpha) @ unseen.T, ANCHOR @ unseen.T)
    seen = xs[0][0] / xs[0].norm()
    assert (found.solve(alpha) @ seen - ANCHOR @ seen).norm() > 0.1


def test_cholesky_gives_way_where_alpha_is_round_off():
    xs, ws = [random(1, IN, seed=t) for t in range(2)], experts(2)
    sums = sums_of(grams(xs, "trace"), ws, ANCHOR)
    assert_close(
        sums.solve(0.0), MatrixNormalPosterior.decompose(sums).solve(0.0), rtol=1e-6, atol=1e-6
    )


def test_float32_is_as_good_as_its_digits():
    gs, ws = grams(inputs(rows=1), "trace"), experts()  # three directions of six
    exact = regression(gs, ws, ANCHOR)
    rounded = exact.to(torch.float32)
    for alpha in (1e-4, 1.0, 1e6):
        assert rounded.solve(alpha).dtype == torch.float32
        assert_close(rounded.solve(alpha).double(), exact.solve(alpha), rtol=1e-4, atol=1e-4)


# -- the posterior -------------------------------------------------------------------------------


def test_samples_have_the_stated_covariance_and_size():
    """Of W + Z (s c A^-1/2)^T: rows are independent, each has (s c)^2 A^-1."""
    x, alpha, scale = random(5, 2, seed=1), 0.5, 2.0
    anchor, base, mean = (random(3, 2, seed=seed) for seed in (3, 5, 6))
    found = regression([x.T @ x], [random(3, 2, seed=2)], anchor)
    part = SolvedLayer(LinearLayer("w", slice(0, 3), "w", "out", 0), "out", base, found)
    roots = roots_of(MergedModels([part], {}), {"alpha.out": alpha, "scale.out": scale})
    generator = torch.Generator().manual_seed(4)
    noise = torch.stack([
        (sample_weights(mean, [part.module], roots, lambda _: generator) - mean).flatten()
        for _ in range(20_000)
    ])  # fmt: skip
    inverse = torch.linalg.inv(x.T @ x + alpha * torch.eye(2)).contiguous()
    size = scale * (anchor - base).norm()  # s ||W_A - W_0||_F, at kappa = 1
    want = torch.kron(torch.eye(3, dtype=torch.float64), inverse) * size**2 / (3 * inverse.trace())
    assert ((noise.T @ noise / len(noise) - want).abs() / want.max()).max() < 0.05
    assert (noise.mean(0).abs() / want.max().sqrt()).max() < 0.03
    assert (noise**2).sum(1).mean().sqrt().item() == pytest.approx(size.item(), rel=0.02)
    assert found.rms_deviation(alpha) == pytest.approx((3 * inverse.trace()).sqrt().item())


def test_where_no_task_looks_the_deviation_is_that_of_the_prior():
    x = random(3, IN, seed=1)
    found = regression([x.T @ x], [random(OUT, IN, seed=2)], ANCHOR)
    unseen, seen = torch.linalg.svd(x).Vh[-1], torch.linalg.svd(x).Vh[0]
    for alpha in (1e-4, 4.0):
        root = found.covariance_sqrt(alpha)
        near(alpha * root @ root.T, torch.linalg.inv(x.T @ x / alpha + torch.eye(IN)))
        assert (root.T @ unseen).norm().item() == pytest.approx(alpha**-0.5)
        assert (root.T @ seen).norm().item() < alpha**-0.5 / 1.5
