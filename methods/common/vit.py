"""The vision transformer of CLIP as one pure function of images and weights.

What happens inside a layer is up to ``ops``: plain weights or Gram matrices here, experts mixed
per sample elsewhere. No hooks, no modules.

Axes: ``B`` images, ``N`` tokens (the class token first), ``W`` width, ``D`` features.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from mergeshift import UserError
from methods.common.precision import lowered
from methods.common.weights import Shape, Weights, some

TOKENS_AT_ONCE = 544  # rows whose activations stay in a core's cache: 32 pocket images, +40 % speed


@dataclass(frozen=True)
class ViT:
    """The architecture; names and layout of its parameters are open_clip's visual tower's."""

    image_size: int  # pixels, square
    patch_size: int  # pixels, square
    width: int
    layers: int
    heads: int
    output_dim: int
    mlp_ratio: float = 4.0
    quick_gelu: bool = False  # x * sigmoid(1.702 x), as in OpenAI's weights; else the exact GELU

    @classmethod
    def of(cls, visual: Any) -> "ViT":
        """The architecture of an open_clip ``VisionTransformer``.

        Raises:
            UserError: it has parts that :func:`encode` does not compute.
        """
        first = visual.transformer.resblocks[0]
        vit = cls(
            image_size=visual.image_size[0],
            patch_size=visual.patch_size[0],
            width=visual.conv1.out_channels,
            layers=len(visual.transformer.resblocks),
            heads=first.attn.num_heads,
            output_dim=visual.output_dim,
            mlp_ratio=first.mlp.c_fc.out_features / visual.conv1.out_channels,
            quick_gelu=type(first.mlp.gelu).__name__ == "QuickGELU",
        )
        vit.require_fit(Weights.of(visual), "this visual tower")
        if visual.pool_type != "tok" or visual.final_ln_after_pool:
            raise UserError(f"features must be pooled from the class token; got {visual.pool_type}")
        return vit

    @property
    def num_tokens(self) -> int:
        """N: the patches and the class token."""
        return (self.image_size // self.patch_size) ** 2 + 1

    @property
    def blocks(self) -> list[str]:
        """Names of the residual blocks, from the input to the output."""
        return [f"transformer.resblocks.{i}" for i in range(self.layers)]

    def shapes(self) -> dict[str, Shape]:
        """The shape of every parameter, by name."""
        w, hidden = self.width, int(self.width * self.mlp_ratio)
        block: dict[str, Shape] = {
            "ln_1.weight": (w,), "ln_1.bias": (w,),
            "attn.in_proj_weight": (3 * w, w), "attn.in_proj_bias": (3 * w,),
            "attn.out_proj.weight": (w, w), "attn.out_proj.bias": (w,),
            "ln_2.weight": (w,), "ln_2.bias": (w,),
            "mlp.c_fc.weight": (hidden, w), "mlp.c_fc.bias": (hidden,),
            "mlp.c_proj.weight": (w, hidden), "mlp.c_proj.bias": (w,),
        }  # fmt: skip
        return {
            "class_embedding": (w,), "positional_embedding": (self.num_tokens, w),
            "proj": (w, self.output_dim),
            "conv1.weight": (w, 3, self.patch_size, self.patch_size),
            "ln_pre.weight": (w,), "ln_pre.bias": (w,),
            **{f"{name}.{part}": shape for name in self.blocks for part, shape in block.items()},
            "ln_post.weight": (w,), "ln_post.bias": (w,),
        }  # fmt: skip

    def require_fit(self, weights: Weights, what: str) -> None:
        """Refuse weights of another architecture.

        Raises:
            UserError: names or shapes differ; the message gives examples.
        """
        wanted = self.shapes()
        odd = sorted(wanted.keys() ^ weights.keys())
        odd += [k for k in wanted if k in weights and weights.shape(k) != wanted[k]]
        if odd:
            raise UserError(
                f"{what} does not fit {self}: {len(odd)} names or shapes differ, {some(odd)}; "
                "give the image tower's tensors, without a 'visual.' in front"
            )


class Ops(Protocol):
    """How the layers of one forward pass are computed."""

    def linear(self, name: str, x: Tensor) -> Tensor:
        """The linear layer ``name``.  ``[B, n, in] -> [B, n, out]``."""

    def norm(self, name: str, x: Tensor) -> Tensor:
        """The layer norm ``name``.  ``[B, n, W] -> [B, n, W]``."""

    def conv(self, name: str, x: Tensor) -> Tensor:
        """The patch embedding ``name``, on flat patches.  ``[B, n, 3 * p * p] -> [B, n, W]``."""

    def tensor(self, name: str) -> Tensor:
        """A bare parameter, with an axis for the images in front.  ``[1 or B, ...]``."""


class PlainOps:
    """One set of weights for all images."""

    def __init__(self, weights: Mapping[str, Tensor]):
        self.weights = weights

    def linear(self, name: str, x: Tensor) -> Tensor:
        if name == "proj":  # open_clip keeps it [in, out] and without a bias
            return x @ self.weights[name]
        weight, bias = parameters_of(name)
        return F.linear(x, self.weights[weight], self.weights[bias])

    def norm(self, name: str, x: Tensor) -> Tensor:
        weight = self.weights[f"{name}.weight"]
        return F.layer_norm(x, weight.shape, weight, self.weights[f"{name}.bias"])

    def conv(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.weights[f"{name}.weight"].flatten(1))

    def tensor(self, name: str) -> Tensor:
        return self.weights[name][None]


class GramOps(PlainOps):
    """Plain weights that also add up ``X^T X`` of every linear layer's inputs, in float64."""

    def __init__(self, weights: Mapping[str, Tensor]):
        super().__init__(weights)
        self.grams: dict[str, Tensor] = {}  # layer -> [in, in], a sum
        self.counts: dict[str, int] = {}  # layer -> rows of X

    def observe(self, images: Tensor, vit: ViT) -> None:
        """Add what the layers see of ``images``: all tokens, also in the last block."""
        with torch.no_grad():
            tokens(images, self, vit)

    def linear(self, name: str, x: Tensor) -> Tensor:
        rows = x.flatten(0, -2)
        self.grams[name] = self.grams.get(name, 0) + (rows.T @ rows).double()
        self.counts[name] = self.counts.get(name, 0) + len(rows)
        return super().linear(name, x)


def parameters_of(layer: str) -> tuple[str, str]:
    """The names of a linear layer's weight and bias; open_clip fuses q, k and v.

    >>> parameters_of("attn.in_proj")
    ('attn.in_proj_weight', 'attn.in_proj_bias')
    >>> parameters_of("mlp.c_fc")
    ('mlp.c_fc.weight', 'mlp.c_fc.bias')
    """
    dot = "_" if layer.endswith("in_proj") else "."
    return f"{layer}{dot}weight", f"{layer}{dot}bias"


def encode(images: Tensor, ops: Ops, vit: ViT) -> Tensor:
    """Image features, not normalised.  ``[B, 3, H, W] -> [B, D]``.

    In the last block only the class token goes on after the attention, as nothing else is used.
    """
    *lower, last = vit.blocks
    x = embed(images, ops, vit)
    for name in lower:
        x = block(name, x, ops, vit)
    return pool(block(last, x, ops, vit, num_out=1), ops)


def tokens(images: Tensor, ops: Ops, vit: ViT) -> tuple[Tensor, Tensor]:
    """All tokens after the last block, and the features.  ``-> [B, N, W], [B, D]``."""
    x = embed(images, ops, vit)
    for name in vit.blocks:
        x = block(name, x, ops, vit)
    return x, pool(x, ops)


def encode_plain(images: Tensor, weights: Mapping[str, Tensor], vit: ViT) -> Tensor:
    """:func:`encode` with one set of weights, in cache-sized parts on a CPU without gradients."""
    weights, precision = lowered(weights, images)
    ops, at_once = PlainOps(weights), max(1, TOKENS_AT_ONCE // vit.num_tokens)
    whole = torch.is_grad_enabled() or images.device.type != "cpu"
    with precision:
        found = [encode(part, ops, vit) for part in ([images] if whole else images.split(at_once))]
    return (found[0] if len(found) == 1 else torch.cat(found)).to(images.dtype)


def embed(images: Tensor, ops: Ops, vit: ViT) -> Tensor:
    """Patches, class token and positions, normalised.  ``[B, 3, H, W] -> [B, N, W]``."""
    p, (b, channels, height, width) = vit.patch_size, images.shape
    patches = images.reshape(b, channels, height // p, p, width // p, p).permute(0, 2, 4, 1, 3, 5)
    x = ops.conv("conv1", patches.reshape(b, -1, channels * p * p))
    first = ops.tensor("class_embedding")[:, None].expand(b, -1, -1)
    return ops.norm("ln_pre", torch.cat([first, x], dim=1) + ops.tensor("positional_embedding"))


def block(name: str, x: Tensor, ops: Ops, vit: ViT, num_out: int | None = None) -> Tensor:
    """One residual block, for its first ``num_out`` tokens.  ``[B, N, W] -> [B, num_out, W]``."""
    qkv = ops.linear(f"{name}.attn.in_proj", ops.norm(f"{name}.ln_1", x))
    x = x[:, :num_out] + ops.linear(f"{name}.attn.out_proj", attention(qkv, vit.heads, num_out))
    hidden = ops.linear(f"{name}.mlp.c_fc", ops.norm(f"{name}.ln_2", x))
    hidden = hidden * torch.sigmoid(1.702 * hidden) if vit.quick_gelu else F.gelu(hidden)
    return x + ops.linear(f"{name}.mlp.c_proj", hidden)


def attention(qkv: Tensor, heads: int, num_out: int | None = None) -> Tensor:
    """The first ``num_out`` tokens attend to all.  ``[B, N, 3 W] -> [B, num_out, W]``."""
    q, k, v = qkv.unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4)  # [B, heads, N, W / heads]
    return F.scaled_dot_product_attention(q[:, :, :num_out], k, v).transpose(1, 2).flatten(2)


def pool(x: Tensor, ops: Ops) -> Tensor:
    """The class token, normalised and projected.  ``[B, n, W] -> [B, D]``."""
    return ops.linear("proj", ops.norm("ln_post", x[:, :1]))[:, 0]


def init_weights(vit: ViT, generator: torch.Generator) -> Weights:
    """Random weights at the scales at which open_clip starts to train."""

    def draw(name: str, shape: Shape) -> Tensor:
        if name in ("class_embedding", "positional_embedding", "proj"):
            return torch.randn(shape, generator=generator) * vit.width**-0.5
        if "ln_" in name or name.endswith(("in_proj_bias", "out_proj.bias")):
            return torch.ones(shape) if name.endswith("weight") else torch.zeros(shape)
        fan_in = prod(shapes[name.replace("bias", "weight")][1:])
        bound = (6 / sum(shape)) ** 0.5 if "in_proj" in name else fan_in**-0.5  # Xavier; Kaiming
        return torch.empty(shape).uniform_(-bound, bound, generator=generator)

    shapes = vit.shapes()
    return Weights({name: draw(name, shape) for name, shape in shapes.items()})


def num_groups(vit: ViT) -> int:
    """G: what lies before the blocks, each block, what lies after."""
    return vit.layers + 2


def group_of(name: str, vit: ViT) -> int:
    """The group of a layer or parameter, counted from the input.

    >>> group_of("transformer.resblocks.0.ln_1.bias", ViT(32, 8, 128, 6, 4, 128))
    1
    """
    if name.startswith("transformer.resblocks."):
        return 1 + int(name.split(".")[2])
    return vit.layers + 1 if name.startswith(("ln_post", "proj")) else 0
