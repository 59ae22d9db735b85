"""DO-Merging: low-rank task vectors made orthogonal, their lengths and directions merged apart."""

import torch
from torch import Tensor

from methods.base import METHODS, MatrixMethod, Paper, Setting
from methods.common.spectral import shared_triplets


@METHODS.register("do_merging")
class DOMerging(MatrixMethod):
    """tau = scale * m D, m = mean_t ||B_t A_t||, D = normalise(sum_t normalise(B_t A_t)).

    Norms are those of the columns. B_t A_t is tau_t cut to a low rank by its SVD, B_t = U sqrt(S)
    and A_t = sqrt(S) V^T [R: the paper merges LoRA]. Before, the factors of different tasks are
    made orthogonal: min_delta sum_{s != t} ||A_s A_t^T||^2 + gamma sum_t ||delta_t||^2, A_t moved
    by delta_t and in units of its own norm; B_t alike [R: norm, gamma, steps and step size]. How
    lengths and directions are merged is left open by the abstract [R]; no code is public. Matrices
    are all linear weights, q, k and v as one, positional embedding and projection; what is no
    matrix moves by scale times the mean [R].
    """

    title = "DO-Merging, SVD-cut (reimpl.)"
    paper = Paper(
        key="zheng2025do",
        arxiv="2505.15875",
        where="reconstructed from the abstract and summaries",
        year=2025,
        title="Decouple and Orthogonalize: A Data-Free Framework for {LoRA} Merging",
        authors="Zheng, Shenghe and Wang, Hongzhi and Huang, Chenyu and Wang, Xiaohui and Chen, "
        "Tao and Fan, Jiayuan and Hu, Shuyue and Ye, Peng",
    )
    identity_config = {"rank": 4096, "scale": 1.0}
    quick_config = {"steps": 10}

    class Config(MatrixMethod.Config):
        """All of it is a reconstruction."""

        rank: int = Setting(16, low=1)  # of what stands for LoRA [R]
        steps: int = Setting(100, low=0)  # of Adam [R]; 0: the factors stay as they are
        lr: float = Setting(0.01, above=0)  # its step, a share of the factor's rms [R]
        gamma: float = Setting(1.0, low=0)  # [R]

    def merge_matrix(self, taus: Tensor) -> Tensor:
        rank = min(self.cfg.rank, *taus.shape[1:])
        left, sizes, right = map(
            torch.stack, zip(*(shared_triplets(tau, rank) for tau in taus), strict=True)
        )
        roots = sizes.sqrt()[:, None]
        cfg = self.cfg
        outer = orthogonalise((left * roots).mT, cfg.gamma, cfg.lr, cfg.steps).mT
        inner = orthogonalise((right * roots).mT, cfg.gamma, cfg.lr, cfg.steps)
        return decoupled_mean(outer @ inner)


def orthogonalise(factors: Tensor, gamma: float, lr: float, steps: int) -> Tensor:
    """Factors whose rows are nearer to orthogonal to those of other tasks.  ``[K, r, n]``.

    Adam on ||off(X X^T)||^2 + gamma ||delta||^2, X the rows of all tasks, each task's divided by
    its norm, and off() what lies between different tasks.
    """
    count, rank, width = factors.shape
    norms = factors.flatten(1).norm(dim=1)
    units = (factors / norms.where(norms > 0, 1)[:, None, None]).flatten(0, 1)
    apart = torch.block_diag(*[torch.ones(rank, rank)] * count).to(units) == 0
    delta = torch.zeros_like(units)
    adam = torch.optim.Adam([delta], lr=lr / (rank * width) ** 0.5, fused=True)
    for _ in range(steps):
        rows = units + delta
        delta.grad = 4 * (rows @ rows.T * apart) @ rows + 2 * gamma * delta
        adam.step()
    return (units + delta).view_as(factors) * norms[:, None, None]


def decoupled_mean(taus: Tensor) -> Tensor:
    """The mean length and the mean direction of every column.  ``[K, out, in] -> [out, in]``.

    A column of zeros has no direction; directions that cancel leave none.

    >>> decoupled_mean(torch.tensor([[[1.0, 0.0]], [[5.0, 2.0]]])).tolist()
    [[3.0, 1.0]]
    """
    lengths = taus.norm(dim=1)
    summed = (taus / lengths.where(lengths > 0, 1)[:, None]).sum(0)
    size = summed.norm(dim=0)
    seen = size > 1e-9
    return lengths.mean(0) * summed / size.where(seen, 1) * seen
