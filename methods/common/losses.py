"""Coefficients of task vectors that are learned: the parts of AdaMerging.

Axes: ``G`` rows of tensors that share their coefficients, ``K`` tasks.
"""

from torch import Tensor


def entropy(logits: Tensor) -> Tensor:
    """Of the softmax, in nats.  ``[B, C] -> [B]``.

    >>> entropy(torch.zeros(1, 2))
    tensor([0.6931])
    """
    logs = logits.log_softmax(-1)
    return -(logs.exp() * logs).sum(-1)
