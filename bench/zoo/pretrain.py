"""Pretrain the pocket encoder: captions that are often wrong by a little, and labels without names.

The recipe makes what CLIP is to the field: features that tell the classes apart, zero-shot answers
that are far from solved, and margins of these answers that are small against those of an expert, so
that a small step along a task vector changes many answers. Three losses on the train splits of
all pocket tasks:

* CLIP's image-to-text loss (Radford et al. 2021, arXiv 2103.00020) on captions with
  instance-dependent noise. The pictures of a task fall into cells, as if they came from so many
  sites; each site has its own habit of naming each class: with a probability of its own the caption
  names the class, otherwise always the same other class of the task. The log odds of the right name
  are normal, so that zero-shot answers are right where a habit is, and wrong by little where not.
* Cross-entropy of the labels on free class vectors, which are thrown away: what a picture shows is
  seen, also where its captions do not say it. No name is learned by it.
* Uniformity of the captions of a task (Wang and Isola 2020, arXiv 2005.10242): the text features of
  its classes stand apart, so that fine-tuning has room for margins that zero-shot answers lack.
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
    steps: int = 2400
    batch: int = 256  # pictures a step
    cuts: int = 3  # a task's pictures fall into 2 ** cuts cells
    odds: float = 0.0  # mean of the log odds that a caption names the class
    spread: float = 1.0  # their standard deviation over classes and cells
    labels: float = 1.0  # weight of the labels without names
    uniformity: float = 0.5  # weight of the captions' uniformity
    scale: float = 50.0  # of cosines, in logits; CLIP's is 100
    lr: float = 2e-3  # peak of the one-cycle schedule
    weight_decay: float = 0.05
    seed: int = 0


class Captions:
    """What the captions of a picture say.

    Args:
        images: ``uint8 [N, 32, 32, 3]`` of all tasks, one after the other.
        labels: class of each, counted over all tasks, ``int [N]``.
        tasks: number of each picture's task, ``int [N]``.
        classes: how many the tasks have.
        recipe: how the captions go wrong.
    """

    def __init__(
        self, images: Tensor, labels: np.ndarray, tasks: np.ndarray, classes: Sequence[int],
        recipe: Recipe,
    ):  # fmt: skip
        rng, cells = rng_of("captions", recipe.seed), 2**recipe.cuts
        look = F.adaptive_avg_pool2d(images.permute(0, 3, 1, 2).float(), 4).flatten(1).numpy()
        self.labels, self.cell = labels, np.zeros(len(labels), np.int64)
        for task in range(len(classes)):
            rows = np.flatnonzero(tasks == task)
            sides = look[rows] @ rng.standard_normal((look.shape[1], recipe.cuts))
            bits = sides > np.median(sides, axis=0)
            self.cell[rows] = bits @ (1 << np.arange(recipe.cuts))
        shape = sum(classes), cells
        odds = recipe.odds + recipe.spread * rng.standard_normal(shape)
        self.right = 1 / (1 + np.exp(-odds))  # [classes, cells]: how often the class is named
        self.other = np.zeros(shape, np.int64)  # [classes, cells]: what is named otherwise
        for start, count in zip(np.cumsum([0, *classes]), classes, strict=False):
            step = rng.integers(1, count, (count, cells))  # never back to the class itself
            self.other[start : start + count] = start + (np.arange(count)[:, None] + step) % count

    def draw(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The class that a caption of each picture names.  ``int [B] -> int [B]``."""
        label, cell = self.labels[rows], self.cell[rows]
        right = rng.random(len(rows)) < self.right[label, cell]
        return np.where(right, label, self.other[label, cell])


class Steps(Dataset[dict[str, Tensor]]):
    """The batches: step ``s`` draws from ``rng_of("pretrain", seed, s)``, to resume exactly.

    A task is drawn from in proportion to the square root of its size. Lightning begins a resumed
    epoch at item 0 again: that is step ``first``.
    """

    def __init__(self, tasks: Sequence[Task], recipe: Recipe, first: int = 0):
        self.recipe, self.first = recipe, first
        splits = [load(task, "train") for task in tasks]
        classes, counts = [task.num_classes for task in tasks], [len(split) for split in splits]
        self.images = torch.from_numpy(np.concatenate([split.images for split in splits]))
        self.labels = np.concatenate(
            [s.labels + o for s, o in zip(splits, np.cumsum([0, *classes]), strict=False)]
        )
        of = np.repeat(np.arange(len(tasks)), counts)
        self.captions = Captions(self.images, self.labels, of, classes, recipe)
        weight = np.repeat(1 / np.sqrt(counts), counts)
        self.until = np.cumsum(weight) / weight.sum()

    def __len__(self) -> int:
        return self.recipe.steps

    def __getitem__(self, item: int) -> dict[str, Tensor]:
        rng = rng_of("pretrain", self.recipe.seed, self.first + item)
        drawn = np.searchsorted(self.until, rng.random(self.recipe.batch), side="right")
        rows = np.minimum(drawn, len(self.until) - 1)
        return {
            "pictures": self.images[torch.from_numpy(rows)],
            "label": torch.from_numpy(self.labels[rows]),
            "told": torch.from_numpy(self.captions.draw(rows, rng)),
            "seed": torch.tensor(rng.integers(2**31)),
        }


def views(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Turn, scale, move, brighten.  ``uint8 [B, H, W, 3] -> float [B, 3, H, W]``."""
    x = normalise(pictures)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.empty(len(x), *shape).uniform_(low, high, generator=generator)

    scale, angle = uniform(0.8, 1.15), uniform(-0.15, 0.15)
    rows = torch.stack([scale * angle.cos(), -scale * angle.sin(),
                        scale * angle.sin(), scale * angle.cos()], 1).view(-1, 2, 2)  # fmt: skip
    affine = torch.cat([rows, uniform(-0.12, 0.12, 2)[..., None]], dim=2)
    grid = F.affine_grid(affine, list(x.shape), align_corners=False)
    x = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    return x * uniform(0.75, 1.25, 1, 1, 1) + uniform(-0.3, 0.3, 1, 1, 1)


class Pretraining(LightningModule):
    """The three losses on one open_clip model."""

    def __init__(self, tasks: Sequence[Task], recipe: Recipe):
        super().__init__()
        prompts = [prompt for task in tasks for prompt in task.prompts]
        self.recipe, self.sizes = recipe, [task.num_classes for task in tasks]
        self.vocabulary = Vocabulary.of(prompts)
        self.model = new_model(self.vocabulary)
        self.model.logit_scale.requires_grad_(False).fill_(np.log(recipe.scale))
        self.classes = nn.Linear(POCKET.output_dim, len(prompts))
        self.register_buffer("tokens", self.vocabulary.encode(prompts), persistent=False)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        generator = torch.Generator().manual_seed(int(batch["seed"]))
        weights = dict(self.model.visual.named_parameters())
        features = encode(views(batch["pictures"], generator), PlainOps(weights), POCKET)
        text = F.normalize(self.model.encode_text(self.tokens), dim=-1)
        logits = self.recipe.scale * F.normalize(features, dim=-1) @ text.T
        captions = F.cross_entropy(logits, batch["told"])
        labels = F.cross_entropy(self.classes(features), batch["label"])
        uniformity = torch.stack([apart(rows) for rows in text.split(self.sizes)]).mean()
        self.log_dict({"captions": captions, "labels": labels, "uniformity": uniformity},
                      prog_bar=True)  # fmt: skip
        recipe = self.recipe
        return captions + recipe.labels * labels + recipe.uniformity * uniformity

    def configure_optimizers(self) -> Any:
        recipe = self.recipe
        trained = [one for one in self.parameters() if one.requires_grad]
        optimiser = torch.optim.AdamW(trained, recipe.lr, weight_decay=recipe.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, recipe.lr, total_steps=recipe.steps + 1, pct_start=0.1
        )
        return [optimiser], [{"scheduler": schedule, "interval": "step"}]


def apart(rows: Tensor) -> Tensor:
    """Uniformity loss of unit vectors: log of the mean of exp(-2 d^2) over pairs.

    ``[C, D] -> []``
    """
    return torch.pdist(rows).square().mul(-2).exp().mean().log()


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
