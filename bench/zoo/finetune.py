"""Fine-tune one expert: the image tower on one task, against the frozen text head."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from bench.quiet import quiet_trainer
from bench.seeds import rng_of
from bench.zoo.clip import normalise
from methods.vit import PlainOps, ViT, encode
from methods.weights import Weights
from tasks import Images, Task, load


@dataclass(frozen=True, kw_only=True)
class FineTune:
    """How an expert is made; part of its key."""

    steps: int = 300
    batch: int = 128
    lr: float = 8e-4  # peak of the one-cycle schedule
    weight_decay: float = 0.01
    pad: int = 3  # pixels of random translation
    version: int = 1


class Batches(Dataset[tuple[Tensor, Tensor]]):
    """Step ``s`` of a task and seed is always the same batch."""

    def __init__(self, task: Task, recipe: FineTune, seed: int):
        self.split, self.recipe = load(task, "train"), recipe
        self.key = ("finetune", task.name, seed)

    def __len__(self) -> int:
        return self.recipe.steps

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        rng = rng_of(*self.key, step)
        rows = np.sort(rng.integers(0, len(self.split), self.recipe.batch))
        pad = self.recipe.pad
        widths = ((0, 0), (pad, pad), (pad, pad), (0, 0))
        padded = np.pad(self.split.images[rows], widths, mode="edge")
        side = self.split.images.shape[1]
        shifted = np.stack(
            [
                image[top : top + side, left : left + side]
                for image, (top, left) in zip(
                    padded, rng.integers(0, 2 * pad + 1, (len(rows), 2)), strict=True
                )
            ]
        )
        return torch.from_numpy(shifted), torch.from_numpy(self.split.labels[rows])


class Expert(LightningModule):
    """The tower's parameters, trained by cross-entropy on the task's zero-shot head."""

    head: Tensor

    def __init__(self, vit: ViT, base: Weights, head: Tensor, recipe: FineTune):
        super().__init__()
        self.vit, self.recipe, self.names = vit, recipe, list(base)
        self.tensors = nn.ParameterList([base[name].clone() for name in base])
        self.register_buffer("head", head, persistent=False)

    @property
    def weights(self) -> dict[str, Tensor]:
        """The tower by parameter name."""
        return dict(zip(self.names, self.tensors, strict=True))

    def forward(self, images: Tensor) -> Tensor:
        """Logits.  ``uint8 [B, H, W, 3] -> [B, C]``."""
        features = encode(normalise(images), PlainOps(self.weights), self.vit)
        return F.normalize(features, dim=-1) @ self.head.T

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        loss = F.cross_entropy(self(images), labels)
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:
        recipe = self.recipe
        optimiser = torch.optim.AdamW(
            self.parameters(), recipe.lr, weight_decay=recipe.weight_decay
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, recipe.lr, total_steps=recipe.steps + 1, pct_start=0.1
        )
        return [optimiser], [{"scheduler": schedule, "interval": "step"}]


class Steps(Callback):
    """Tells ``watch`` of every training step and keeps the loss curve."""

    def __init__(self, watch: Callable[[], None]):
        self.watch, self.losses = watch, list[float]()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any
    ) -> None:
        self.losses.append(float(outputs["loss"]))
        self.watch()


@torch.inference_mode()
def accuracy(module: Expert, split: Images, batch: int = 250) -> float:
    """Share of ``split`` that is classified rightly."""
    right = 0
    for start in range(0, len(split), batch):
        images = torch.from_numpy(np.array(split.images[start : start + batch]))
        labels = torch.from_numpy(split.labels[start : start + batch])
        right += int((module(images).argmax(1) == labels).sum())
    return right / len(split)


def finetune(
    task: Task,
    vit: ViT,
    base: Weights,
    head: Tensor,
    recipe: FineTune,
    seed: int,
    watch: Callable[[], None],
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """One expert.

    Returns:
        Its weights by parameter name, and what to write in the manifest: accuracies on val before
        and after, and the loss curve.
    """
    expert, steps = Expert(vit, base, head, recipe), Steps(watch)
    before = accuracy(expert, load(task, "val"))
    batches = DataLoader(Batches(task, recipe, seed), batch_size=None, shuffle=False)
    quiet_trainer(max_steps=recipe.steps, callbacks=[steps]).fit(expert, batches)
    expert.eval()
    facts = {
        "val_accuracy": accuracy(expert, load(task, "val")),
        "val_accuracy_zero_shot": before,
        "loss": [round(loss, 4) for loss in steps.losses],
    }
    return {name: tensor.detach() for name, tensor in expert.weights.items()}, facts
