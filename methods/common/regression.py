"""Bayesian linear regression of one module, its prior centred at an anchor: the core of BMM.

Weights are PyTorch's, ``[out, in]``. Expert t sees the inputs X_t; W shall give them the outputs
that W_t gives them, and stay near the anchor W_A:

    sum_t beta_t ||X_t W^T - X_t W_t^T||_F^2 + alpha ||W - W_A||_F^2

With G_t = X_t^T X_t and A = sum_t beta_t G_t + alpha I the posterior is matrix normal: its mean is
M = W_A + [sum_t beta_t (W_t - W_A) G_t] A^-1, and its rows are independent with covariance A^-1.
The Gram matrices G_t come from images, or from task vectors alone.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor

from methods.common.data_access import take_images
from methods.common.vit import TOKENS_AT_ONCE, GramOps, ViT


class GramCollector(NamedTuple):
    """What the layers of a model saw."""

    grams: dict[str, Tensor]  # layer -> X^T X / rows of X, the mean over tokens; float64 [in, in]
    images: int


def image_grams(
    weights: Mapping[str, Tensor], batches: Iterable[Tensor], vit: ViT, limit: int | None = None
) -> GramCollector:
    """The Grams of every linear layer's inputs, all tokens counted, also in the last block.

    Some images at a time: products are float32, and are added up in float64.

    Args:
        weights: of the model that the images go through, held in memory.
        batches: images, normalised.  ``[B, 3, H, W]`` each.
        vit: the architecture.
        limit: the first so many images are looked at; ``None``: all of them. No batch is asked for
            beyond the one that has the last of them.

    Returns:
        Grams of the layers as :class:`methods.common.vit.Ops` names them, with ``proj``; of no
        image no Gram.
    """
    ops, images = GramOps(weights), 0
    for (batch,) in take_images(zip(batches), limit):
        images += len(batch)
        for part in batch.split(max(1, TOKENS_AT_ONCE // vit.num_tokens)):
            ops.observe(part, vit)
    return GramCollector(
        {layer: gram / ops.counts[layer] for layer, gram in ops.grams.items()}, images
    )


def task_vector_gram(tau: Tensor, *, centre: bool = False) -> Tensor:
    """tau^T tau, a stand-in for X^T X: gradient steps move weights within the span of the inputs.

    Args:
        tau: ``[out, in]``.
        centre: subtract the mean row first, as in a covariance.

    Returns:
        ``float64 [in, in]``, of rank ``out`` at most.

    >>> task_vector_gram(Tensor([[1.0, 2.0], [0.0, 1.0]])).tolist()
    [[1.0, 2.0], [2.0, 5.0]]
    """
    rows = tau.double()
    rows = rows - rows.mean(0) if centre else rows
    return rows.T @ rows


EXACT = 1e-12  # shares of the largest eigenvalue that are no more than round-off: float64's, of a

ROUNDED = torch.finfo(torch.float32).eps  # few thousand rows, and that of float32 products


@dataclass
class SufficientStatistics:
    """All that the posterior depends on, in float64; tasks are added one by one."""

    anchor: Tensor  # W_A, [out, in]
    gram: Tensor  # sum_t beta_t G_t, [in, in]
    cross_moment: Tensor  # sum_t beta_t (W_t - W_A) G_t, [out, in]

    @classmethod
    def start(cls, anchor: Tensor) -> Self:
        """Of no task: the prior alone."""
        prior, width = anchor.double(), anchor.shape[1]
        return cls(prior, prior.new_zeros(width, width), torch.zeros_like(prior))

    def add(self, gram: Tensor, weight: Tensor, beta: float) -> None:
        """One task more."""
        part = gram.double()
        self.gram.add_(part, alpha=beta)
        self.cross_moment.addmm_(weight.double() - self.anchor, part, alpha=beta)

    def solve(self, alpha: float) -> Tensor:
        """M at one alpha, by Cholesky: cheaper than decomposing, if it is wanted once."""
        precision = self.gram.clone()
        precision.diagonal().add_(alpha)
        factor, failed = torch.linalg.cholesky_ex(precision)
        if failed:  # not positive definite, as alpha is no more than round-off
            return MatrixNormalPosterior.decompose(self).solve(alpha)
        return self.anchor + torch.cholesky_solve(self.cross_moment.T, factor).T


@dataclass(frozen=True)
class MatrixNormalPosterior:
    """The posterior of one module, decomposed once: every alpha is then one product."""

    anchor: Tensor  # W_A, [out, in]
    values: Tensor  # lam, the eigenvalues of sum_t beta_t G_t, ascending; noise set to 0.  [in]
    basis: Tensor  # Q, its eigenvectors as columns.  [in, in]
    cross_moment: Tensor  # B = sum_t beta_t (W_t - W_A) G_t Q; 0 where lam is.  [out, in]

    @classmethod
    def decompose(cls, sums: SufficientStatistics, noise: float = EXACT) -> Self:
        """sum_t beta_t G_t = Q diag(lam) Q^T.

        Directions that no task sees have lam = 0 up to round-off. There the pull is 0 as well, and
        both are set to 0, so that the anchor is kept there however small alpha is.

        Args:
            sums: what is decomposed.
            noise: the round-off, as a share of the largest eigenvalue: ``EXACT``, or ``ROUNDED``
                for Grams that were added up from float32 products.
        """
        values, basis = torch.linalg.eigh(sums.gram)
        seen = values > values[-1].clamp(min=0) * noise
        pull = torch.where(seen, sums.cross_moment @ basis, 0.0)
        return cls(sums.anchor, torch.where(seen, values, 0.0), basis, pull)

    @classmethod
    def prior(cls, anchor: Tensor) -> Self:
        """No data at all: :meth:`solve` gives the anchor. There is nothing to draw from."""
        none = anchor.new_zeros(0)
        return cls(anchor, none, none.expand(anchor.shape[1], 0), none.expand(len(anchor), 0))

    def to(self, dtype: torch.dtype) -> Self:
        """The same in another precision; decompose in float64 first."""
        parts = (self.anchor, self.values, self.basis, self.cross_moment)
        return type(self)(*(part.to(dtype) for part in parts))

    def solve(self, alpha: float) -> Tensor:
        """M(alpha) = W_A + B (lam + alpha)^-1 Q^T, one product.  ``-> [out, in]``.

        Args:
            alpha: in [0, inf]. Infinity gives the anchor; 0 least squares, and the anchor in
                directions that no task sees.
        """
        shares = torch.where(self.values > 0, 1 / (self.values + alpha), 0.0)
        return torch.addmm(self.anchor, self.cross_moment * shares, self.basis.T)

    def covariance_sqrt(self, alpha: float) -> Tensor:
        """R = Q (lam + alpha)^-1/2, R R^T = A^-1: rows of Z R^T, Z ~ N(0, I), have covariance A^-1.

        Args:
            alpha: in (0, inf); directions that no task sees vary with deviation alpha^-1/2.

        Returns:
            ``[in, in]``.
        """
        return self.basis * (self.values + alpha).rsqrt()

    def rms_deviation(self, alpha: float) -> float:
        """The root mean square norm of a sample less its mean: sqrt(out * tr A^-1)."""
        return (len(self.anchor) * (1 / (self.values + alpha)).sum()).sqrt().item()


def normalised(gram: Tensor, how: str) -> Tensor:
    """G in a unit of its own, so that alpha has none. A Gram of zeros stays as it is.

    Args:
        gram: ``[in, in]``.
        how: ``trace`` (the mean eigenvalue becomes 1: alpha = 1 is as strong as a mean direction),
            ``frobenius`` (divided by ||X||_F^2 = tr G, as WUDI does: 1 / in times that) or
            ``none``.

    >>> normalised(torch.diag(torch.tensor([3.0, 1.0])), "trace").diagonal().tolist()
    [1.5, 0.5]
    >>> normalised(torch.diag(torch.tensor([3.0, 1.0])), "frobenius").diagonal().tolist()
    [0.75, 0.25]
    """
    trace = gram.trace()
    if how == "none" or trace == 0:
        return gram
    return gram / (trace if how == "frobenius" else trace / len(gram))
