"""Fine-tune one expert: the image tower on one task, against the frozen text head."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning import LightningDataModule, LightningModule
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from bench.runtime import devices
from bench.runtime.lightning import make_trainer
from bench.zoo.recipes import FineTune, Preserving
from mergeshift import UserError, rng_of
from methods.common.vit import PlainOps, ViT, encode
from methods.common.weights import Weights
from tasks import Images, Task, load


@dataclass(frozen=True)
class Spread:
    """How one training is spread over a machine. It decides no number but by rounding.

    Raises:
        UserError: the strategy starts the whole command again in every process.
    """

    devices: int = 1  # each takes an equal part of every batch
    strategy: str = ""  # Lightning's; empty: "auto" for one device, "ddp_spawn" for several
    workers: int = 0  # processes that decode and assemble batches

    def __post_init__(self) -> None:
        known = ("", "auto", "spawn", "fork", "notebook")
        if not any(self.strategy.endswith(end) if end else not self.strategy for end in known):
            raise UserError(
                f"--strategy {self.strategy} starts the command anew in each process; "
                "take one that does not: auto, ddp_spawn, ddp_fork"
            )

    def for_trainer(self) -> dict[str, Any]:
        """How a Trainer is told."""
        if self.devices == 1:
            return {**devices.for_trainer(), "strategy": self.strategy or "auto"}
        return {
            "accelerator": devices.for_trainer()["accelerator"],
            "devices": self.devices,
            "strategy": self.strategy or "ddp_spawn",
            "use_distributed_sampler": False,  # Shares splits the batches
        }


@dataclass(frozen=True)
class Preserved:
    """Pictures of no task, and what the pretrained tower sees in them."""

    images: Tensor  # uint8 [P, H, W, 3]
    features: Tensor  # unit rows, [P, D]


class Batches(Dataset[tuple[Tensor, ...]]):
    """Step ``s`` of a task and seed is always the same batch: images, labels, rows of the pool.

    The last is there only where the recipe has a pool.

    Args:
        task: its train split is shown.
        recipe: how many images, moved by how much.
        seed: of the training.
        part: (r, n) gives every n-th image of a batch, from the r-th on; n such parts are a batch.
        pool: pictures in the pool.
    """

    def __init__(
        self, task: Task, recipe: FineTune, seed: int, part: tuple[int, int] = (0, 1), pool: int = 0
    ):
        self.split, self.recipe, self.pool = load(task, "train"), recipe, pool
        self.key, self.part = ("finetune", task.name, seed), slice(part[0], None, part[1])

    def __len__(self) -> int:
        return self.recipe.steps

    def __getitem__(self, step: int) -> tuple[Tensor, ...]:
        rng = rng_of(*self.key, step)
        rows = np.sort(self.recipe.rows(self.key, step, len(self.split), rng))
        pad = self.recipe.pad
        corners = rng.integers(0, 2 * pad + 1, (len(rows), 2))[self.part]
        rows = rows[self.part]
        widths = ((0, 0), (pad, pad), (pad, pad), (0, 0))
        padded = np.pad(self.split.images[rows], widths, mode="edge")
        side = self.split.images.shape[1]
        shifted = np.stack(
            [
                image[top : top + side, left : left + side]
                for image, (top, left) in zip(padded, corners, strict=True)
            ]
        )
        shown = torch.from_numpy(shifted), torch.from_numpy(self.split.labels[rows])
        if not isinstance(self.recipe, Preserving):
            return shown
        kept = rng.choice(self.pool, self.recipe.pictures, replace=False)[self.part]
        return *shown, torch.from_numpy(kept)


class Shares(LightningDataModule):
    """The batches of a training; each of several devices gets its part of all."""

    def __init__(self, task: Task, recipe: FineTune, seed: int, workers: int = 0, pool: int = 0):
        super().__init__()
        self.task, self.recipe, self.seed, self.workers = task, recipe, seed, workers
        self.pool = pool

    def train_dataloader(self) -> DataLoader:
        part = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        batches = Batches(self.task, self.recipe, self.seed, part, self.pool)
        return DataLoader(batches, batch_size=None, shuffle=False, num_workers=self.workers)


class Expert(LightningModule):
    """The tower's parameters, trained by cross-entropy on the task's zero-shot head.

    With pictures of no task and a recipe that asks for it, their features are held in place.
    """

    head: Tensor
    kept_images: Tensor  # uint8 [P, H, W, 3]
    kept_features: Tensor  # [P, D]
    losses: Tensor  # [steps]; a buffer, so that it comes back from other processes

    def __init__(
        self,
        vit: ViT,
        base: Weights,
        head: Tensor,
        recipe: FineTune,
        normalise: Callable[[Tensor], Tensor],
        preserved: Preserved | None = None,
    ):
        super().__init__()
        self.vit, self.recipe, self.names, self.normalise = vit, recipe, list(base), normalise
        self.tensors = nn.ParameterList(
            nn.Parameter(base[name].clone(), requires_grad=recipe.trains(name)) for name in base
        )
        self.register_buffer("head", head, persistent=False)
        self.register_buffer("losses", torch.zeros(recipe.steps))
        if preserved is not None:
            self.register_buffer("kept_images", preserved.images, persistent=False)
            self.register_buffer("kept_features", preserved.features, persistent=False)

    @property
    def weights(self) -> dict[str, Tensor]:
        """The tower by parameter name."""
        return dict(zip(self.names, self.tensors, strict=True))

    def features(self, images: Tensor) -> Tensor:
        """Unit rows.  ``uint8 [B, H, W, 3] -> [B, D]``."""
        found = encode(self.normalise(images), PlainOps(self.weights), self.vit)
        return F.normalize(found, dim=-1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits.  ``uint8 [B, H, W, 3] -> [B, C]``."""
        return self.features(images) @ self.head.T

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        images, labels, *kept = batch
        loss = F.cross_entropy(self(images), labels)
        if kept and isinstance(self.recipe, Preserving):
            moved = self.features(self.kept_images[kept[0]]) - self.kept_features[kept[0]]
            loss = loss + self.recipe.preserve * moved.square().sum(dim=-1).mean()
        self.losses[batch_idx] = self.trainer.strategy.reduce(loss.detach(), reduce_op="mean")
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:
        return self.recipe.optimiser(p for p in self.parameters() if p.requires_grad)


class Steps(Callback):
    """Tells ``watch`` of every training step."""

    def __init__(self, watch: Callable[[], None]):
        self.watch = watch

    def on_train_batch_end(self, *_: Any) -> None:
        self.watch()


@torch.inference_mode()
def accuracy(module: Expert, split: Images, batch: int = 250) -> float:
    """Share of ``split`` that is classified rightly."""
    device, right = devices.device(), 0
    module.to(device)
    for start in range(0, len(split), batch):
        images = torch.from_numpy(np.array(split.images[start : start + batch])).to(device)
        labels = torch.from_numpy(split.labels[start : start + batch]).to(device)
        right += int((module(images).argmax(1) == labels).sum())
    module.cpu()
    return right / len(split)


def finetune(
    task: Task,
    vit: ViT,
    base: Weights,
    head: Tensor,
    recipe: FineTune,
    normalise: Callable[[Tensor], Tensor],
    seed: int,
    watch: Callable[[], None],
    spread: Spread = Spread(),
    preserved: Preserved | None = None,
    curvature: dict[str, Tensor] | None = None,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """One expert; ``preserved`` is what a :class:`Preserving` recipe holds in place.

    A dictionary that is given as ``curvature`` is filled with Adam's second moments at the end, by
    parameter name; 0 for what is not trained.

    Returns:
        Its weights by parameter name, and what to write in the manifest: accuracies on val before
        and after, and the loss curve.

    Raises:
        UserError: a batch cannot be divided among the devices, or the second moments are wanted of
            several.
    """
    if curvature is not None and spread.devices > 1:
        raise UserError("Adam's second moments are kept where one device trains: --devices 1")
    if recipe.batch % spread.devices:
        raise UserError(f"a batch of {recipe.batch} images is not divided by {spread.devices}")
    expert = Expert(vit, base, head, recipe, normalise, preserved)
    before = accuracy(expert, load(task, "val"))
    pool = 0 if preserved is None else len(preserved.images)
    trainer = make_trainer(max_steps=recipe.steps, callbacks=[Steps(watch)], **spread.for_trainer())
    trainer.fit(expert, Shares(task, recipe, seed, spread.workers, pool))
    expert.eval()
    if curvature is not None:
        curvature |= second_moments(expert, trainer.optimizers[0])
    facts = {
        "val_accuracy": accuracy(expert, load(task, "val")),
        "val_accuracy_zero_shot": before,
        "loss": [round(loss, 4) for loss in expert.losses.tolist()],
    }
    return {name: tensor.detach() for name, tensor in expert.weights.items()}, facts


def second_moments(expert: Expert, adam: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What Adam holds of every parameter: the moving average of its squared gradients.

    As it is, not divided by the share of it that has been filled (0.999 to the power of the steps):
    a factor that all experts of one recipe share.
    """
    return {
        name: adam.state[tensor]["exp_avg_sq"].cpu().clone()
        if tensor in adam.state
        else torch.zeros_like(tensor, requires_grad=False)
        for name, tensor in expert.weights.items()
    }
