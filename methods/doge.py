"""DOGE: a shared change of all task vectors, learned so that they conflict less, and then a sum."""

from typing import Literal

import torch
from torch import Tensor

from methods.base import METHODS, Checkpoints, MergingMethod, Paper, Setting, Weights
from methods.common.linear_layers import linear_layers, merge_matrices
from methods.common.spectral import shared_triplets, triplets
from methods.ties import kth_largest

PUBLISHED = 0.07  # ||lambda_t tau_t||_F in the authors' code


@METHODS.register("doge")
class Doge(MergingMethod):
    """theta = theta_0 + sum_t lambda_t m_t (tau_t + delta), lambda_t = scale unit / ||tau_t||_F.

    delta = argmin sum_t ||rowsum(tau_t (sum_s lambda_s (tau_s + delta)) - tau_t^2)||^2 by Adam from
    0, products entry by entry, its gradient without the part P g in the subspace that the tasks
    share: P projects on the first left singular vectors of all tasks' top ones. m_t keeps the
    largest entries of tau_t, counted over all matrices. All else stays pretrained.

    The authors' unit, 0.07, fits CLIP's task vectors and so does their step. Relative to the task
    vectors, the unit is their mean norm and the step a share of the rms of their sum [R].
    """

    title = "DOGE"
    paper = Paper(
        key="wei2025doge",
        arxiv="2501.01230",
        where="Algorithm 1, for Task Arithmetic",
        year=2025,
        title="Modeling Multi-Task Model Merging as Adaptive Projective Gradient Descent",
        authors="Wei, Yongxian and Tang, Anke and Shen, Li and Hu, Zixuan and Yuan, Chun and Cao, "
        "Xiaochun",
        venue="International Conference on Machine Learning",
    )
    quick_config = {"steps": 20}

    class Config(MergingMethod.Config):
        """The defaults are those of the authors' code, but for the relative units."""

        units: Literal["relative", "published"] = "relative"  # of lambda and of the step [R]
        scale: float = Setting(  # 1 with published units
            0.3, low=0, grid=(0.05, *(i / 10 for i in range(1, 16)))
        )
        lr: float = Setting(1e-4, above=0)  # Adam's, published
        lr_rel: float = Setting(0.13, above=0)  # relative [R]: 1e-4 over the rms of CLIP's sums
        steps: int = Setting(400, low=0)
        subspace: int = Setting(6, low=1)  # the shared subspace has a sixth of the directions
        keep: float = Setting(0.3, above=0, high=1)  # share of tau_t's entries in m_t
        in_proj: Literal["fused", "split"] = "split"  # q, k and v: one matrix, or three

        presets = {"published": {"units": "published", "scale": 1.0}}

    def merge(self, ckpts: Checkpoints) -> Weights:
        modules = linear_layers(ckpts.base, "blocks", split=self.cfg.in_proj == "split")
        names = dict.fromkeys(module.name for module in modules)
        bounds = [
            threshold(tau.only(names), self.cfg.keep) if names else 0.0
            for tau in ckpts.task_vectors
        ]
        return merge_matrices(ckpts, ckpts.base, modules, lambda taus: self.solve(taus, bounds))

    def solve(self, taus: Tensor, bounds: list[float]) -> Tensor:
        """The merged task vector of one matrix.  ``[K, out, in] -> [out, in]``.

        Args:
            taus: the task vectors.
            bounds: magnitudes from which on each task's entries are kept.
        """
        norms = taus.flatten(1).norm(dim=1)
        if not norms.any():
            return taus.sum(0)
        published = self.cfg.units == "published"
        unit = PUBLISHED if published else norms.mean()
        factors = (self.cfg.scale * unit / norms).where(norms > 0, 0.0)
        rms = 1.0 if published else (root_mean_square(taus.sum(0)) or root_mean_square(taus))
        lr = self.cfg.lr if published else self.cfg.lr_rel
        shared = shared_subspace(taus, self.cfg.subspace)
        delta = rms * descend(taus / rms, factors, shared, lr, self.cfg.steps)
        masks = taus.abs() >= taus.new_tensor(bounds)[:, None, None]
        return torch.einsum("k,koi->oi", factors, (taus + delta) * masks)


def threshold(tau: Weights, keep: float) -> float:
    """The magnitude of the smallest entry that is kept."""
    return kth_largest(tau, max(1, round(keep * tau.num_entries)))


def root_mean_square(tensor: Tensor) -> float:
    """Of the entries."""
    return tensor.square().mean().sqrt().item()


def shared_subspace(taus: Tensor, part: int) -> Tensor:
    """An orthonormal basis of what the tasks share on the output side.  ``[K, out, in]``.

    Args:
        taus: the task vectors.
        part: so many times fewer directions than the smaller side has.

    Returns:
        ``[out, min(out, in) // part]``.
    """
    least = min(taus.shape[1:])
    rank = max(1, least // len(taus))
    tops = torch.cat([shared_triplets(tau, rank)[0] for tau in taus], 1)
    return triplets(tops, min(least // part, min(tops.shape)))[0] if least >= part else tops[:, :0]


def descend(taus: Tensor, factors: Tensor, shared: Tensor, lr: float, steps: int) -> Tensor:
    """delta: Adam on the loss, the gradient's part in the shared subspace taken out.

    Args:
        taus: ``[K, out, in]``.
        factors: lambda, ``[K]``.
        shared: the basis of the subspace, ``[out, k]``.
        lr: Adam's step.
        steps: how many.

    Returns:
        ``[out, in]``.
    """
    weight = factors.sum()
    whole = torch.einsum("k,koi->oi", factors, taus)
    start = (taus * (taus - whole)).sum(2)  # the row sums at delta = 0, [K, out]
    delta = torch.zeros_like(whole)
    adam = torch.optim.Adam([delta], lr=lr, fused=True)
    for _ in range(steps):
        rows = start - weight * torch.einsum("koi,oi->ko", taus, delta)
        gradient = -2 * weight * torch.einsum("ko,koi->oi", rows, taus)
        delta.grad = gradient - shared @ (shared.T @ gradient)
        adam.step()
    return delta
