"""Multi-task training: one model that learns all tasks from their training images at once."""

import torch
from torch import Tensor
from torch.nn import functional as F

from mergeshift import UserError
from methods.base import (
    METHODS,
    NO_PAPER,
    Checkpoints,
    DataAccess,
    MergingMethod,
    Needs,
    Setting,
    TensorBuffers,
    Weights,
)
from methods.common.data_access import take_images
from methods.common.vit import PlainOps, encode


@METHODS.register("multitask")
class Multitask(MergingMethod):
    """theta = argmin sum_t cross-entropy_t(theta), from theta_0, on the experts' training images.

    The reference that merging does without: what one model of this size can do when all training
    images are there at once. All tensors are trained, without preservation; else the recipe is
    that of the pocket experts, and so is the number of steps of each task: every batch is of one
    task, and the tasks take turns in an order that is drawn anew each round. Experts are not
    looked at. All images are held in memory.
    """

    title = "Multi-task training"
    paper = NO_PAPER
    needs = Needs.TRAIN_LABELS
    quick_config = {"steps": 2}
    learned: TensorBuffers  # the weights
    learns_weights = True

    class Config(MergingMethod.Config):
        """The recipe of the pocket experts."""

        steps: int = Setting(1000, low=0)  # for each task
        batch: int = Setting(16, low=1)
        lr: float = Setting(3e-4, low=0)  # the peak of a one-cycle schedule, of AdamW
        weight_decay: float = Setting(0.01, low=0)
        pad: int = Setting(3, low=0)  # pixels of random translation
        images: int = Setting(0, low=0)  # of each task, at most; 0: all there are

    def prepare(self, ckpts: Checkpoints) -> None:
        self.learned = TensorBuffers({k: torch.zeros(ckpts.base.shape(k)) for k in ckpts.base})

    def learn(self, ckpts: Checkpoints, access: DataAccess) -> None:
        tasks = sorted(ckpts.experts)
        data = {task: self.shown(task, access) for task in tasks}
        model = {name: tensor.clone().requires_grad_() for name, tensor in ckpts.base.items()}
        total = self.cfg.steps * len(tasks)
        adam = torch.optim.AdamW(model.values(), self.cfg.lr, weight_decay=self.cfg.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            adam, self.cfg.lr, total_steps=total + 1, pct_start=0.1
        ) if self.cfg.lr else None  # fmt: skip
        losses = []
        for step in range(total):
            task = self.turns(tasks, step // len(tasks))[step % len(tasks)]
            images, labels = self.batch(*data[task], step)
            with torch.enable_grad():
                features = F.normalize(encode(images, PlainOps(model), self.vit), dim=-1)
                loss = F.cross_entropy(features @ self.heads()[task].T, labels)
                adam.zero_grad()
                loss.backward()
            adam.step()
            if schedule:
                schedule.step()
            losses.append(loss.detach())
        for name, held in self.learned().items():
            held.copy_(model[name].detach())
        self.report = {"losses": [float(loss) for loss in losses]}

    def shown(self, task: str, access: DataAccess) -> tuple[Tensor, Tensor]:
        """The training images of a task and their labels."""
        found = list(take_images(access.training(task), self.cfg.images or None))
        if not found:
            raise UserError(f"{self.name} trains on images of every task; {task} has none")
        images, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
        return images, labels

    def turns(self, tasks: list[str], number: int) -> list[str]:
        """The order of the tasks in one round."""
        places = torch.randperm(len(tasks), generator=self.generator("round", number))
        return [tasks[place] for place in places.tolist()]

    def batch(self, images: Tensor, labels: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """What is shown at a step: any images, also twice, moved by some pixels."""
        random = self.generator("batch", step)
        rows = torch.randint(len(images), (self.cfg.batch,), generator=random)
        corners = torch.randint(2 * self.cfg.pad + 1, (self.cfg.batch, 2), generator=random)
        rows = rows.to(images.device)
        return translated(images[rows], corners, self.cfg.pad), labels[rows]

    def merge(self, ckpts: Checkpoints) -> Weights:
        return Weights(self.learned())


def translated(images: Tensor, corners: Tensor, pad: int) -> Tensor:
    """Images cut out of larger ones, whose margins repeat the edge.  ``[B, 3, H, W]``.

    Args:
        images: as they are.
        corners: where the cut begins, from 0 to 2 pad, ``[B, 2]``; ``pad`` moves nothing.
        pad: pixels of the margin.
    """
    padded = F.pad(images, (pad, pad, pad, pad), mode="replicate")
    height, width = images.shape[2:]
    cuts = zip(padded, corners.tolist(), strict=True)
    return torch.stack([x[:, top : top + height, left : left + width] for x, (top, left) in cuts])
