"""LiNeS: scale a merged task vector up with the depth of the layer."""

import re
from collections.abc import Iterable

from torch import Tensor

from methods.base import METHODS, Checkpoints, Paper, Setting, Weights, WrapperMethod, total

BLOCK = re.compile(r"\.(\d+)\.")  # a tensor's block, by any library's names


@METHODS.register("lines")
class Lines(WrapperMethod):
    """theta^l = theta_0^l + (alpha + beta l / (L - 1)) tau^l, l = 0 .. L - 1 the residual block.

    tau is the merged task vector of the method that ``on`` names, at a scale of 1. Shallow layers
    keep what is general: alpha = ||sum_t tau_t||_1 / (K ||tau||_1), so that for a sum it is 1 / K.
    Tensors outside the blocks are scaled by alpha; so is all of a model with a single block, where
    the authors divide by 0 [R].
    """

    title = "LiNeS"
    paper = Paper(
        key="wang2025lines",
        arxiv="2410.17146",
        where="Sec. 4, merging",
        year=2025,
        title="{LiNeS}: Post-training Layer Scaling Prevents Forgetting and Enhances Model Merging",
        authors=r"Wang, Ke and Dimitriadis, Nikolaos and Favero, Alessandro and Ortiz-Jimenez, "
        r"Guillermo and Fleuret, Fran{\c{c}}ois and Frossard, Pascal",
        venue="International Conference on Learning Representations",
    )
    identity_config = {"alpha": 1.0, "norm": False, "beta": 0.0}

    class Config(WrapperMethod.Config):
        """The authors search beta from 0.1 to 1.0, for TIES to 1.5."""

        norm: bool = True  # alpha by the norms; else it is what is set
        alpha: float = Setting(1.0, low=0)  # of the first block, where it is not by the norms
        beta: float = Setting(0.5, low=0, grid=tuple(i / 10 for i in range(1, 21)))

    def changed_merge(self, ckpts: Checkpoints, merged: Weights) -> Weights:
        held = merged.materialise()  # it is read twice, and may have been dear to make
        alpha = self.alpha(ckpts, held - ckpts.base) if self.cfg.norm else self.cfg.alpha
        depth = depths(ckpts.base)

        def read(name: str) -> Tensor:
            base = ckpts.base[name]
            return base + (alpha + self.cfg.beta * depth[name]) * (held[name] - base)

        return Weights.lazy({name: held.shape(name) for name in held}, read)

    def alpha(self, ckpts: Checkpoints, tau: Weights) -> float:
        """||sum_t tau_t||_1 / (K ||tau||_1); 1 / K of a merged task vector of zeros."""
        size = norm_1(tau)
        share = norm_1(total(ckpts.task_vectors)) / size if size else 1.0
        return share / len(ckpts.experts)


def norm_1(weights: Weights) -> float:
    """The sum of all magnitudes."""
    return sum(tensor.abs().sum(dtype=tensor.double().dtype).item() for tensor in weights.values())


def depths(names: Iterable[str]) -> dict[str, float]:
    """Each tensor's place between the first block, 0, and the last, 1; 0 outside of all blocks.

    >>> depths(["conv1", "blocks.0.w", "blocks.1.w", "blocks.2.w"])
    {'conv1': 0.0, 'blocks.0.w': 0.0, 'blocks.1.w': 0.5, 'blocks.2.w': 1.0}
    """
    found = {name: int(m[1]) if (m := BLOCK.search(name)) else 0 for name in names}
    last = max(found.values(), default=0) or 1
    return {name: block / last for name, block in found.items()}
