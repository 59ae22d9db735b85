"""Losses without labels."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.common.vit import PlainOps, ViT, encode


def entropy(logits: Tensor) -> Tensor:
    """Of the softmax, in nats.  ``[B, C] -> [B]``.

    >>> entropy(Tensor([[0.0, 0.0]]))
    tensor([0.6931])
    """
    logs = logits.log_softmax(-1)
    return -(logs.exp() * logs).sum(-1)


def task_entropy(
    images: Mapping[str, Tensor], model: Mapping[str, Tensor], heads: Mapping[str, Tensor], vit: ViT
) -> Tensor:
    """The mean entropy of each task's batch, summed over the tasks in the order of their names.

    Args:
        images: task -> ``[B, 3, H, W]``.
        model: weights of the encoder.
        heads: task -> ``[C, D]``.
        vit: the architecture.

    Returns:
        A scalar, differentiable in the weights.
    """
    tasks = sorted(images)
    whole = encode(torch.cat([images[task] for task in tasks]), PlainOps(model), vit)
    parts = F.normalize(whole, dim=-1).split([len(images[task]) for task in tasks])
    pairs = zip(tasks, parts, strict=True)
    return torch.stack([entropy(part @ heads[task].T).mean() for task, part in pairs]).sum()
