"""OPCM: experts arrive one after the other, and each adds what is orthogonal to those before."""

from typing import Literal

import torch
from torch import Tensor

from methods.base import METHODS, Checkpoints, MergingMethod, Paper, Setting, Weights
from methods.common.linear_layers import LinearLayer, linear_layers
from methods.common.spectral import triplets


@METHODS.register("opcm")
class Opcm(MergingMethod):
    """D <- (lambda D + project(tau_t)) / lambda', theta = theta_0 + scale D, one expert at a time.

    With D = U S V^T, project(tau) is tau without the diagonal of U^T tau V and without its top left
    k x k block; k is the first index at which the singular values' cumulative share exceeds alpha.
    lambda' brings ||D|| to the mean of the norms of the task vectors so far. What is no linear
    weight of the residual blocks is added as it is; so are class_embedding, positional_embedding
    and proj, which open_clip keeps outside of leaf modules [R: the authors' code merges the leaf
    modules alone, in which a class embedding stays pretrained, but experts have trained all].

    The order is drawn by the seed. Singular values of 0 have no directions to take out, and at
    alpha = 1 the block is whole [R: the authors' code then takes out the diagonal alone].
    """

    title = "OPCM"
    paper = Paper(
        key="tang2025opcm",
        arxiv="2501.09522",
        where="Algorithm 1",
        year=2025,
        title="Merging Models on the Fly Without Retraining: A Sequential Approach to Scalable "
        "Continual Model Merging",
        authors="Tang, Anke and Yang, Enneng and Shen, Li and Luo, Yong and Hu, Han and Zhang, "
        "Lefei and Du, Bo and Tao, Dacheng",
        venue="Advances in Neural Information Processing Systems",
    )
    identity_config = {"scale": 1.0}
    depends_on_seed = True

    class Config(MergingMethod.Config):
        """The defaults are FusionBench's; the scale is ours, as the norm is that of one expert."""

        alpha: float = Setting(0.5, low=0, high=1, grid=(0.1, 0.3, 0.5, 0.8))
        scale: float = Setting(  # [R]
            1.0, low=0, grid=(0.5, 0.7, 1.0, 1.3, 1.6, 2.0, 2.5, 3.0)
        )
        in_proj: Literal["fused", "split"] = "split"  # q, k and v: one matrix, or three

    def order(self, tasks: list[str]) -> list[str]:
        """In which the experts arrive: drawn out of the order of the alphabet."""
        places = torch.randperm(len(tasks), generator=self.generator("order"))
        return [sorted(tasks)[place] for place in places]

    def merge(self, ckpts: Checkpoints) -> Weights:
        modules = linear_layers(ckpts.base, "blocks", split=self.cfg.in_proj == "split")
        merged = {name: torch.zeros_like(tensor) for name, tensor in ckpts.base.items()}
        factor, norms = 1.0, 0.0  # lambda; the sum of the task vectors' norms
        for count, task in enumerate(self.order(list(ckpts.experts)), start=1):
            size = moved = 0.0
            for name, held in merged.items():
                tau = (ckpts.experts[task][name] - ckpts.base[name]).double()
                parts = [module for module in modules if module.name == name]
                found = factor * held.double() + self.projected(held, tau, parts)
                size += tau.square().sum().item()
                moved += found.square().sum().item()
                merged[name] = found.to(held.dtype)
            norms += size**0.5
            factor = moved**0.5 / (norms / count) if norms and moved else 1.0
            merged = {name: tensor / factor for name, tensor in merged.items()}
        return ckpts.base + self.cfg.scale * Weights(merged)

    def projected(self, held: Tensor, tau: Tensor, parts: list[LinearLayer]) -> Tensor:
        """What of a task vector is added; all of it where there is no matrix."""
        if not parts:
            return tau
        return torch.cat(
            [project(held[m.rows].double(), tau[m.rows], self.cfg.alpha) for m in parts]
        )


def project(merged: Tensor, tau: Tensor, alpha: float) -> Tensor:
    """Tau without what the merged delta already says.  ``[out, in], [out, in] -> [out, in]``.

    >>> merged = torch.diag(torch.tensor([3.0, 2.0, 1.0]))
    >>> project(merged, torch.ones(3, 3), 0.9).tolist()
    [[0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0]]
    """
    left, sizes, right = triplets(merged, min(merged.shape))
    if not sizes[0]:
        return tau
    within = sizes.cumsum(0) / sizes.sum() <= alpha
    block = len(sizes) if alpha == 1 else int(within.sum())
    inner = left.T @ tau @ right
    taken = inner.diagonal().diag()
    taken[:block, :block] = inner[:block, :block]
    return tau - left @ taken @ right.T
