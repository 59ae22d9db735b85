"""DC-Merge: task vectors merged by signs within a basis that covers the directions of all."""

import torch
from torch import Tensor

from methods.base import METHODS, MatrixMethod, Paper, Setting
from methods.common.spectral import polar, shared_triplets
from methods.ties import disjoint_merge


@METHODS.register("dc_merge")
class DCMerge(MatrixMethod):
    """theta = theta_0 + scale * U' merge(M_1 .. M_K) V'^T, M_t = U'^T U_t S_t V_t^T V'.

    U_t S_t V_t^T is the best approximation of tau_t of rank r = min(out, in) // K, and U' is
    polar([U_1 .. U_K]), V' alike. Of each M_t the largest entries are kept; they are merged by
    elected signs and means, as TIES does, and only the K diagonal blocks of r x r stay. This is the
    authors' form for whole fine-tuned models, which smooths no singular values; text_projection is
    averaged. Of every M_t as many entries are kept as are a share of min(out, in)^2, the size that
    the authors' M_t has whatever K is, and at least one.

    r is at least 1 [R: the authors' is 0 where experts outnumber rows or columns].
    """

    title = "DC-Merge"
    version = 2  # the share is of min(out, in)^2 entries
    paper = Paper(
        key="zhang2026dcmerge",
        arxiv="2603.06242",
        where="full fine-tuning",
        year=2026,
        title="{DC-Merge}: Improving Model Merging with Directional Consistency",
        authors="Zhang, Han-Chen and Zhou, Zi-Hao and Luo, Mao-Lin and Di, Shimin and Zhang, "
        "Min-Ling and Wei, Tong",
    )
    identity_config = {"share": 1.0, "scale": 1.0}

    class Config(MatrixMethod.Config):
        """The authors keep a thousandth, and search the scale up to 3."""

        share: float = Setting(  # of the entries of M_t that is kept, by magnitude
            0.001,
            above=0,
            high=1,
            grid=(0.001, 0.01),  # 0.01 is ours [R]
        )
        scale: float = Setting(1.0, low=0, grid=(*(i / 10 for i in range(1, 11)), 1.2, 1.5, 1.8,
                                                 2.2, 2.6, 3.0))  # fmt: skip

    def merge_matrix(self, taus: Tensor) -> Tensor:
        return merge_in_cover(taus, self.cfg.share)


def merge_in_cover(taus: Tensor, share: float) -> Tensor:
    """One matrix.  ``[K, out, in] -> [out, in]``.

    >>> taus = torch.tensor([[[3.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 2.0]]])
    >>> merge_in_cover(taus, 0.5).tolist()
    [[3.0, 0.0], [0.0, 2.0]]
    """
    least = min(taus.shape[1:])
    rank = max(1, least // len(taus))
    count = int(share * max(least, rank * len(taus)) ** 2)
    left, sizes, right = zip(*(shared_triplets(tau, rank) for tau in taus), strict=True)
    outer, inner = polar(torch.cat(left, 1)), polar(torch.cat(right, 1))
    turned = [
        largest_entries((outer.T @ u * s) @ (v.T @ inner), count)
        for u, s, v in zip(left, sizes, right, strict=True)
    ]
    blocks = torch.ones(rank, rank).to(taus)
    merged = disjoint_merge(torch.stack(turned), "mean")
    return outer @ (merged * torch.block_diag(*[blocks] * len(taus))) @ inner.T


def largest_entries(matrix: Tensor, count: int) -> Tensor:
    """So many of the largest by magnitude, at least one, and those that tie; the others are 0.

    >>> largest_entries(torch.tensor([[3.0, -1.0], [2.0, 0.5]]), 2).tolist()
    [[3.0, 0.0], [2.0, 0.0]]
    """
    sizes = matrix.abs().flatten()
    smallest = sizes.topk(min(max(1, count), len(sizes))).values[-1]
    return matrix.where(matrix.abs() >= smallest, 0.0)
