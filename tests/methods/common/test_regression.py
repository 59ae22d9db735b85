"""The inner level of BMM: each identity in a case where it holds and one where it does not."""

import numpy as np
import pytest
import torch
from torch import Tensor

from methods.common.regression import MatrixNormalPosterior, normalised
from tests.helpers.regressions import (
    ANCHOR,
    BASE,
    IN,
    OUT,
    apart,
    experts,
    grams,
    inputs,
    near,
    random,
    regression,
    sums_of,
)


def regmean(of: list[Tensor], weights: list[Tensor], shrink: float = 1.0) -> Tensor:
    """[(sum G~)^-1 sum G~ W^T]^T with off-diagonals times ``shrink``, in NumPy."""
    shrunk = [shrink * g.numpy() + (1 - shrink) * np.diag(np.diag(g.numpy())) for g in of]
    right = sum(g @ w.numpy().T for g, w in zip(shrunk, weights, strict=True))
    return torch.from_numpy(np.linalg.solve(sum(shrunk), right).T)


# -- the closed form -----------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [1e-4, 1.0, 37.0, 1e6])
@pytest.mark.parametrize("betas", [None, [0.5, 2.0, 0.1]])
def test_every_alpha_is_the_closed_form_of_one_decomposition(alpha, betas):
    gs, ws = grams(inputs(), "trace"), experts()
    shares = betas or [1 / 3] * 3
    precision = sum(b * g for b, g in zip(shares, gs, strict=True)) + alpha * torch.eye(IN)
    right = sum(b * w @ g for b, w, g in zip(shares, ws, gs, strict=True)) + alpha * ANCHOR
    want = right @ torch.linalg.inv(precision)  # the mean, without the anchor taken out
    near(regression(gs, ws, ANCHOR, betas).solve(alpha), want)
    near(sums_of(gs, ws, ANCHOR, betas).solve(alpha), want)


def test_the_mean_minimises_what_the_docstring_says():
    xs, ws, alpha = inputs(), experts(), 0.7
    found = regression(grams(xs), ws, ANCHOR, [1.0] * 3).solve(alpha).requires_grad_()
    loss = sum(((x @ found.T - x @ w.T) ** 2).sum() for x, w in zip(xs, ws, strict=True))
    (loss + alpha * ((found - ANCHOR) ** 2).sum()).backward()
    assert found.grad is not None
    assert found.grad.abs().max() < 1e-9
    moved = (found.detach() + 0.01).requires_grad_()
    loss = sum(((x @ moved.T - x @ w.T) ** 2).sum() for x, w in zip(xs, ws, strict=True))
    loss.backward()
    assert moved.grad is not None
    assert moved.grad.abs().max() > 1


def test_half_precision_is_added_up_in_float64():
    xs, ws = inputs(), experts()
    found = sums_of([g.half() for g in grams(xs, "trace")], [w.bfloat16() for w in ws], ANCHOR)
    assert {part.dtype for part in (found.anchor, found.gram, found.cross_moment)} == {
        torch.float64
    }


# -- limits --------------------------------------------------------------------------------------


def test_an_infinite_alpha_gives_the_anchor_and_one_of_1_does_not():
    found = regression(grams(inputs(), "trace"), experts(), ANCHOR)
    assert torch.equal(found.solve(torch.inf), ANCHOR)
    assert apart(found.solve(1e6), ANCHOR) < 1e-5  # the top of the search range
    assert apart(found.solve(1.0), ANCHOR) > 0.1


def test_no_data_gives_the_anchor():
    for found in (regression([], [], ANCHOR), MatrixNormalPosterior.prior(ANCHOR)):
        for alpha in (1e-4, 1.0, torch.inf):
            assert torch.equal(found.solve(alpha), ANCHOR)


def test_one_task_comes_out_as_alpha_goes_to_zero_if_its_gram_has_full_rank():
    expert = random(OUT, IN, seed=1)
    anchor = BASE + 0.3 * (expert - BASE)
    (x,) = inputs(1)
    found = regression([normalised(x.T @ x, "trace")], [expert], anchor)
    near(found.solve(0), expert)
    assert apart(found.solve(1e-9), expert) < 1e-6
    assert apart(found.solve(1.0), expert) > 0.2
    few = x[: IN - 2]  # a rank of 4: two directions keep the anchor
    found = regression([normalised(few.T @ few, "trace")], [expert], anchor)
    assert apart(found.solve(1e-9), expert) > 0.1
    assert apart(found.solve(0), expert) > 0.1


def test_alpha_to_zero_is_regmean_only_without_normalisation_and_without_shrinking():
    xs, ws = inputs(), experts()
    limit = {how: regression(grams(xs, how), ws, ANCHOR).solve(0) for how in ("none", "trace")}
    near(limit["none"], regmean(grams(xs), ws))
    assert apart(limit["trace"], regmean(grams(xs), ws)) > 0.05  # tasks differ in their traces
    assert apart(limit["none"], regmean(grams(xs), ws, shrink=0.95)) > 0.01
    alike = [x / x.norm() for x in xs]  # equal traces: here the normalisation changes nothing
    near(regression(grams(alike, "trace"), ws, ANCHOR).solve(0), regmean(grams(alike), ws))


def test_alpha_to_zero_is_weighted_least_squares():
    xs, ws, betas = inputs(), experts(), [0.5, 0.3, 0.2]
    found = regression(grams(xs, "trace"), ws, ANCHOR, betas)
    weights = [(b * IN / (x**2).sum()).sqrt() for b, x in zip(betas, xs, strict=True)]
    rows = torch.cat([s * x for s, x in zip(weights, xs, strict=True)])
    targets = torch.cat([s * x @ w.T for s, x, w in zip(weights, xs, ws, strict=True)])
    near(found.solve(0), torch.linalg.lstsq(rows, targets).solution.T)
    plain = torch.linalg.lstsq(
        torch.cat(xs), torch.cat([x @ w.T for x, w in zip(xs, ws, strict=True)])
    )
    assert apart(found.solve(0), plain.solution.T) > 0.05
    # at any other alpha sqrt(alpha) I joins the rows, and asks for the anchor
    pull = torch.eye(IN, dtype=torch.float64) * 0.2**0.5
    both = torch.linalg.lstsq(torch.cat([rows, pull]), torch.cat([targets, pull @ ANCHOR.T]))
    near(found.solve(0.2), both.solution.T)


# -- normalisation -------------------------------------------------------------------------------


@pytest.mark.parametrize(("how", "same"), [("trace", True), ("frobenius", True), ("none", False)])
def test_scaling_a_modules_inputs_changes_nothing_after_normalisation(how, same):
    xs, ws = inputs(), experts()
    scaled = [xs[0], 7 * xs[1], xs[2]]
    first, second = (regression(grams(x, how), ws, ANCHOR).solve(0.5) for x in (xs, scaled))
    assert (apart(first, second) < 1e-9) == same


def test_traces_are_frobenius_norms_in_another_unit_of_alpha():
    xs, ws = inputs(), experts()
    trace, norm = (regression(grams(xs, how), ws, ANCHOR) for how in ("trace", "frobenius"))
    near(trace.solve(0.6), norm.solve(0.6 / IN))
    assert apart(trace.solve(0.6), norm.solve(0.6)) > 0.01


def test_a_gram_of_zeros_contributes_nothing():
    xs, ws = inputs(), experts()
    still = [normalised(torch.zeros(IN, IN, dtype=torch.float64), how) for how in
             ("trace", "frobenius", "none")]  # fmt: skip
    assert all(torch.equal(gram, still[0]) for gram in still)
    two = regression(grams(xs[:2]), ws[:2], ANCHOR, [1.0, 1.0]).solve(0.5)
    near(regression([*grams(xs[:2]), still[0]], ws, ANCHOR, [1.0] * 3).solve(0.5), two)
    assert torch.equal(regression([still[0]], ws[:1], ANCHOR).solve(1e-4), ANCHOR)


# -- fused or split; without data ----------------------------------------------------------------


def by_thirds(gs: list[list[Tensor]], ws: list[Tensor], anchor: Tensor) -> Tensor:
    """q, k and v, each with Grams of its own."""
    thirds = zip(gs, zip(*(w.chunk(3) for w in ws), strict=True), anchor.chunk(3), strict=True)
    return torch.cat([regression(g, w, a).solve(0.5) for g, w, a in thirds])


def of_vectors(taus: list[Tensor], how: str = "frobenius") -> list[Tensor]:
    """tau^T tau, normalised."""
    return [normalised(tau.T @ tau, how) for tau in taus]


def test_fused_and_split_agree_for_data_and_differ_for_task_vectors():
    ws = [random(12, IN, seed=t) for t in range(3)]
    anchor, base = random(12, IN, seed=7), random(12, IN, seed=8)
    data = grams(inputs(), "trace")  # q, k and v see the same inputs
    near(by_thirds([data] * 3, ws, anchor), regression(data, ws, anchor).solve(0.5))
    taus = [w - base for w in ws]
    split = [of_vectors(list(some)) for some in zip(*(tau.chunk(3) for tau in taus), strict=True)]
    fused = regression(of_vectors(taus), ws, anchor).solve(0.5)
    assert apart(by_thirds(split, ws, anchor), fused) > 0.01


def wudi(tau: Tensor, taus: list[Tensor]) -> Tensor:
    """sum_t ||(tau - tau_t) tau_t^T||_F^2 / ||tau_t||_F^2."""
    return sum((((tau - one) @ one.T) ** 2).sum() / (one**2).sum() for one in taus)


def test_the_gradient_of_wudi_is_that_of_a_regression_on_task_vectors():
    taus = [w - BASE for w in experts()]
    tau = random(OUT, IN, seed=5).requires_grad_()
    wudi(tau, taus).backward()
    gs = of_vectors(taus)
    want = sum(2 * (tau.detach() - one) @ gram for one, gram in zip(taus, gs, strict=True))
    near(tau.grad, want)
    other = of_vectors(taus, "none")  # with no normalisation it is not
    assert apart(sum((tau.detach() - t) @ g for t, g in zip(taus, other, strict=True)), want) > 0.1


def test_without_data_alpha_to_zero_minimises_wudi_and_a_larger_one_does_not():
    ws = experts()
    taus = [w - BASE for w in ws]
    found = regression(of_vectors(taus), ws, ANCHOR)
    for alpha, at_rest in ((0.0, True), (1.0, False)):
        tau = (found.solve(alpha) - BASE).requires_grad_()
        wudi(tau, taus).backward()
        assert (tau.grad.abs().max() < 1e-9) == at_rest
