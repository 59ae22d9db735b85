"""Consensus merging: keep the entries of a merged task vector that several tasks have a use for.

Which entries a task uses is the rule of TALL masks: where its own task vector is larger than what
the others add to it.
"""

from dataclasses import replace

import torch
from torch import Tensor

from methods.base import METHODS, Checkpoints, MergingMethod, Paper, Setting, Weights, total
from methods.ties import agreeing, trim


@METHODS.register("consensus_ta")
class ConsensusTA(MergingMethod):
    """theta = theta_0 + scale * m tau, tau = sum_t tau_t, m = 1[sum_t m_t >= agree].

    m_t = 1[|tau_t| > threshold |tau - tau_t|]. The authors choose a threshold for every task, by
    its accuracy under m_t tau on val; here one is searched for all, together with the scale [R].
    """

    title = "Consensus TA"
    paper = Paper(
        key="wang2024tall",
        arxiv="2405.07813",
        where="Sec. 4.3, Consensus Merging",
        year=2024,
        title="Localizing Task Information for Improved Model Merging and Compression",
        authors=r"Wang, Ke and Dimitriadis, Nikolaos and Ortiz-Jimenez, Guillermo and Fleuret, "
        r"Fran{\c{c}}ois and Frossard, Pascal",
        venue="International Conference on Machine Learning",
        series="Proceedings of Machine Learning Research",
        volume=235,
    )
    identity_config = {"agree": 1, "scale": 1.0}

    class Config(MergingMethod.Config):
        """The authors' thresholds are 0.2 to 0.6, and two tasks have to agree."""

        threshold: float = Setting(0.4, low=0, grid=(0.2, 0.3, 0.4, 0.6))  # lambda of the masks
        agree: int = Setting(2, low=0)  # k: how many tasks have to use an entry
        scale: float = Setting(  # alpha
            0.3, low=0, grid=(0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5)
        )

    def merged_task_vector(self, ckpts: Checkpoints) -> Weights:
        """tau, of which entries are kept."""
        return total(ckpts.task_vectors)

    def merge(self, ckpts: Checkpoints) -> Weights:
        def kept(tau: Tensor, *taus: Tensor) -> Tensor:
            return tau * (users(tau, torch.stack(taus), self.cfg.threshold) >= self.cfg.agree)

        tau = self.merged_task_vector(ckpts).zip(kept, *ckpts.task_vectors)
        return ckpts.base + self.cfg.scale * tau


@METHODS.register("consensus_ties")
class ConsensusTies(ConsensusTA):
    """theta = theta_0 + scale * m tau, tau = ties(tau_1 .. tau_K), m = 1[sum_t m_t >= agree].

    TIES sums what agrees, as in the authors' code; the masks are by the rule of Consensus TA, tau
    being that of TIES.
    """

    title = "Consensus TIES"
    paper = replace(ConsensusTA.paper, where="Sec. 4.3, Consensus Merging, of TIES")
    identity_config = {"agree": 1, "scale": 1.0, "keep": 1.0}

    class Config(ConsensusTA.Config):
        """The authors' constants."""

        keep: float = Setting(0.2, above=0, high=1)  # share of each task vector that TIES keeps

    def merged_task_vector(self, ckpts: Checkpoints) -> Weights:
        def agreed(*taus: Tensor) -> Tensor:
            return agreeing(torch.stack(taus)).sum(0)

        first, *others = (trim(tau, self.cfg.keep) for tau in ckpts.task_vectors)
        return first.zip(agreed, *others)


def users(tau: Tensor, taus: Tensor, threshold: float) -> Tensor:
    """sum_t m_t: how many tasks have a use for each entry.

    Args:
        tau: the merged task vector, ``[...]``.
        taus: of the tasks, ``[K, ...]``.
        threshold: lambda; the comparison is strict.

    >>> users(torch.tensor([4.0, 2.0]), torch.tensor([[3.0, 0.0], [1.0, 2.0]]), 0.2)
    tensor([2, 1])
    """
    return (taus.abs() > threshold * (tau - taus).abs()).sum(0)
