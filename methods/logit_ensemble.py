"""Every expert answers, and the answers are averaged."""

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from methods.base import METHODS, NO_PAPER, Checkpoints, MergingMethod, Weights
from methods.common.ensemble import EnsembleMixin, mean_log_prob


@METHODS.register("logit_ensemble")
class LogitEnsemble(EnsembleMixin, MergingMethod):
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

    def predict(self, images: Tensor, task: str) -> Tensor:
        """Class logits; of averaged probabilities, their logarithm."""
        logits = self.all_features(images) @ self.heads()[task].T  # [K, B, C]
        if self.cfg.average == "logits":
            return logits.mean(0)
        return mean_log_prob(logits)
