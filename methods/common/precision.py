"""Matrix products of an encoder in a shorter type, while it is evaluated and at no other time."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar

import torch
from torch import Tensor

_products: ContextVar[torch.dtype | None] = ContextVar("type of matrix products", default=None)


@contextmanager
def layers_in(dtype: torch.dtype | None) -> Iterator[None]:
    """Let :func:`methods.common.vit.encode_plain` multiply in ``dtype`` within a block.

    Norms, softmax and the sums along the residual stream stay in float32, as torch's autocast has
    it. So does all that is not one encoder for all images: weights mixed for each, routers, logits.
    """
    token = _products.set(dtype)
    try:
        yield
    finally:
        _products.reset(token)


def lowered(
    weights: Mapping[str, Tensor], images: Tensor
) -> tuple[Mapping[str, Tensor], AbstractContextManager]:
    """Weights and a context to encode ``images`` in; both change nothing outside such a block."""
    dtype = _products.get()
    if dtype is None:
        return weights, nullcontext()
    rounded = {name: tensor.to(dtype) if is_matrix(name, tensor) else tensor
               for name, tensor in weights.items()}  # fmt: skip
    return rounded, torch.autocast(images.device.type, dtype)


def is_matrix(name: str, tensor: Tensor) -> bool:
    """Whether a parameter is multiplied with; the others are added or scaled by."""
    return tensor.ndim > 1 and not name.endswith("embedding")
