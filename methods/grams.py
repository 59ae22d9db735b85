"""Gram matrices ``G = X^T X`` of what modules see: from images, or from task vectors alone."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from torch import Tensor

from methods.support import first
from methods.vit import TOKENS_AT_ONCE, GramOps, ViT


class Seen(NamedTuple):
    """What the layers of a model saw."""

    grams: dict[str, Tensor]  # layer -> X^T X / rows of X, the mean over tokens; float64 [in, in]
    images: int


def image_grams(
    weights: Mapping[str, Tensor], batches: Iterable[Tensor], vit: ViT, limit: int | None = None
) -> Seen:
    """The Grams of every linear layer's inputs, all tokens counted, also in the last block.

    Some images at a time: products are float32, and are added up in float64.

    Args:
        weights: of the model that the images go through, held in memory.
        batches: images, normalised.  ``[B, 3, H, W]`` each.
        vit: the architecture.
        limit: the first so many images are looked at; ``None``: all of them. No batch is asked for
            beyond the one that has the last of them.

    Returns:
        Grams of the layers as :class:`methods.vit.Ops` names them, ``proj`` among them; of no
        image no Gram.
    """
    ops, images = GramOps(weights), 0
    for (batch,) in first(zip(batches), limit):
        images += len(batch)
        for part in batch.split(max(1, TOKENS_AT_ONCE // vit.num_tokens)):
            ops.observe(part, vit)
    return Seen({layer: gram / ops.counts[layer] for layer, gram in ops.grams.items()}, images)


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
