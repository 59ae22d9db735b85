"""MagMax: of the task vectors' entries in one place, the largest by magnitude."""

import torch
from torch import Tensor

from methods.base import METHODS, Checkpoints, MergingMethod, Paper, Setting, Weights


@METHODS.register("magmax")
class MagMax(MergingMethod):
    """theta = theta_0 + scale * tau, tau_j = tau_tj with t = argmax_t |tau_tj|.

    Where a positive and a negative entry are the largest alike, they cancel [R: the authors take
    the last, which depends on the order]. The authors fine-tune one task after the other, and each
    from the pretrained model for comparison; here, as in FusionBench, every expert starts there.
    """

    title = "MagMax"
    paper = Paper(
        key="marczak2024magmax",
        arxiv="2407.06322",
        where="Sec. 4, maximum magnitude selection",
        year=2024,
        title="{MagMax}: Leveraging Model Merging for Seamless Continual Learning",
        authors=r"Marczak, Daniel and Twardowski, Bart{\l}omiej and Trzci{\'n}ski, Tomasz and "
        "Cygert, Sebastian",
        venue="European Conference on Computer Vision",
    )
    identity_config = {"scale": 1.0}
    duplicates = "ignored"

    class Config(MergingMethod.Config):
        """The scale is the authors' 0.5, searched here."""

        scale: float = Setting(0.5, low=0, grid=tuple(i / 10 for i in range(1, 21)))  # lambda

    def merge(self, ckpts: Checkpoints) -> Weights:
        def largest(*taus: Tensor) -> Tensor:
            return extreme(torch.stack(taus))

        first, *others = ckpts.task_vectors
        return ckpts.base + self.cfg.scale * first.zip(largest, *others)


def extreme(taus: Tensor) -> Tensor:
    """The entry of the largest magnitude; 0 where two of them cancel.  ``[K, ...] -> [...]``.

    >>> extreme(torch.tensor([[3.0, -1.0, 2.0, 1.0], [1.0, -2.0, -2.0, 2.0]]))
    tensor([ 3., -2.,  0.,  2.])
    """
    high, low = taus.amax(0).clamp(min=0), taus.amin(0).clamp(max=0)
    return torch.where(high > -low, high, torch.where(high < -low, low, 0.0))
