"""A method that learns, for tests of the interface."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from methods import Checkpoints, MergingMethod, Needs
from methods.base import NO_PAPER, Held
from methods.vit import PlainOps, encode
from methods.weights import Weights, total


class Learner(MergingMethod):
    """theta = theta_0 + coef * sum_t tau_t, coef learned by entropy minimisation."""

    name = "learner"
    title = "Learner"
    paper = NO_PAPER
    needs = Needs.IMAGES
    stores = "one model"

    def prepare(self, ckpts: Checkpoints, support) -> None:
        self.shown = sum(len(batch) for task in ckpts.experts for batch in support.images(task))
        self.base, self.sum = Held(ckpts.base), Held(total(ckpts.task_vectors))
        self.coef = nn.Parameter(torch.tensor(0.3))

    def current(self) -> Weights:
        tau = Weights(self.sum()).map(lambda tensor: self.coef * tensor)
        return Weights(self.base()) + tau

    def merge(self, ckpts: Checkpoints) -> Weights:
        return self.current()

    def features(self, images: Tensor, task: str) -> Tensor:
        if not self.training:
            return super().features(images, task)
        return encode(images, PlainOps(self.current()), self.vit)

    def adapt_loss(self, images: Mapping[str, Tensor]) -> Tensor:
        def entropy(values: Tensor) -> Tensor:
            return -(values.softmax(-1) * values.log_softmax(-1)).sum(-1).mean()

        return torch.stack([entropy(self.predict(x, task)) for task, x in images.items()]).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam([self.coef], lr=0.1)

    def on_fit_end(self) -> None:
        self.hold(self.current())
