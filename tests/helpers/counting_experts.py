"""Experts that remember which of their tensors are read."""

from collections import Counter
from dataclasses import replace

from torch import Tensor

from methods import Checkpoints
from methods.common.weights import Weights


def counted(ckpts: Checkpoints) -> tuple[Checkpoints, Counter[tuple[str, str]]]:
    """The same checkpoints, and how often each tensor of each expert was read: (task, name)."""
    reads: Counter[tuple[str, str]] = Counter()

    def watched(task: str, expert: Weights) -> Weights:
        def read(name: str) -> Tensor:
            reads[task, name] += 1
            return expert[name]

        return Weights.lazy({name: expert.shape(name) for name in expert}, read)

    experts = {task: watched(task, expert) for task, expert in ckpts.experts.items()}
    return replace(ckpts, experts=experts), reads
