"""TIES-Merging: trim, elect a sign, merge what agrees with it."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from methods.base import METHODS, Checkpoints, MergingMethod, Paper, Setting, Weights, total


@METHODS.register("ties")
class Ties(MergingMethod):
    """theta = theta_0 + scale * ties(tau_1 .. tau_K)."""

    title = "TIES"
    paper = Paper(
        key="yadav2023ties",
        arxiv="2306.01708",
        where="Algorithm 1",
        year=2023,
        title="{TIES}-Merging: Resolving Interference When Merging Models",
        authors="Yadav, Prateek and Tam, Derek and Choshen, Leshem and Raffel, Colin and Bansal, "
        "Mohit",
        venue="Advances in Neural Information Processing Systems",
        volume=36,
        pages="7093--7115",
    )
    identity_config = {"keep": 1.0, "scale": 1.0}

    class Config(MergingMethod.Config):
        """The paper's are ``mean`` at a scale near 1; FusionBench's ``sum`` at 0.3."""

        keep: float = Setting(  # share of each task vector that is kept, by magnitude
            0.2, above=0, high=1, grid=(0.2, 0.5)
        )
        merge: Literal["mean", "sum"] = Setting(  # of the entries that have the elected sign
            "mean", grid=("mean", "sum")
        )
        scale: float = Setting(  # lambda
            1.0, low=0, grid=(0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5)
        )
        zero_sign: Literal["zero", "majority"] = "zero"  # where the kept entries cancel exactly

    def merge(self, ckpts: Checkpoints) -> Weights:
        trimmed = [trim(tau, self.cfg.keep) for tau in ckpts.task_vectors]
        otherwise = majority_sign(trimmed) if self.cfg.zero_sign == "majority" else 0.0

        def agreed(*taus: Tensor) -> Tensor:
            return disjoint_merge(torch.stack(taus), self.cfg.merge, otherwise)

        return ckpts.base + self.cfg.scale * trimmed[0].zip(agreed, *trimmed[1:])


def trim(tau: Weights, keep: float) -> Weights:
    """Step 1: set all but the largest entries of a task vector to zero.

    ``max(1, round(keep * P))`` entries of the whole vector are kept, and those that tie with the
    smallest of them. (The authors' code keeps one more.)
    """
    smallest = kth_largest(tau, max(1, round(keep * tau.num_entries)))
    return tau.map(lambda entries: entries * (entries.abs() >= smallest))


def disjoint_merge(trimmed: Tensor, how: str, otherwise: float = 0.0) -> Tensor:
    """Steps 2 and 3: elect a sign, merge the entries that have it.  ``[K, ...] -> [...]``.

    >>> disjoint_merge(torch.tensor([[3.0, -1.0, 2.0], [1.0, 2.0, -2.0]]), "mean")
    tensor([2., 2., 0.])
    """
    kept = agreeing(trimmed, otherwise)
    merged = kept.sum(0)
    return merged / (kept != 0).sum(0).clamp(min=1) if how == "mean" else merged


def agreeing(trimmed: Tensor, otherwise: float = 0.0) -> Tensor:
    """Step 2: elect a sign, set the entries that do not have it to zero.  ``[K, ...]``.

    The paper leaves open what to elect where the entries cancel exactly: ``otherwise``. At 0
    nothing agrees and the result is 0; the authors' code takes the majority sign of the vector.

    >>> agreeing(torch.tensor([[3.0, -1.0, 2.0], [1.0, 2.0, -2.0]])).tolist()
    [[3.0, 0.0, 0.0], [1.0, 2.0, 0.0]]
    """
    elected = trimmed.sum(0).sign()
    elected = torch.where(elected == 0, otherwise, elected)
    return torch.where((trimmed.sign() == elected) & (trimmed != 0), trimmed, 0.0)


def majority_sign(trimmed: list[Weights]) -> float:
    """The sign that most entries of the sum have: -1, 0 or 1."""
    votes = [entries.sign().sum().item() for entries in total(trimmed).values()]
    return float(np.sign(sum(votes)))


def kth_largest(weights: Weights, k: int) -> float:
    """The k-th largest magnitude, exactly, reading every tensor once.

    Only what may still be among the k largest is held: at most 2 k numbers and one tensor.
    """
    held, count, bound = [], 0, 0.0
    for tensor in weights.values():
        entries = tensor.abs().flatten().cpu().numpy()
        held.append(entries[entries >= bound])
        count += len(held[-1])
        if count > 2 * k:
            held, count = [largest(np.concatenate(held), k)], k
            bound = held[0].min()
    return float(largest(np.concatenate(held), k).min())


def largest(entries: np.ndarray, k: int) -> np.ndarray:
    """The k largest entries, in any order.  ``[n] -> [k]``."""
    return np.partition(entries, len(entries) - k)[len(entries) - k :]
