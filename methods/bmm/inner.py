"""The inner level of BMM on whole models: anchors, Grams of every module, merged matrices.

Experts are taken in the order of the alphabet, so that no float sum depends on the suite's.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import NamedTuple

import torch
from torch import Tensor

from mergeshift import UserError
from methods.base import METHODS
from methods.bmm.config import AnchorConfig, BMMConfig
from methods.common.checkpoints import Checkpoints
from methods.common.linear_layers import LinearLayer, linear_layers, with_layers
from methods.common.regression import (
    MatrixNormalPosterior,
    SufficientStatistics,
    image_grams,
    normalised,
    task_vector_gram,
)
from methods.common.vit import ViT
from methods.common.weights import Weights

ANCHORS = {"ta": "task_arithmetic", "tsv": "tsv", "wudi": "wudi"}
THIRDS = ("early", "middle", "late")

Hyperparameters = Mapping[str, float]  # "alpha.KEY" and "scale.KEY" -> value; see ``keys_of``
Images = Callable[[str], Iterable[Tensor]]  # task -> its images, in batches


def ordered(ckpts: Checkpoints) -> Checkpoints:
    """The same experts, in the order of the alphabet."""
    return replace(ckpts, experts=dict(sorted(ckpts.experts.items())))


def anchor_of(ckpts: Checkpoints, cfg: AnchorConfig) -> Weights:
    """W_A: the anchor's weights, lazily."""
    cls = METHODS[ANCHORS[cfg.anchor]]
    settings = {"scale": cfg.anchor_scale} if cfg.anchor_scale else {}
    whole = cfg.anchor == "ta"  # to it q, k and v are one matrix or three
    split = {} if whole else {"in_proj": cfg.in_proj}
    merged = cls(cls.Config.make({**settings, **split})).merge(ordered(ckpts))
    assert isinstance(merged, Weights)
    return merged


def modules_of(base: Weights, cfg: AnchorConfig) -> list[LinearLayer]:
    """The matrices that are merged: of residual blocks, or all in a model that has none.

    q, k and v have the same inputs, and so the same Gram: with data alone they are solved as one
    matrix, however the anchor reads them.
    """
    shared = isinstance(cfg, BMMConfig) and cfg.gram == "data" and cfg.sees_images
    return linear_layers(base, "blocks", split=cfg.in_proj == "split" and not shared)


def keys_of(modules: Sequence[LinearLayer], depth: bool) -> list[str]:
    """Which constants a module shares with others: those of its group, or group and third.

    >>> modules = [LinearLayer("w", slice(0, 1), "w", "qkv", i) for i in range(6)]
    >>> keys_of(modules, depth=True)[1:4]
    ['qkv.early', 'qkv.middle', 'qkv.middle']
    """
    layers = 1 + max((module.block for module in modules), default=0)
    return [
        f"{m.group}.{THIRDS[3 * m.block // layers]}" if depth and m.block >= 0 else m.group
        for m in modules
    ]


# -- Grams ---------------------------------------------------------------------------------------


def share_of_vectors(cfg: BMMConfig, images: int) -> float:
    """rho, the share of the task vectors' Gram, of a task of which so many images were seen."""
    if images == 0 or cfg.gram == "taskvector":
        return 1.0
    if cfg.gram == "data":
        return 0.0
    return cfg.rho_images / (cfg.rho_images + images) if cfg.rho_images else cfg.rho


def gram_of(cfg: BMMConfig, tau: Tensor, seen: Tensor | None = None, images: int = 0) -> Tensor:
    """(1 - rho) G_data + rho G_tau, each normalised.  ``-> float64 [in, in]``.

    Args:
        cfg: says how.
        tau: the task vector of the module, ``[out, in]``.
        seen: X^T X of its inputs, if there were any.
        images: how many there were.
    """
    rho = share_of_vectors(cfg, 0 if seen is None else images)
    found = tau.new_zeros(tau.shape[1], tau.shape[1], dtype=torch.float64)
    if rho > 0:
        vectors = task_vector_gram(tau, centre=cfg.centre)
        found.add_(normalised(vectors, cfg.normalise), alpha=rho)
    if seen is not None and rho < 1:
        found.add_(normalised(seen.double(), cfg.normalise), alpha=1 - rho)
    return found


def vector_sums(
    ckpts: Checkpoints, anchor: Tensor, modules: Sequence[LinearLayer], cfg: BMMConfig
) -> list[SufficientStatistics]:
    """Without data: the sums of the modules of one parameter, each expert's read once."""
    name, experts = modules[0].name, ckpts.experts.values()
    base, sums = (
        ckpts.base[name],
        [SufficientStatistics.start(anchor[module.rows]) for module in modules],
    )
    for expert in experts:
        weight = expert[name]
        for module, one in zip(modules, sums, strict=True):
            own = weight[module.rows]
            one.add(gram_of(cfg, own - base[module.rows]), own, 1 / len(experts))
    return sums


def data_sums(
    ckpts: Checkpoints,
    anchor: Mapping[str, Tensor],
    modules: Sequence[LinearLayer],
    cfg: BMMConfig,
    images: Images,
    vit: ViT,
) -> list[SufficientStatistics]:
    """With the inputs of each expert on its own images: one expert in memory at a time.

    Raises:
        UserError: a task has no images, and nothing else is to stand in for them.
    """
    sums = [SufficientStatistics.start(anchor[module.name][module.rows]) for module in modules]
    base = {module.name: ckpts.base[module.name] for module in modules}
    for task, expert in ckpts.experts.items():
        weights = {name: expert[name].clone() for name in expert}
        seen = image_grams(weights, images(task), vit, cfg.calibration)
        if cfg.gram == "data" and not seen.images:
            raise UserError(f"{cfg.method} learns from images of every task; {task} has none")
        for module, one in zip(modules, sums, strict=True):
            own = weights[module.name][module.rows]
            tau, gram = own - base[module.name][module.rows], seen.grams.get(module.layer)
            one.add(gram_of(cfg, tau, gram, seen.images), own, 1 / len(ckpts.experts))
    return sums


# -- merged matrices -----------------------------------------------------------------------------


class SolvedLayer(NamedTuple):
    """One module, ready for every alpha and scale."""

    module: LinearLayer
    key: str  # of its constants
    base: Tensor  # W_0, [out, in]
    regression: MatrixNormalPosterior


class MergedModels:
    """Merged models, by their constants: one product per module makes a new one."""

    def __init__(
        self, parts: Sequence[SolvedLayer], rest: Mapping[str, Tensor], assembly: str = "base"
    ):
        self.parts, self.rest, self.assembly = list(parts), dict(rest), assembly

    @property
    def keys(self) -> list[str]:
        """Which constants there are, in order of first use."""
        return list(dict.fromkeys(part.key for part in self.parts))

    def matrices(self, constants: Hyperparameters) -> dict[str, Tensor]:
        """The merged matrices, whole parameters.  Name -> ``[out, in]``."""
        found: dict[str, list[Tensor]] = {}
        for part in self.parts:
            mean = part.regression.solve(constants.get(f"alpha.{part.key}", inf))
            scale = constants[f"scale.{part.key}"]
            own = scaled(part.base, part.regression.anchor, mean, scale, self.assembly)
            found.setdefault(part.module.name, []).append(own)
        return {name: torch.cat(rows) for name, rows in found.items()}

    def model(self, constants: Hyperparameters) -> dict[str, Tensor]:
        """All tensors of the merged model."""
        return {**self.rest, **self.matrices(constants)}


def scaled(base: Tensor, anchor: Tensor, mean: Tensor, scale: float, assembly: str) -> Tensor:
    """W_0 + s (M - W_0), or W_A + s (M - W_A): the anchor's other tensors stay as they are."""
    start = anchor if assembly == "anchor" else base
    return torch.lerp(start, mean, scale)


def solved_once(ckpts: Checkpoints, rest: Weights, cfg: BMMConfig) -> Weights:
    """Without data and without a search, lazily: reading a matrix reads it of every expert."""
    ckpts = ordered(ckpts)

    def make(name: str, modules: list[LinearLayer]) -> Tensor:
        anchor, base, rows = rest[name], ckpts.base[name], []
        for module, sums in zip(modules, vector_sums(ckpts, anchor, modules, cfg), strict=True):
            own = base[module.rows].double()
            mean = sums.solve(cfg.alpha)
            rows.append(scaled(own, sums.anchor, mean, cfg.scale, cfg.assembly))
        return torch.cat(rows).to(base.dtype)

    return with_layers(rest, modules_of(ckpts.base, cfg), make)
