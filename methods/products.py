"""One layer for a batch in which every image has a matrix of its own, mixed from a few.

``y_b = x_b (w_b0 v_0 + .. + w_bK v_K)`` for ``n`` rows an image, in one of two equal ways. *Mix
weights*: build the matrices of some images with one product, ``[c, 1 + K] x [1 + K, in * out]``,
then a batched product; work ``n + K + 1`` an entry of the matrix. *Mix inputs*: put the scaled
inputs ``w_bt x_b`` side by side and multiply once; work ``n (K + 1)``, and nothing is built.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BUILT_BYTES = 4 << 20  # of matrices built at a time: they and their part of the stack stay in the
# cache (one core of 2023 has 2 MB; the pocket encoder is 1.1 x faster than at 8 MB)


def mixed_product(x: Tensor, weights: Tensor, stack: Tensor) -> Tensor:
    """``y_b = x_b sum_t w_bt stack_t``, by the way that costs less.

    ``[B, n, in], [B, 1 + K], [1 + K, in, out] -> [B, n, out]``.
    """
    n, rows = x.shape[1], len(stack)
    if n * rows <= n + rows:  # mixing inputs costs no more operations, and builds nothing
        scaled = weights[:, None, :, None] * x[:, :, None]  # [B, n, 1 + K, in]
        return scaled.flatten(2) @ stack.flatten(0, 1)
    found: Tensor = BuiltProduct.apply(x, weights, stack)
    return found


class BuiltProduct(torch.autograd.Function):
    """:func:`mixed_product` by mixing weights, some images at a time; nothing built is saved."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Tensor, stack: Tensor) -> Tensor:
        ctx.save_for_backward(x, weights, stack)
        return built_product(x, weights, stack)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weights, stack = ctx.saved_tensors
        of_x = built_product(grad, weights, stack.mT)  # built turned: products run faster
        return of_x, of_weights(x, grad, stack), None


def built_product(x: Tensor, weights: Tensor, stack: Tensor) -> Tensor:
    """``[B, n, in], [B, 1 + K], [1 + K, in, out] -> [B, n, out]``."""
    found = x.new_empty(*x.shape[:2], stack.shape[2])
    images = min(len(x), 2 * len(stack) * larger())  # what is read and what is built weigh alike
    rows, room = tile(images, stack)
    slabs = zip(x.split(rows, 2), stack.split(rows, 1), strict=True)
    for number, (columns, slab) in enumerate(slabs):
        flat = slab.flatten(1)  # a copy, where the stack is turned
        batch = (tensor.split(images) for tensor in (columns, weights, found))
        for part, w, y in zip(*batch, strict=True):
            built = room[: len(w) * flat.shape[1]].view(len(w), -1)
            torch.mm(w, flat, out=built)
            matrices = built.unflatten(1, slab.shape[1:])
            torch.baddbmm(y, part, matrices, beta=min(number, 1), out=y)  # 0: y is not read
    return found


def of_weights(x: Tensor, grad: Tensor, stack: Tensor) -> Tensor:
    """The gradient ``<x_b^T g_b, v_t>``.

    ``[B, n, in], [B, n, out], [1 + K, in, out] -> [B, 1 + K]``.
    """
    found = x.new_zeros(len(x), len(stack))
    rows, room = tile(len(x), stack)
    for columns, slab in zip(x.split(rows, 2), stack.split(rows, 1), strict=True):
        outer = room[: len(x) * slab[0].numel()].view(len(x), *slab.shape[1:])
        torch.bmm(columns.mT, grad, out=outer)
        found.addmm_(outer.flatten(1), slab.flatten(1).T)
    return found


def tile(images: int, stack: Tensor) -> tuple[int, Tensor]:
    """How many inputs of the layer are taken at a time, and one place for what is built of them.

    One place, used again and again, stays in the cache.
    """
    most = BUILT_BYTES * larger()
    rows = max(1, min(stack.shape[1], most // (images * stack[0, :1].nbytes)))
    return rows, stack.new_empty(images * rows * stack.shape[2])


def larger() -> int:
    """Threads share every product, and larger ones are worth it: 1.1 x faster on two cores."""
    return 4 if torch.get_num_threads() > 1 else 1
