"""A method that learns, for tests of the interface."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from methods import Checkpoints, MergingMethod, Needs
from methods.base import NO_PAPER, Held
from methods.support import Adaptation
from methods.vit import PlainOps, encode
from methods.weights import Weights, total


class Coefficient(nn.Module):
    """One number."""

    def __init__(self) -> None:
        super().__init__()
        self.coef = nn.Parameter(torch.tensor(0.3))


class Learner(MergingMethod):
    """theta = theta_0 + coef * sum_t tau_t, coef learned by entropy minimisation."""

    name = "learner"
    title = "Learner"
    paper = NO_PAPER
    needs = Needs.IMAGES
    stores = "one model"
    adaptation = Adaptation(steps=3, batch=4)
    learned: Coefficient

    def prepare(self, ckpts: Checkpoints) -> None:
        self.learned = Coefficient()

    def learn(self, ckpts: Checkpoints, support) -> None:
        self.shown = sum(len(batch) for task in ckpts.experts for batch in support.images(task))
        self.base, self.sum = Held(ckpts.base), Held(total(ckpts.task_vectors))

    def merge(self, ckpts: Checkpoints) -> Weights:
        return ckpts.base + self.learned.coef.item() * total(ckpts.task_vectors)

    def adapt_loss(self, images: Mapping[str, Tensor]) -> Tensor:
        tau = Weights(self.sum()).map(lambda tensor: self.learned.coef * tensor)
        ops = PlainOps((Weights(self.base()) + tau).materialise())

        def entropy(x: Tensor, task: str) -> Tensor:
            features = nn.functional.normalize(encode(x, ops, self.vit), dim=-1)
            values = features @ self.heads()[task].T
            return -(values.softmax(-1) * values.log_softmax(-1)).sum(-1).mean()

        return torch.stack([entropy(x, task) for task, x in images.items()]).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.learned.parameters(), lr=0.1)

    def on_fit_end(self) -> None:
        del self.base, self.sum
