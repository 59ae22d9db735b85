"""How an expert is made: the pocket recipe, and that of published checkpoints."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from mergeshift import rng_of


@dataclass(frozen=True, kw_only=True)
class FineTune:
    """How an expert is made; part of its key."""

    steps: int = 300
    batch: int = 128
    lr: float = 8e-4  # peak of the one-cycle schedule
    weight_decay: float = 0.01
    pad: int = 3  # pixels of random translation
    version: int = 1

    def trains(self, name: str) -> bool:
        """Whether it moves a parameter of the tower."""
        return True

    @property
    def shown(self) -> int:
        """Images that a step goes through, forward and backward."""
        return self.batch

    def rows(self, key: tuple, step: int, count: int, rng: np.random.Generator) -> np.ndarray:
        """Which of ``count`` images are shown at a step: any, also twice.  ``-> [batch]``.

        Args:
            key: names the training.
            step: from 0 on.
            count: images of the train split.
            rng: for this step.
        """
        return rng.integers(0, count, self.batch)

    def optimiser(self, parameters: Iterable[nn.Parameter]) -> Any:
        """What Lightning takes as an optimiser."""
        adam = torch.optim.AdamW(parameters, self.lr, weight_decay=self.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            adam, self.lr, total_steps=self.steps + 1, pct_start=0.1
        )
        return [adam], [{"scheduler": schedule, "interval": "step"}]


@dataclass(frozen=True, kw_only=True)
class Preserving(FineTune):
    """Fine-tuning of matrices that keeps what the tower sees in pictures of no task.

    To the cross-entropy comes ``preserve`` times the mean squared distance between the unit
    features of the expert and of theta_0 on ``pictures`` unlabelled pictures a step (learning
    without forgetting, Li and Hoiem 2016, arXiv 1606.09282, with features in place of answers).
    They are drawn from a pool that belongs to no task and is the same for all experts: no expert
    has seen another task's pictures, as none that is published has. Many steps of small batches
    make the entries that a task needs, which always move the same way, stand out from the walk of
    all others: methods that trim or elect signs have something to find.
    """

    steps: int = 1000
    batch: int = 16
    lr: float = 3e-4
    preserve: float = 0.5
    pictures: int = 6
    blocks: tuple[int, ...]  # whose matrices are trained
    pool: str  # 16 hex digits of the pool's pixels

    @property
    def shown(self) -> int:
        return self.batch + self.pictures

    def trains(self, name: str) -> bool:
        found = re.fullmatch(r"transformer\.resblocks\.(\d+)\.(?:attn|mlp)\..*weight", name)
        return found is not None and int(found[1]) in self.blocks


@dataclass(frozen=True, kw_only=True)
class AsPublished(FineTune):
    """The recipe of FusionBench's checkpoints: Adam, in shuffled epochs, without augmentation.

    Their model cards state a constant rate of 1e-5, 4,000 steps of 32 images, and that the vision
    encoder alone is trained; the projection is no part of it. Of the rest, the program that is
    public now tells: it shuffles, and it lets the rate fall, which the cards deny.
    """

    steps: int = 4000
    batch: int = 32
    lr: float = 1e-5
    weight_decay: float = 0.0
    pad: int = 0
    frozen: tuple[str, ...] = ("proj",)
    cosine: bool = False  # the rate falls to 0 along one, as in the program; not on the cards [R]
    epochs: bool = True  # no image is shown again before all were, as in the program. A batch goes
    # on into the next epoch, where the program's ends early [R]

    def trains(self, name: str) -> bool:
        return name not in self.frozen

    def rows(self, key: tuple, step: int, count: int, rng: np.random.Generator) -> np.ndarray:
        if not self.epochs:
            return super().rows(key, step, count, rng)
        epochs, places = np.divmod(np.arange(self.batch) + step * self.batch, count)
        orders = {
            epoch: rng_of(*key, "epoch", epoch).permutation(count) for epoch in set(epochs.tolist())
        }
        return np.array([orders[e][i] for e, i in zip(epochs.tolist(), places, strict=True)])

    def optimiser(self, parameters: Iterable[nn.Parameter]) -> Any:
        adam = torch.optim.Adam(parameters, self.lr, weight_decay=self.weight_decay)
        if not self.cosine:
            return adam
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, self.steps)
        return [adam], [{"scheduler": schedule, "interval": "step"}]
