"""Evidence and opinions: by hand, and against integrals."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import dblquad, quad
from scipy.special import gammaln

from methods.bd_merging.evidential_head import (
    correlation,
    entropy_of_mean,
    evidence_contrast,
    inverse_correlation_loss,
    kl_to_uniform,
    mean_entropy,
    opinion,
)


def density(p, alpha):
    """Of a Dirichlet distribution, at one point."""
    log = gammaln(sum(alpha)) - sum(map(gammaln, alpha))
    return math.exp(log + sum((a - 1) * math.log(x) for a, x in zip(alpha, p, strict=True)))


def test_evidence_to_belief_and_uncertainty_by_hand():
    # e = (6 1 0): alpha = (7 2 1), S = 10, b = (.6 .1 0), u = 3 / 10, p = (.7 .2 .1); no evidence:
    # u = 1 and p is flat
    found = opinion(torch.tensor([[6.0, 1.0, 0.0], [0.0, 0.0, 0.0]]))
    assert found.alpha.tolist() == [[7, 2, 1], [1, 1, 1]]
    torch.testing.assert_close(found.belief, torch.tensor([[0.6, 0.1, 0], [0, 0, 0]]))
    torch.testing.assert_close(found.uncertainty, torch.tensor([0.3, 1]))
    torch.testing.assert_close(found.probability, torch.tensor([[0.7, 0.2, 0.1], [1 / 3] * 3]))
    torch.testing.assert_close(found.belief.sum(1) + found.uncertainty, torch.ones(2))


@pytest.mark.parametrize("alpha", [(1.0, 1.0), (1.5, 4.0), (9.0, 1.2)])
def test_the_divergence_is_an_integral_over_two_classes(alpha):
    def of(x):
        f = density((x, 1 - x), alpha)
        return f * math.log(f)  # the flat density is 1

    want, _ = quad(of, 0, 1)
    found = kl_to_uniform(torch.tensor([alpha], dtype=torch.float64)).item()
    assert found == pytest.approx(want, abs=1e-7)


@pytest.mark.parametrize("alpha", [(1.0, 1.0, 1.0), (4.0, 2.0, 1.5)])
def test_the_divergence_is_an_integral_over_three_classes(alpha):
    def of(y, x):
        f = density((x, y, max(1 - x - y, 1e-300)), alpha)
        return f * math.log(f / 2) if f else 0  # the flat density is 2! = 2 on the triangle

    want, _ = dblquad(of, 0, 1, 0, lambda x: 1 - x, epsabs=1e-8)
    found = kl_to_uniform(torch.tensor([alpha], dtype=torch.float64)).item()
    assert found == pytest.approx(want, abs=1e-6)


def test_the_contrast_of_evidence_by_hand():
    # alpha = (6 3 1): nu = 3 * 3 / 36 = 1/4; u = .3, p = (.6 .3 .1): u p2 / p1^2 = .09 / .36
    alpha = torch.tensor([[6.0, 3.0, 1.0], [1.0, 1.0, 1.0], [2.0, 8.0, 2.0]])
    torch.testing.assert_close(evidence_contrast(alpha), torch.tensor([0.25, 3, 3 * 2 / 64]))
    found = opinion(alpha - 1)
    p = found.probability.sort(descending=True).values
    torch.testing.assert_close(evidence_contrast(alpha), found.uncertainty * p[:, 1] / p[:, 0] ** 2)
    assert (
        evidence_contrast(torch.tensor([[4.0]])).item() == 1 / 16
    )  # one class: a second would have 1


def test_both_entropies():
    # p = (3/4 1/4): ln 4 - 3/4 ln 3, whatever S is; its mean over Dir(3, 1) is an integral
    want = math.log(4) - 0.75 * math.log(3)
    assert entropy_of_mean(torch.tensor([[0.75, 0.25]])).item() == pytest.approx(want, abs=1e-6)
    sure = torch.tensor([[1.0, 0.0]], requires_grad=True)
    assert entropy_of_mean(sure).item() == 0
    assert torch.autograd.grad(entropy_of_mean(sure), sure)[0].isfinite().all()

    def of(x):
        return density((x, 1 - x), (3, 1)) * -(x * math.log(x) + (1 - x) * math.log(1 - x))

    found = mean_entropy(torch.tensor([[3.0, 1.0]], dtype=torch.float64)).item()
    assert found == pytest.approx(quad(of, 0, 1)[0], abs=1e-8)


def test_the_correlation_is_pearsons():
    x, y = torch.randn(2, 20, generator=torch.Generator().manual_seed(0)).double()
    assert correlation(x, y).item() == pytest.approx(np.corrcoef(x, y)[0, 1])
    still = torch.ones(20, dtype=torch.float64, requires_grad=True)
    for constant in (still, still[:1]):  # also a batch of one image
        value = correlation(constant, y[: len(constant)])
        value.backward()
        assert value.item() == 0
        assert still.grad.abs().max() == 0


def test_both_inverse_losses():
    evidence = torch.rand(12, 5, generator=torch.Generator().manual_seed(0)).double() * 9
    found = opinion(evidence)
    u, nu = found.uncertainty, evidence_contrast(found.alpha)
    for literal, y in ((False, -nu.log()), (True, nu)):
        want = 1 + np.corrcoef(u, y)[0, 1]
        assert inverse_correlation_loss(found, literal=literal).item() == pytest.approx(want)


def test_divergence_and_entropy_are_those_of_torch_distributions():
    alpha = torch.rand(6, 5, generator=torch.Generator().manual_seed(3)) * 4 + 1
    uniform = torch.distributions.Dirichlet(torch.ones(5))
    wanted = torch.distributions.kl_divergence(torch.distributions.Dirichlet(alpha), uniform)
    torch.testing.assert_close(kl_to_uniform(alpha), wanted)
    p = alpha / alpha.sum(-1, keepdim=True)
    torch.testing.assert_close(entropy_of_mean(p), torch.distributions.Categorical(p).entropy())
