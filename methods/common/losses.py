"""Losses without labels."""

from torch import Tensor


def entropy(logits: Tensor) -> Tensor:
    """Of the softmax, in nats.  ``[B, C] -> [B]``.

    >>> entropy(Tensor([[0.0, 0.0]]))
    tensor([0.6931])
    """
    logs = logits.log_softmax(-1)
    return -(logs.exp() * logs).sum(-1)
