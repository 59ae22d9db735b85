"""Each image by experts weighed so that the answers are sure."""

from collections.abc import Mapping

import torch
from torch import Tensor

from methods.base import METHODS, NO_PAPER, AdaptationSchedule, Needs, Setting
from methods.common.losses import entropy
from methods.routing.method import MLPRoutedMethod


@METHODS.register("entropy_router")
class EntropyRouter(MLPRoutedMethod):
    """w(x) = softmax(MLP(f_0(x) / |f_0(x)|)), trained for a low entropy of theta(x)'s predictions.

    f_0 is the pretrained encoder; the gradient goes through the mixed weights.
    """

    title = "Entropy router"
    paper = NO_PAPER
    needs = Needs.IMAGES
    identity_config = {}

    class Config(MLPRoutedMethod.Config):
        lr: float = Setting(1e-3, above=0)  # Adam [R]
        steps: int = Setting(200, low=1)  # [R]
        batch: int = Setting(8, low=1)  # images of every task, a step [R]

    @property
    def adaptation(self) -> AdaptationSchedule:
        return AdaptationSchedule(self.cfg.steps, self.cfg.batch)

    def adapt_loss(self, images: Mapping[str, Tensor]) -> Tensor:
        """The mean entropy of a task's predictions, summed over the tasks."""
        order = sorted(images)
        if self.knows_task:
            features = [self.features(images[task], task) for task in order]
        else:  # in one pass: what is mixed is read once for all
            joined = self.features(torch.cat([images[task] for task in order]), order[0])
            features = list(joined.split([len(images[task]) for task in order]))
        pairs = zip(features, order, strict=True)
        return torch.stack([entropy(self.classify(x, task)).mean() for x, task in pairs]).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.learned.parameters(), self.cfg.lr)
