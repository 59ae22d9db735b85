"""Per-sample merging for a whole batch, exact: theta(x) = theta_a + sum_t w_t(x) v_t.

A layer is linear in its weights, so a batch of ``B`` images of ``n`` tokens can be computed in
three equal ways. *Mix weights*: build the layer's weights of some images with one product,
``[c, 1 + K] x [1 + K, in * out]``, then a batched product; work ``n + K + 1`` a weight entry.
*Mix inputs*: ``y = [w_0 x, .., w_K x] [v_0; ..; v_K]``; work ``n (K + 1)``, nothing is built, best
where n is small. *Low rank*: ``y = x v_0 + (w * x R) L``; work ``n (1 + K r (1 / in + 1 / out))``.
The base is row 0 of every stack, with weight 1: adding it costs no further pass over memory.

Axes: ``B`` images, ``n`` tokens, ``K`` routes, ``G`` groups of layers, ``r`` rank.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from methods.common.vit import ViT, encode, encode_plain, group_of, num_groups, parameters_of

TOKENS_AT_ONCE = 2176  # rows mixed together: each stack is read once for 128 pocket images
BUILT_BYTES = 4 << 20  # of matrices built at a time: they and their part of the stack stay in the
# cache (one core of 2023 has 2 MB; the pocket encoder is 1.1 x faster than at 8 MB)


class Factors(NamedTuple):
    """K low-rank matrices, ``left[t] @ right[t]``."""

    left: Tensor  # [K, out, r], singular values included
    right: Tensor  # [K, r, in]


Knowledge = Mapping[str, Tensor | Factors]  # parameter name -> [K, *shape], or factors of it


def matrices(vit: ViT) -> list[str]:
    """The parameters that multiply an input; all others are added to or scale one."""
    parts = ("attn.in_proj_weight", "attn.out_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
    return ["conv1.weight", *(f"{name}.{part}" for name in vit.blocks for part in parts), "proj"]


def as_matrix(name: str, tensor: Tensor) -> Tensor:
    """A weight as it multiplies rows from the right.  ``[..., out, in] -> [..., in, out]``."""
    if name == "conv1.weight":
        tensor = tensor.flatten(-3)
    return tensor if name == "proj" else tensor.mT


def from_matrix(name: str, matrix: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Inverse of :func:`as_matrix`, for one weight."""
    return matrix.reshape(shape) if name == "proj" else matrix.mT.reshape(shape)


class Mixer(nn.Module):
    """A base and the knowledge of K routes, kept as the products need them.

    Args:
        vit: the architecture.
        base: theta_a.
        knowledge: v_t of every route; a parameter that is absent is the base's for all images.
            Factors are of the matrix ``[out, in]`` (the patch embedding flattened; ``proj`` is
            ``[in, out]`` as it is stored).
    """

    def __init__(self, vit: ViT, base: Mapping[str, Tensor], knowledge: Knowledge):
        super().__init__()
        self.vit, self._keys = vit, dict[str, str]()
        small: list[Tensor] = []
        self.sizes: dict[str, int] = {}  # of the parameters in the stack of all small ones
        products, self.shapes = set(matrices(vit)), vit.shapes()
        for name in sorted(self.shapes, key=lambda name: group_of(name, vit)):
            found = knowledge.get(name)
            if name in products:
                self._keep_matrix(name, as_matrix(name, base[name])[None], found)
                continue
            assert not isinstance(found, Factors), f"{name} is no matrix, so it has no factors"
            stack = base[name][None]
            if found is not None:
                stack = torch.cat([stack, found.to(stack)])
            small.append(stack.flatten(1))
            self.sizes[name] = small[-1].shape[1]
        self.group_sizes = [0] * num_groups(vit)
        for name, size in self.sizes.items():
            self.group_sizes[group_of(name, vit)] += size
        self.num_routes = max((_routes(found) for found in knowledge.values()), default=0)
        rows = [F.pad(stack, (0, 0, 0, 1 + self.num_routes - len(stack))) for stack in small]
        self.register_buffer("small", torch.cat(rows, dim=1))

    def _keep_matrix(self, name: str, base: Tensor, found: Tensor | Factors | None) -> None:
        parts = {"base": base}
        if isinstance(found, Factors):
            turn = name == "proj"  # stored [in, out]: left has the inputs
            into, out = (found.left, found.right) if turn else (found.right.mT, found.left.mT)
            parts |= {"into": into.permute(1, 0, 2).flatten(1), "out": out.flatten(0, 1)}
        elif found is not None:
            parts = {"base": torch.cat([base, as_matrix(name, found)])}
        for part, tensor in parts.items():
            key = f"{len(self._keys)}/{part}"
            self._keys[f"{name}/{part}"] = key
            self.register_buffer(key, tensor.detach().contiguous())

    def parts(self, name: str) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """``[1 (+ K), in, out]``; where there are factors also ``[in, K r]`` and ``[K r, out]``."""
        keys = (self._keys.get(f"{name}/{part}") for part in ("base", "into", "out"))
        stack, into, out = (None if key is None else self.get_buffer(key) for key in keys)
        assert stack is not None
        return stack, into, out

    def forward(self, images: Tensor, weights: Tensor, others: Tensor | None = None) -> Tensor:
        """Features, differentiable in images and weights.  ``[B, 3, H, W] -> [B, D]``.

        Args:
            images: normalised.
            weights: ``[B, K]``, or ``[B, G, K]`` with weights for each group of layers; a first
                axis of length 1 is shared by the batch, which is then merged once.
            others: weights of the parameters that are no matrices, where they differ.
        """
        others = weights if others is None else others
        if len(weights) == len(others) == 1:
            return encode_plain(images, self.mix(weights[0], others[0]), self.vit)
        weights, others = (w.expand(len(images), *w.shape[1:]) for w in (weights, others))
        if torch.is_grad_enabled() or images.device.type != "cpu":
            return encode(images, MixOps(self, weights, others), self.vit)
        size = max(1, TOKENS_AT_ONCE // self.vit.num_tokens)
        parts = zip(images.split(size), weights.split(size), others.split(size), strict=True)
        return torch.cat([encode(x, MixOps(self, w, other), self.vit) for x, w, other in parts])

    def mix(self, weights: Tensor, others: Tensor | None = None) -> dict[str, Tensor]:
        """The merged weights of one image, built.  ``[K]`` or ``[G, K]``."""
        ops = MixOps(self, weights[None], (weights if others is None else others)[None])
        return {
            name: ops.tensor(name)[0]
            if name in self.sizes
            else from_matrix(name, ops.matrix(name), shape)
            for name, shape in self.shapes.items()
        }

    def base(self) -> dict[str, Tensor]:
        """theta_a; only the patch embedding is copied for it."""
        pieces = self.get_buffer("small")[0].split(list(self.sizes.values()))
        small = dict(zip(self.sizes, pieces, strict=True))
        return {
            name: small[name].view(shape)
            if name in small
            else from_matrix(name, self.parts(name)[0][0], shape)
            for name, shape in self.shapes.items()
        }


class MixOps:
    """The layers of one forward pass, with weights of their own for every image."""

    def __init__(self, mixer: Mixer, weights: Tensor, others: Tensor):
        self.mixer = mixer
        self.weights, self.others = _grouped(weights), _grouped(others)  # G x [B, 1 + K]
        small = mixer.get_buffer("small")
        parts = small.split(mixer.group_sizes, 1) if len(self.others) > 1 else [small]
        mixed = torch.cat([w @ part for w, part in zip(self.others, parts, strict=True)], dim=1)
        pieces = mixed.split(list(mixer.sizes.values()), dim=1)
        self.small = dict(zip(mixer.sizes, pieces, strict=True))

    def of(self, name: str) -> Tensor:
        """The weights of the group of ``name``, the base's in front.  ``[B, 1 + K]``."""
        many = len(self.weights) > 1
        return self.weights[group_of(name, self.mixer.vit) if many else 0]

    def tensor(self, name: str) -> Tensor:
        return self.small[name].unflatten(1, self.mixer.shapes[name])

    def norm(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self.tensor(f"{name}.weight"), self.tensor(f"{name}.bias")
        return torch.addcmul(bias[:, None], F.layer_norm(x, x.shape[-1:]), weight[:, None])

    def conv(self, name: str, x: Tensor) -> Tensor:
        return self.product(f"{name}.weight", x)

    def linear(self, name: str, x: Tensor) -> Tensor:
        if name == "proj":
            return self.product(name, x)
        weight, bias = parameters_of(name)
        return self.product(weight, x).add_(self.tensor(bias)[:, None])

    def product(self, name: str, x: Tensor) -> Tensor:
        """Rows times each image's own matrix.  ``[B, n, in] -> [B, n, out]``."""
        stack, into, out = self.mixer.parts(name)
        weights = self.of(name)
        if into is not None and out is not None:
            routed = weights[:, 1:].repeat_interleave(out.shape[0] // (weights.shape[1] - 1), 1)
            return x @ stack[0] + ((x @ into) * routed[:, None]) @ out
        if len(stack) == 1:
            return x @ stack[0]
        return per_sample_matmul(x, weights, stack)

    def matrix(self, name: str) -> Tensor:
        """The matrix of the first image.  ``[in, out]``."""
        stack, into, out = self.mixer.parts(name)
        weights = self.of(name)[:1]
        if into is not None and out is not None:
            routed = weights[0, 1:].repeat_interleave(out.shape[0] // (weights.shape[1] - 1))
            return stack[0] + (into * routed) @ out
        return torch.tensordot(weights[0, : len(stack)], stack, 1)


def _grouped(weights: Tensor) -> list[Tensor]:
    """Per group, with the base's weight of 1 in front.  ``[B, (G,) K] -> G x [B, 1 + K]``."""
    with_base = F.pad(weights, (1, 0), value=1.0)
    return [with_base] if weights.ndim == 2 else list(with_base.unbind(1))


def _routes(found: Tensor | Factors) -> int:
    return len(found.left if isinstance(found, Factors) else found)


# -- one layer with a matrix for every image ------------------------------------------------------


def per_sample_matmul(x: Tensor, weights: Tensor, stack: Tensor) -> Tensor:
    """``y_b = x_b sum_t w_bt stack_t``, by the way that costs less.

    ``[B, n, in], [B, 1 + K], [1 + K, in, out] -> [B, n, out]``.
    """
    n, rows = x.shape[1], len(stack)
    if n * rows <= n + rows:  # mixing inputs costs no more operations, and builds nothing
        scaled = weights[:, None, :, None] * x[:, :, None]  # [B, n, 1 + K, in]
        return scaled.flatten(2) @ stack.flatten(0, 1)
    found: Tensor = PerSampleMatmul.apply(x, weights, stack)
    return found


class PerSampleMatmul(torch.autograd.Function):
    """:func:`per_sample_matmul` by mixing weights, a few images at a time; none is kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Tensor, stack: Tensor) -> Tensor:
        ctx.save_for_backward(x, weights, stack)
        return built_product(x, weights, stack)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weights, stack = ctx.saved_tensors
        of_x = built_product(grad, weights, stack.mT)  # built turned: products run faster
        return of_x, grad_of_weights(x, grad, stack), None


def built_product(x: Tensor, weights: Tensor, stack: Tensor) -> Tensor:
    """``[B, n, in], [B, 1 + K], [1 + K, in, out] -> [B, n, out]``."""
    found = x.new_empty(*x.shape[:2], stack.shape[2])
    images = min(
        len(x), 2 * len(stack) * tile_scale()
    )  # what is read and what is built weigh alike
    rows, room = tile_size(images, stack)
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


def grad_of_weights(x: Tensor, grad: Tensor, stack: Tensor) -> Tensor:
    """The gradient ``<x_b^T g_b, v_t>``.

    ``[B, n, in], [B, n, out], [1 + K, in, out] -> [B, 1 + K]``.
    """
    found = x.new_zeros(len(x), len(stack))
    rows, room = tile_size(len(x), stack)
    for columns, slab in zip(x.split(rows, 2), stack.split(rows, 1), strict=True):
        outer = room[: len(x) * slab[0].numel()].view(len(x), *slab.shape[1:])
        torch.bmm(columns.mT, grad, out=outer)
        found.addmm_(outer.flatten(1), slab.flatten(1).T)
    return found


def tile_size(images: int, stack: Tensor) -> tuple[int, Tensor]:
    """How many inputs of the layer are taken at a time, and one place for what is built of them.

    One place, used again and again, stays in the cache.
    """
    most = BUILT_BYTES * tile_scale()
    rows = max(1, min(stack.shape[1], most // (images * stack[0, :1].nbytes)))
    return rows, stack.new_empty(images * rows * stack.shape[2])


def tile_scale() -> int:
    """Threads share every product, and larger ones are worth it: 1.1 x faster on two cores."""
    return 4 if torch.get_num_threads() > 1 else 1
