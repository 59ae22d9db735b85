"""Every expert answers, and the answers are averaged."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.base import METHODS, NO_PAPER, Checkpoints, MergingMethod, Weights
from methods.common.vit import encode_plain


@METHODS.register("logit_ensemble")
class LogitEnsemble(MergingMethod):
    """logits = mean over t of the logits of theta_t's features under the head of x's task.

    One forward pass per expert.
    """

    title = "Logit ensemble"
    paper = NO_PAPER
    stores = "one model per task"
    identity_config = {}

    class Config(MergingMethod.Config):
        """What is averaged."""

        average: Literal["logits", "probabilities"] = "logits"

    def merge(self, ckpts: Checkpoints) -> Mapping[str, Weights]:
        return ckpts.experts

    def features(self, images: Tensor, task: str) -> Tensor:
        """The mean of the experts' unit features: under a head it gives the mean logits."""
        return self.every(images).mean(0)

    def predict(self, images: Tensor, task: str) -> Tensor:
        """Class logits; of averaged probabilities, their logarithm."""
        logits = self.every(images) @ self.heads()[task].T  # [K, B, C]
        if self.cfg.average == "logits":
            return logits.mean(0)
        return logits.log_softmax(-1).logsumexp(0) - torch.tensor(float(len(logits))).log()

    def every(self, images: Tensor) -> Tensor:
        """Unit features of every expert.  ``[B, 3, H, W] -> [K, B, D]``."""
        found = [encode_plain(images, model(), self.vit) for model in self.models.values()]
        return F.normalize(torch.stack(found), dim=-1)
