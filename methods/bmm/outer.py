"""The outer level of BMM: constants chosen on labelled validation images."""

from collections.abc import Iterable, Mapping
from math import inf
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.bmm.config import ALPHAS, SCALES, AnchorConfig, BMMConfig
from methods.bmm.inner import Hyperparameters, MergedModels
from methods.common.checkpoints import Checkpoints
from methods.common.data_access import DataAccess, take_images
from methods.common.ensemble import mean_log_prob
from methods.common.study import Space, best, search
from methods.common.timer import Timer
from methods.common.vit import ViT, encode_plain

Model = Mapping[str, Tensor]
BATCH = 128  # images that are encoded at once on a GPU


class Validation:
    """Labelled images of every task, in memory, in the order of the alphabet.

    Args:
        access: where they come from; it is told of every pass.
        heads: of the tasks, ``[C, D]``.
        vit: the architecture.
        limit: the first so many of each task; 0: all.
    """

    def __init__(self, access: DataAccess, heads: Mapping[str, Tensor], vit: ViT, limit: int = 0):
        self.vit, self.heads, self.count_pass = vit, heads, access.count_pass
        self.data: dict[str, tuple[Tensor, Tensor]] = {}
        for task in sorted(heads):
            batches = take_images(access.validation(task), limit or None)
            images, labels = zip(*batches, strict=True)
            self.data[task] = torch.cat(images), torch.cat(labels)

    def logits(self, model: Model, task: str) -> Tensor:
        """Of all images of a task.  ``-> [N, C]``."""
        images = self.data[task][0]  # a CPU takes them in parts of its own size
        parts = [images] if images.device.type == "cpu" else images.split(BATCH)
        features = torch.cat([encode_plain(part, model, self.vit) for part in parts])
        return F.normalize(features, dim=-1) @ self.heads[task].T

    def accuracy(self, model: Model, task: str) -> float:
        """Share of images that are classified right."""
        labels = self.data[task][1]
        return (self.logits(model, task).argmax(-1) == labels).sum().item() / len(labels)

    def accuracies(self, model: Model) -> dict[str, float]:
        """Task -> share of images that are classified right: one validation pass."""
        return {task: self.accuracy(model, task) for task in self.data}

    def ensemble_nll(self, models: Iterable[Model]) -> tuple[float, dict[str, float]]:
        """What the models' mean probabilities are worth: a validation pass for each model.

        Returns:
            Negative log-likelihood of the labels in nats, the mean over tasks; and task -> share of
            images that are classified right.
        """
        logits: dict[str, list[Tensor]] = {task: [] for task in self.data}
        for model in models:
            for task, found in logits.items():
                found.append(self.logits(model, task))
            self.count_pass()
        losses, accuracies = [], {}
        for task, found in logits.items():
            shares, labels = mean_log_prob(torch.stack(found)), self.data[task][1]
            losses.append(F.nll_loss(shares, labels).item())
            accuracies[task] = (shares.argmax(-1) == labels).sum().item() / len(labels)
        return sum(losses) / len(losses), accuracies


def expert_accuracies(validation: Validation, ckpts: Checkpoints) -> dict[str, float]:
    """Of each expert on its own images; at least one of them counts as right."""
    found = {}
    for task, (_, labels) in validation.data.items():
        expert = ckpts.experts[task]
        model = {name: expert[name].clone() for name in expert}
        found[task] = max(validation.accuracy(model, task), 1 / len(labels))
    validation.count_pass()
    return found


def space_of(cfg: AnchorConfig, family: MergedModels) -> dict[str, tuple[float, float, bool]]:
    """What is searched: alpha and scale of every key, the scale alone if there is no alpha."""
    scale = (cfg.scale_low, cfg.scale_high, False)
    space: dict[str, tuple[float, float, bool]] = {}
    for key in family.keys:
        if isinstance(cfg, BMMConfig):
            space[f"alpha.{key}"] = (cfg.alpha_low, cfg.alpha_high, True)
        space[f"scale.{key}"] = scale
    return space


def initial_points(cfg: AnchorConfig, space: Space) -> list[dict[str, float]]:
    """What is tried first: the anchor, then constants that are alike for all modules."""
    if isinstance(cfg, BMMConfig):
        alphas = ALPHAS if cfg.ladder else ALPHAS[:1]
        points = [(inf, 1.0), *((alpha, 1.0) for alpha in alphas)]
    else:
        points = [(inf, 1.0), *((inf, scale) for scale in SCALES if cfg.ladder)]

    def at(alpha: float, scale: float) -> dict[str, float]:
        wanted = {name: alpha if name.startswith("alpha.") else scale for name in space}
        return {k: min(max(wanted[k], low), high) for k, (low, high, _) in space.items()}

    starts = [at(*point) for point in points]
    return [start for n, start in enumerate(starts) if start not in starts[:n]]


def search_hyperparameters(
    cfg: AnchorConfig,
    family: MergedModels,
    validation: Validation,
    experts: Mapping[str, float],
    clock: Timer,
    seed: int,
    journal: Path | None,
) -> tuple[dict[str, float], dict[str, Any]]:
    """Search for the constants with the best mean of accuracy over that of the experts.

    Args:
        cfg: the search.
        family: the models.
        validation: the images.
        experts: task -> what its accuracy is divided by.
        clock: counts solves and validation passes.
        seed: of the search.
        journal: where the search is kept, and goes on from.

    Returns:
        The constants, and a report: ``space``, ``trials``, ``best`` (its number), ``anchor`` (the
        value of the first trial: the anchor itself, as nearly as the space has it), ``val`` (task
        -> accuracy of the best), ``budget`` (validation passes that the search was allowed), and
        ``problems``.
    """
    space = space_of(cfg, family)

    def accuracies(constants: Hyperparameters) -> dict[str, float]:
        with clock("solve"):
            model = family.model(constants)
        with clock("validation"):
            return validation.accuracies(model)

    def score(constants: Hyperparameters) -> float:
        found = accuracies(constants)
        return sum(found[task] / experts[task] for task in found) / len(found)

    starts = initial_points(cfg, space)
    trials = search(
        space, score, starts=starts, trials=cfg.trials, startup=cfg.startup, sampler=cfg.sampler,
        seed=seed, journal=journal, watch=validation.count_pass,
    )  # fmt: skip
    chosen = best(trials)
    val = accuracies(chosen.params)
    validation.count_pass()
    clock.seconds["trials"] = sum(trial.seconds for trial in trials)
    number = trials.index(chosen)
    return chosen.params, {
        "objective": cfg.objective,
        "space": {name: list(bounds) for name, bounds in space.items()},
        "trials": [trial._asdict() for trial in trials],
        "best": number,
        "anchor": trials[0].value,
        "val": val,
        "budget": len(trials),
        "problems": [] if number else ["no trial was better than the anchor itself"],
    }
