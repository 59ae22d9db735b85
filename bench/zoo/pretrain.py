"""Pretrain the pocket encoder: SimCLR on pictures without labels, and a few captions.

The recipe makes what CLIP is to the field: features that transfer, zero-shot answers that are
better than chance and far from solved. Three losses on the train splits of all pocket tasks:

* SimCLR (Chen et al. 2020, arXiv 2002.05709, eq. 1) on two views of every picture, no label;
* CLIP's image-to-text loss on the precise captions of a small share of the pictures;
* the same loss on coarse captions, which name the task of a picture and not its class.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from bench.runtime.lightning import silence_lightning
from bench.zoo.pocket_clip import POCKET, Vocabulary, new_model, normalise, save_model
from mergeshift import rng_of
from methods.common.vit import PlainOps, encode
from tasks import Task, load, suite


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Knobs of the pretraining."""

    suite: str = "pocket20"  # whose train splits are seen
    steps: int = 3000
    pairs: int = 192  # pictures a step, two views each
    captions: int = 64  # pictures with precise captions a step
    share: float = 0.015  # of each task's train split that has precise captions, in (0, 1]
    coarse: float = 0.3  # weight of the coarse captions' loss
    temperature: float = 0.2  # of SimCLR
    smoothing: float = 0.05  # of the caption targets
    lr: float = 2e-3  # peak of the one-cycle schedule
    weight_decay: float = 0.05
    seed: int = 0


class Steps(Dataset[dict[str, Tensor]]):
    """The batches: step ``s`` draws from ``rng_of("pretrain", seed, s)``, to resume exactly.

    Lightning begins a resumed epoch at item 0 again: that is step ``first``.
    """

    def __init__(self, tasks: Sequence[Task], recipe: Recipe, first: int = 0):
        self.recipe, self.first = recipe, first
        splits = [load(task, "train") for task in tasks]
        offsets = np.cumsum([0, *(task.num_classes for task in tasks)])
        self.images = torch.from_numpy(np.concatenate([split.images for split in splits]))
        counts = [len(split) for split in splits]
        self.task = torch.from_numpy(np.repeat(np.arange(len(tasks)), counts))
        self.label = torch.from_numpy(
            np.concatenate([s.labels + o for s, o in zip(splits, offsets, strict=False)])
        )
        starts = np.cumsum([0, *counts])
        self.captioned = np.concatenate(
            [
                s + np.arange(max(1, int(n * recipe.share)))
                for s, n in zip(starts, counts, strict=False)
            ]
        )

    def __len__(self) -> int:
        return self.recipe.steps

    def __getitem__(self, item: int) -> dict[str, Tensor]:
        rng = rng_of("pretrain", self.recipe.seed, self.first + item)
        seen = torch.from_numpy(rng.integers(0, len(self.images), self.recipe.pairs))
        told = torch.from_numpy(rng.choice(self.captioned, self.recipe.captions))
        return {
            "pictures": self.images[seen],
            "task": self.task[seen],
            "captioned": self.images[told],
            "label": self.label[told],
            "seed": torch.tensor(rng.integers(2**31)),
        }


def views(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Turn, scale, move, brighten.  ``uint8 [B, H, W, 3] -> float [B, 3, H, W]``."""
    x = normalise(pictures)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.empty(len(x), *shape).uniform_(low, high, generator=generator)

    scale, angle = uniform(0.55, 1.1), uniform(-0.3, 0.3)
    rows = torch.stack([scale * angle.cos(), -scale * angle.sin(),
                        scale * angle.sin(), scale * angle.cos()], 1).view(-1, 2, 2)  # fmt: skip
    affine = torch.cat([rows, uniform(-0.25, 0.25, 2)[..., None]], dim=2)
    grid = F.affine_grid(affine, list(x.shape), align_corners=False)
    x = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    return x * uniform(0.7, 1.3, 1, 1, 1) + uniform(-0.4, 0.4, 1, 1, 1)


class Pretraining(LightningModule):
    """The three losses on one open_clip model."""

    def __init__(self, tasks: Sequence[Task], recipe: Recipe):
        super().__init__()
        precise = [prompt for task in tasks for prompt in task.prompts]
        coarse = [task.noun for task in tasks]
        self.recipe, self.num_precise = recipe, len(precise)
        self.vocabulary = Vocabulary.of(precise + coarse)
        self.model = new_model(self.vocabulary)
        self.projector = nn.Sequential(
            nn.Linear(POCKET.output_dim, 256), nn.GELU(), nn.Linear(256, 64)
        )
        self.register_buffer("tokens", self.vocabulary.encode(precise + coarse), persistent=False)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        generator = torch.Generator().manual_seed(int(batch["seed"]))
        pictures = [batch["pictures"], batch["pictures"], batch["captioned"]]
        x = torch.cat([views(part, generator) for part in pictures])
        weights = dict(self.model.visual.named_parameters())
        features = encode(x, PlainOps(weights), POCKET)
        pairs = self.recipe.pairs
        simclr = self.simclr(features[: 2 * pairs])
        text = F.normalize(self.model.encode_text(self.tokens), dim=-1)
        scaled = F.normalize(features, dim=-1) * self.model.logit_scale.exp().clamp(max=100)
        logits = scaled @ text.T
        smoothing = self.recipe.smoothing
        precise = F.cross_entropy(
            logits[2 * pairs :, : self.num_precise], batch["label"], label_smoothing=smoothing
        )
        coarse = F.cross_entropy(
            logits[:pairs, self.num_precise :], batch["task"], label_smoothing=smoothing
        )
        self.log_dict({"simclr": simclr, "precise": precise, "coarse": coarse}, prog_bar=True)
        return simclr + precise + self.recipe.coarse * coarse

    def simclr(self, features: Tensor) -> Tensor:
        """The other view of a picture among all other views.  ``[2B, D] -> []``."""
        z = F.normalize(self.projector(features), dim=-1)
        similarity = (z @ z.T / self.recipe.temperature).fill_diagonal_(float("-inf"))
        half = len(z) // 2
        return F.cross_entropy(similarity, torch.arange(len(z)).roll(half))

    def configure_optimizers(self) -> Any:
        recipe = self.recipe
        optimiser = torch.optim.AdamW(
            self.parameters(), recipe.lr, weight_decay=recipe.weight_decay
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, recipe.lr, total_steps=recipe.steps + 1, pct_start=0.1
        )
        return [optimiser], [{"scheduler": schedule, "interval": "step"}]


def pretrain(recipe: Recipe, folder: Path, out: Path) -> Path:
    """Train, with a checkpoint every 200 steps in ``folder``, and write the encoder to ``out``.

    A killed run goes on from its last checkpoint.
    """
    silence_lightning()
    seed_everything(recipe.seed, verbose=False)
    tasks = suite(recipe.suite)
    module = Pretraining(tasks, recipe)
    saver = ModelCheckpoint(folder, save_last=True, every_n_train_steps=200)
    trainer = Trainer(
        max_steps=recipe.steps,
        accelerator="cpu",
        logger=False,
        callbacks=[saver, TQDMProgressBar(refresh_rate=50)],
        enable_model_summary=False,
    )
    last = folder / "last.ckpt"
    resume = str(last) if last.exists() else None
    done = torch.load(last, weights_only=True)["global_step"] if resume else 0
    batches = DataLoader(Steps(tasks, recipe, done), batch_size=None, shuffle=False)
    trainer.fit(module, batches, ckpt_path=resume, weights_only=True)
    save_model(module.model, module.vocabulary, out, asdict(recipe))
    return out
