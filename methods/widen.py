"""WIDEN: the experts' changes weighed column by column, by how much they turned and stretched."""

from typing import Literal

import torch
from torch import Tensor

from methods.base import METHODS, Checkpoints, MergingMethod, Paper, Setting, Weights
from methods.common.linear_layers import modules_of

TURNED = ("proj", "text_projection")  # open_clip keeps them [in, out]
ALIKE = 1e-12  # 1 - cos of directions that differ by round-off


@METHODS.register("widen")
class Widen(MergingMethod):
    """W = W_0 + scale * sum_t w_t tau_t, w_tj = (score(M_t)_j + score(D_t)_j) / 2 for column j.

    M_tj is how much the norm of the column changed, D_tj its direction, 1 - cos. Each is replaced
    by its rank within the expert, from 0 to (n - 1) / n. A score is the softmax over the experts of
    the ranks, or ``calibration`` where the rank is above ``ratio`` times the expert's mean. Entries
    of vectors are weighed alike, by |tau_t| itself.

    For a ViT [R]: the matrices are the linear weights of the blocks, conv1 with its patches flat,
    and proj from its input's side; embeddings are weighed entry by entry.
    """

    title = "WIDEN"
    paper = Paper(
        key="yu2024widen",
        arxiv="2408.03092",
        where="Sec. 4",
        year=2024,
        title="Extend Model Merging from Fine-Tuned to Pre-Trained Large Language Models via "
        "Weight Disentanglement",
        authors="Yu, Le and Yu, Bowen and Yu, Haiyang and Huang, Fei and Li, Yongbin",
    )
    identity_config = {"scale": 1.0}

    class Config(MergingMethod.Config):
        """The defaults are those of the authors' code; the scale is ours."""

        ratio: float = Setting(1.0, low=0)  # above so many times the mean rank: calibrated
        calibration: float = Setting(1.0, low=0)  # the score of what is above
        scale: float = Setting(  # [R]: with many experts the columns of each count nearly whole
            1.0, low=0, grid=(0.05, *(i / 10 for i in range(1, 21)))
        )
        in_proj: Literal["fused", "split"] = "split"  # q, k and v: one matrix, or three

    def merge(self, ckpts: Checkpoints) -> Weights:
        modules = modules_of(ckpts.base, split=self.cfg.in_proj == "split")
        parts: dict[str, list[slice]] = {}
        for module in modules:
            parts.setdefault(module.name, []).append(module.rows)

        def read(name: str) -> Tensor:
            base = ckpts.base[name]
            experts = torch.stack([expert[name] for expert in ckpts.experts.values()])
            moved = self.moved(name, base, experts, parts.get(name, [slice(None)]))
            return base + (self.cfg.scale * moved).to(base.dtype)

        return Weights.lazy({name: ckpts.base.shape(name) for name in ckpts.base}, read)

    def moved(self, name: str, base: Tensor, experts: Tensor, rows: list[slice]) -> Tensor:
        """sum_t w_t tau_t of one tensor.  ``[*shape], [K, *shape] -> float64 [*shape]``."""
        taus, base = (experts - base).double(), base.double()
        if base.ndim < 2 or 0 in base.shape or "embedding" in name:
            weights = scores(taus.abs().reshape(len(taus), -1), *self.rule)
            return (weights.view(taus.shape) * taus).sum(0)
        turned = name.split(".")[-1] in TURNED
        whole, change = base.flatten(1), taus.flatten(2)
        if turned:
            whole, change = whole.T, change.transpose(1, 2)
        found = [self.columns(whole[part], change[:, part]) for part in rows]
        merged = torch.cat(found)
        return (merged.T if turned else merged).reshape(base.shape)

    @property
    def rule(self) -> tuple[float, float]:
        """The two constants of a score."""
        return self.cfg.ratio, self.cfg.calibration

    def columns(self, base: Tensor, taus: Tensor) -> Tensor:
        """A matrix, weighed by its columns.  ``[out, in], [K, out, in] -> [out, in]``."""
        norms = [scores(ranks(part), *self.rule) for part in changes(base, taus)]
        return ((norms[0] + norms[1])[:, None] / 2 * taus).sum(0)


def changes(base: Tensor, taus: Tensor) -> tuple[Tensor, Tensor]:
    """How much the columns' norms changed, and their directions.  ``-> [K, in], [K, in]``.

    A column of zeros has no direction: it counts as turned by 1, or by 0 where both are zeros.
    """
    experts = base + taus
    before, after = base.norm(dim=0), experts.norm(dim=1)
    product = before * after
    cosines = (base * experts).sum(1) / product.where(product > 0, 1)
    turned = torch.where(product > 0, 1 - cosines, ((before > 0) != (after > 0)).to(base))
    return (after - before).abs(), turned.where(turned > ALIKE, 0.0)


def ranks(values: Tensor) -> Tensor:
    """Places in ascending order, as shares of the number; what ties by position.  ``[K, n]``.

    >>> ranks(torch.tensor([[0.3, 0.1, 0.2, 0.1]])).tolist()
    [[0.75, 0.0, 0.5, 0.25]]
    """
    order = values.argsort(dim=1, stable=True)
    places = torch.arange(values.shape[1]).to(values) / values.shape[1]
    return torch.empty_like(values).scatter_(1, order, places.expand_as(values))


def scores(values: Tensor, ratio: float, calibration: float) -> Tensor:
    """The softmax over experts, or ``calibration`` where a value is far up.  ``[K, n] -> [K, n]``.

    >>> scores(torch.tensor([[0.5, 0.0], [0.0, 0.5]]), 1.0, 1.0)
    tensor([[1.0000, 0.3775],
            [0.3775, 1.0000]])
    """
    above = values > ratio * values.mean(1, keepdim=True)
    return torch.where(above, calibration, values.softmax(0))
