"""WUDI-Merging: a merged task vector that interferes least with what each task's own sees."""

from typing import Literal

import torch
from torch import Tensor

from methods.base import METHODS, Checkpoints, MergingMethod, Paper, Setting, Weights, total
from methods.common.linear_layers import linear_layers, merge_matrices

SCALES = (*(i / 20 for i in range(1, 22)), *(i / 10 for i in range(11, 22)))  # to 1.05; to 2.1


@METHODS.register("wudi")
class WUDI(MergingMethod):
    """theta = theta_0 + scale * argmin_tau sum_t ||(tau - tau_t) tau_t^T||_F^2 / ||tau_t||_F^2.

    One matrix at a time, by Adam from tau = sum_t tau_t. It stops long before the minimum, so the
    step counts: the published one moves an entry by 0.003 at most, which is much for CLIP's task
    vectors and nothing for those of an encoder that moved further. A relative step is a share of
    the root mean square of the sum's entries.
    """

    title = "WUDI"
    paper = Paper(
        key="cheng2025wudi",
        arxiv="2503.08099",
        where="the loss, solved by Adam",
        year=2025,
        title="Whoever Started the Interference Should End It: Guiding Data-Free Model Merging via "
        "Task Vectors",
        authors="Cheng, Runxi and Xiong, Feng and Wei, Yongxian and Zhu, Wanyun and Yuan, Chun",
        venue="International Conference on Machine Learning",
    )
    identity_config = {"others": "mean"}
    quick_config = {"steps": 30}

    class Config(MergingMethod.Config):
        """The defaults are those of the authors' code, but for the relative step."""

        scale: float = Setting(1.0, low=0, grid=SCALES)  # the authors have none [R: for its grid]
        step_size: Literal["published", "relative"] = "relative"  # [R]
        lr: float = Setting(1e-5, above=0)  # Adam's, published; betas 0.9 and 0.999
        lr_rel: float = Setting(0.013, above=0)  # relative [R]
        steps: int = Setting(300, low=0)
        in_proj: Literal["fused", "split"] = "fused"  # q, k and v: one matrix, or three
        matrices: Literal["blocks", "all"] = "blocks"  # the linear weights of the residual blocks,
        # or every tensor of two axes; in a model with other names than open_clip's always all
        others: Literal["pretrained", "mean"] = "pretrained"  # tensors that are no such matrices

        presets = {
            "published": {"step_size": "published"},
            "fusionbench": {
                "step_size": "published", "steps": 400, "matrices": "all", "others": "mean",
            },
        }  # fmt: skip

    def merge(self, ckpts: Checkpoints) -> Weights:
        rest, split = ckpts.base, self.cfg.in_proj == "split"
        if self.cfg.others == "mean":
            rest = rest + self.cfg.scale / len(ckpts.experts) * total(ckpts.task_vectors)
        modules = linear_layers(ckpts.base, self.cfg.matrices, split=split)
        return merge_matrices(ckpts, rest, modules, self.solve, self.cfg.scale)

    def solve(self, taus: Tensor) -> Tensor:
        """The merged task vector of one matrix.  ``[K, out, in] -> [out, in]``."""
        if self.cfg.step_size == "published":
            return descend(taus, self.cfg.lr, self.cfg.steps)
        unit = rms(taus.sum(0)) or rms(taus) or 1.0  # the sum may cancel; all may be still
        return unit * descend(taus / unit, self.cfg.lr_rel, self.cfg.steps)


def rms(tensor: Tensor) -> float:
    """The root mean square of the entries."""
    return tensor.square().mean().sqrt().item()


def descend(taus: Tensor, lr: float, steps: int) -> Tensor:
    """Adam on WUDI's objective from sum_t tau_t.  ``[K, out, in] -> [out, in]``.

    With tau = sum_t tau_t + d the gradient is 2 (d S - D), S = sum_t G_t: one product a step. In
    float32, round-off would be enough to move entries whose gradient is 0.
    """
    start = taus.sum(0)
    curvature, pull = sums(taus, start)
    moved = torch.zeros_like(start)
    adam = torch.optim.Adam([moved], lr=lr)
    for _ in range(steps):
        moved.grad = 2 * torch.addmm(pull, moved, curvature, beta=-1)
        adam.step()
    return start + moved


def sums(taus: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """S = sum_t G_t and D = sum_t (tau_t - start) G_t, G_t = tau_t^T tau_t / ||tau_t||_F^2.

    A task vector of zeros adds nothing.

    Returns:
        ``[in, in], [out, in]``.

    >>> sums(torch.tensor([[[1.0]], [[2.0]]]), torch.tensor([[3.0]]))
    (tensor([[2.]]), tensor([[-3.]]))
    """
    curvature, pull = start.new_zeros(start.shape[1], start.shape[1]), torch.zeros_like(start)
    for tau in taus:
        if size := tau.square().sum():
            gram = tau.T @ tau / size
            curvature += gram
            pull += (tau - start) @ gram
    return curvature, pull
