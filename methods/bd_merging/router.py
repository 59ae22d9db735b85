"""The parts of BD-Merging: what it sees of images, its router, and what is kept.

Axes: ``B`` images, ``N`` tokens, ``D`` features, ``L`` classes, ``K'`` routes, ``G`` groups of
layers.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.bd_merging.config import BDConfig
from methods.bd_merging.discrepancy import (
    DiscrepancyFactors,
    discrepancy,
    distances,
    k_nearest,
    within_radius,
)
from methods.bd_merging.evidential_head import EvidentialHead, Opinion, label_space
from methods.common.checkpoints import Checkpoints
from methods.common.vit import TOKENS_AT_ONCE, PlainOps, ViT
from methods.common.vit import tokens as encode_tokens


class TokenRouter(nn.Module):
    """w(x) = softmax over the routes of the mean over tokens of MLP(LayerNorm(H(x))).

    ``[B, N, W] -> [B, K']``, or ``[B, G, K']`` where ``num_groups`` is not 0.
    """

    def __init__(self, width: int, num_routes: int, num_groups: int, cfg: BDConfig):
        super().__init__()
        self.norm = nn.LayerNorm(width) if cfg.normalise else nn.Identity()
        self.hidden = nn.Linear(width, width)
        self.last = nn.Linear(width, max(1, num_groups) * num_routes)
        nn.init.normal_(self.last.weight, std=cfg.init_std)
        nn.init.zeros_(self.last.bias)
        self.shape = (num_groups, num_routes) if num_groups else (num_routes,)
        self.relu, self.temperature = cfg.activation == "relu", cfg.temperature

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.hidden(self.norm(tokens))
        hidden = F.relu(hidden) if self.relu else F.gelu(hidden)
        scores: Tensor = self.last(hidden.mean(1))  # affine: before or after the mean is the same
        return (scores.unflatten(1, self.shape) / self.temperature).softmax(-1)


class Learned(nn.Module):
    """What images decide.

    Args:
        head: of theta_0.
        router: or none, for equal weights.
        num_groups: of layers with weights of their own; 0 if there are none.
        routes: those that the router has a weight for.
    """

    epsilon: Tensor  # [], where positive neighbours end
    usage: Tensor  # [G or 1, K'], mean weights at the end of the training; equal before

    def __init__(
        self, head: EvidentialHead, router: nn.Module | None, num_groups: int, routes: list[str]
    ):
        super().__init__()
        self.head, self.router, self.routes = head, router, list(routes)
        self.register_buffer("epsilon", torch.zeros(()))
        self.register_buffer(
            "usage", torch.full((max(1, num_groups), len(routes)), 1 / len(routes))
        )

    def shares(self, tokens: Tensor) -> Tensor:
        """What the router gives to each route, or equal weights.  ``-> [B or 1, (G,) K']``."""
        found: Tensor = self.usage[:1] if self.router is None else self.router(tokens)
        return found

    def table(self, vit: ViT, shown: list[str]) -> dict[str, dict[str, float]]:
        """Row (all, or a group of layers) -> route, in the order of ``shown`` -> mean weight."""
        rows = ["input", *vit.blocks, "output"] if len(self.usage) > 1 else ["all"]
        columns = {name: self.routes.index(name) for name in shown if name in self.routes}
        return {
            row: {name: values[i] for name, i in columns.items()}
            for row, values in zip(rows, self.usage.tolist(), strict=True)
        }


def new_head(ckpts: Checkpoints, cfg: BDConfig) -> EvidentialHead:
    """A head on the joint label space that has learned nothing."""
    return EvidentialHead(
        label_space(ckpts).rows,
        free=cfg.head == "linear",
        softplus=cfg.evidence == "softplus",
        clip=cfg.clip,
        soft=cfg.soft_clip,
    )


class BaseOutputs(NamedTuple):
    """What theta_0 and the head make of images."""

    tokens: Tensor  # of the last layer, [B, N, W]
    unit: Tensor  # features, [B, D]
    opinion: Opinion


@torch.no_grad()
def encode_base(
    images: Tensor, weights: Mapping[str, Tensor], vit: ViT, head: EvidentialHead
) -> BaseOutputs:
    """One pass through theta_0, in cache-sized parts on a CPU.  ``[B, 3, H, W] ->``."""
    cpu, ops = images.device.type == "cpu", PlainOps(weights)
    size = max(1, TOKENS_AT_ONCE // vit.num_tokens) if cpu else len(images)
    found = [encode_tokens(part, ops, vit) for part in images.split(size)]
    tokens, features = (torch.cat(part) for part in zip(*found, strict=True))
    unit = F.normalize(features, dim=-1)
    return BaseOutputs(tokens, unit, head(unit))


def gated(weights: Tensor, found: Opinion, null_route: bool) -> Tensor:
    """(1 - u) w, and u to a last route that adds nothing.  ``[B or 1, .., K'] -> [B, .., K]``.

    Args:
        weights: of the routes.
        found: the head's opinions.
        null_route: whether the last of the routes is that one; else it is added.
    """
    weights = F.pad(weights, (0, 0 if null_route else 1))
    u = found.uncertainty.view(-1, *[1] * (weights.ndim - 1))
    nothing = F.pad(torch.zeros_like(weights[..., 1:]), (0, 1), value=1.0)
    return (1 - u) * weights + u * nothing


class Adjacency(NamedTuple):
    """The images of one batch beside each other."""

    is_neighbour: Tensor  # bool [B, B]
    d: Tensor  # [B, B], of all pairs


def adjacency(unit: Tensor, found: Opinion, cfg: BDConfig) -> Adjacency:
    """Neighbours and discrepancies within a batch.  ``[B, D], [B, L] ->``."""
    apart = distances(unit)
    near = (
        k_nearest(apart, cfg.nearest) if cfg.near == "nearest" else within_radius(apart, cfg.radius)
    )
    if not cfg.ads:
        return Adjacency(near, apart)
    use = DiscrepancyFactors(
        cfg.sharp, cfg.div, cfg.conf, plain=cfg.sharpness == "plain", own=cfg.own
    )
    return Adjacency(near, discrepancy(found, near, use))
