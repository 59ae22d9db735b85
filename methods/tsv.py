"""TSV-Merging: keep each task's top singular vectors, and make those of all tasks orthogonal."""

from typing import Literal

import torch
from torch import Tensor

from methods.base import METHODS, Checkpoints, MergingMethod, Paper, Setting, Weights, total
from methods.common.linear_layers import linear_layers, merge_matrices
from methods.common.spectral import polar, shared_triplets

SCALES = (0.02, 0.05, *(i / 10 for i in range(1, 31)))  # the authors' grid, and two below it


@METHODS.register("tsv")
class TSV(MergingMethod):
    """theta = theta_0 + scale * polar([U_1 .. U_K]) diag(S_1 .. S_K) polar([V_1 .. V_K])^T.

    U_t S_t V_t^T is the best approximation of tau_t of rank r = min(out, in) // K, and at least 1
    [R: the authors' is 0 where experts outnumber rows or columns]. What is no matrix moves by the
    mean of the task vectors. As singular vectors, the authors orthogonalise also those that belong
    to singular values of 0, which are any; here those take no part.
    """

    title = "TSV-M"
    paper = Paper(
        key="gargiulo2025tsv",
        arxiv="2412.00081",
        where="TSV-Merge",
        year=2025,
        title="Task Singular Vectors: Reducing Task Interference in Model Merging",
        authors="Gargiulo, Antonio Andrea and Crisostomi, Donato and Bucarelli, Maria Sofia and "
        r"Scardapane, Simone and Silvestri, Fabrizio and Rodol{\`a}, Emanuele",
        venue="{IEEE/CVF} Conference on Computer Vision and Pattern Recognition",
    )
    identity_config = {"scale": 1.0}

    class Config(MergingMethod.Config):
        """The defaults are those of the authors' code, which searches the scale."""

        scale: float = Setting(1.0, low=0, grid=SCALES)  # alpha
        in_proj: Literal["fused", "split"] = "fused"  # q, k and v: one matrix, or three
        matrices: Literal["blocks", "all"] = "all"  # the linear weights of the residual blocks, or
        # every tensor of two axes; in a model with other names than open_clip's always all

    def merge(self, ckpts: Checkpoints) -> Weights:
        mean = self.cfg.scale / len(ckpts.experts) * total(ckpts.task_vectors)
        split = self.cfg.in_proj == "split"
        modules = linear_layers(ckpts.base, self.cfg.matrices, split=split)
        return merge_matrices(ckpts, ckpts.base + mean, modules, tsv, self.cfg.scale)


def tsv(taus: Tensor) -> Tensor:
    """Concatenate the top singular triplets, whiten each side.  ``[K, out, in] -> [out, in]``.

    >>> taus = torch.tensor([[[3.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 2.0]]])
    >>> tsv(taus).tolist()
    [[3.0, 0.0], [0.0, 2.0]]
    """
    rank = max(1, min(taus.shape[1:]) // len(taus))
    left, sizes, right = zip(*(shared_triplets(tau, rank) for tau in taus), strict=True)
    return (polar(torch.cat(left, 1)) * torch.cat(sizes)) @ polar(torch.cat(right, 1)).T
