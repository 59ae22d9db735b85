"""Small regressions for tests: inputs, experts, Grams, in float64."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.testing import assert_close

from methods.common.regression import MatrixNormalPosterior, SufficientStatistics, normalised

OUT, IN, ROWS = 4, 6, 50
near = partial(assert_close, rtol=1e-9, atol=1e-9)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def inputs(tasks: int = 3, rows: int = ROWS, wide: int = IN) -> list[Tensor]:
    """Inputs of each task, of other sizes and directions.  ``[rows, in]`` each."""
    return [
        (t + 1) * random(rows, wide, seed=t) @ random(wide, wide, seed=50 + t) for t in range(tasks)
    ]


def experts(tasks: int = 3, wide: int = IN) -> list[Tensor]:
    return [random(OUT, wide, seed=100 + t) for t in range(tasks)]


ANCHOR, BASE = random(OUT, IN, seed=200), random(OUT, IN, seed=201)


def grams(xs: list[Tensor], how: str = "none") -> list[Tensor]:
    return [normalised(x.T @ x, how) for x in xs]


def sums_of(
    grams: Sequence[Tensor],
    weights: Sequence[Tensor],
    anchor: Tensor,
    betas: Sequence[float] | None = None,
) -> SufficientStatistics:
    """Of all tasks; equal precisions that sum to 1 if none are given."""
    sums, betas = SufficientStatistics.start(anchor), betas or [1 / len(grams) for _ in grams]
    for gram, weight, beta in zip(grams, weights, betas, strict=True):
        sums.add(gram, weight, beta)
    return sums


def regression(
    grams: Sequence[Tensor],
    weights: Sequence[Tensor],
    anchor: Tensor,
    betas: Sequence[float] | None = None,
) -> MatrixNormalPosterior:
    """The same, decomposed."""
    return MatrixNormalPosterior.decompose(sums_of(grams, weights, anchor, betas))


def apart(a: Tensor, b: Tensor) -> float:
    """How far one matrix is from another, relative to it."""
    return ((a - b).norm() / b.norm()).item()
