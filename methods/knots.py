"""KnOTS: task vectors written in one basis of the outputs, and merged there."""

from typing import Literal

import torch
from torch import Tensor

from methods.base import METHODS, MatrixMethod, Paper, Setting
from methods.common.spectral import NULL
from methods.dc_merge import largest_entries
from methods.ties import disjoint_merge


@METHODS.register("knots")
class Knots(MatrixMethod):
    """tau = scale * U merge(P_1 .. P_K), [tau_1 .. tau_K] = U S [V_1^T .. V_K^T], P_t = S V_t^T.

    One matrix at a time, q, k and v apart; what merges the P_t is TIES (trim each, elect signs,
    take means) or the sum, which would be Task Arithmetic. The paper merges LoRA of the attention;
    here the task vectors are whole, MLPs, positional embedding and projection take part as well,
    and what is no matrix moves by the mean [R]. Entries are trimmed
    within each matrix [R: of all together]. Singular values up to 1e-6 of the largest count as 0
    [R: up to 1e-5].
    """

    title = "KnOTS"
    paper = Paper(
        key="stoica2025knots",
        arxiv="2410.19735",
        where="Sec. 4, KnOTS-TIES",
        year=2025,
        title="Model merging with {SVD} to tie the {Knots}",
        authors="Stoica, George and Ramesh, Pratik and Ecsedi, Boglarka and Choshen, Leshem and "
        "Hoffman, Judy",
        venue="International Conference on Learning Representations",
    )
    identity_config = {"keep": 1.0, "scale": 1.0}

    class Config(MatrixMethod.Config):
        """The authors' constants for B/32; they search the scale."""

        in_proj: Literal["fused", "split"] = "split"  # q, k and v: one matrix, or three
        merge: Literal["ties", "sum"] = "ties"  # of the P_t
        keep: float = Setting(0.2, above=0, high=1, grid=(0.2, 0.5))  # share of each P_t, TIES
        scale: float = Setting(0.6, low=0, grid=(0.05, *(i / 10 for i in range(1, 11)), 1.2, 1.5,
                                                 1.8, 2.2, 2.6))  # fmt: skip

    def merge_matrix(self, taus: Tensor) -> Tensor:
        basis = outputs(taus)
        if not basis.shape[1]:
            return torch.zeros_like(taus[0])
        parts = basis.T @ taus
        if self.cfg.merge == "sum":
            return basis @ parts.sum(0)
        count = int(self.cfg.keep * parts[0].numel())
        trimmed = torch.stack([largest_entries(part, count) for part in parts])
        return basis @ disjoint_merge(trimmed, "mean")


def outputs(taus: Tensor) -> Tensor:
    """U: the left singular vectors of the task vectors side by side.  ``[K, out, in]``.

    Returns:
        ``[out, r]``, of singular values that are not 0.
    """
    values, vectors = torch.linalg.eigh((taus @ taus.mT).sum(0))
    return vectors[:, values > NULL**2 * values[-1].clamp(min=0)]
