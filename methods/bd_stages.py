"""The two trainings of BD-Merging, the head's and the router's, and what became of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from methods.bd_config import BDConfig
from methods.bd_parts import Learned, Seen, adjacency
from methods.bd_problems import contrast_problems, head_problems, router_problems
from methods.discrepancy import anchors, contrast, parted, same_task_share
from methods.evidence import (
    EvidentialHead,
    Opinion,
    divergence,
    entropy_of_mean,
    inversion,
    mean_entropy,
)

Features = Mapping[str, Tensor]  # task -> unit features of theta_0, [n, D]
Generators = Callable[..., torch.Generator]  # random numbers for some words
Report = dict[str, Any]  # ready for JSON


# -- stage 1, the head ---------------------------------------------------------------------------


def head_loss(found: Opinion, cfg: BDConfig) -> Tensor:
    """L_Head = mean(H + lambda KL) + gamma L_Inv, and less H of the mean opinion. Scalar."""
    alpha, p = found.alpha, found.probability
    weight = cfg.kl * (10 / alpha.shape[1] if cfg.kl_by == "classes" else 1)
    entropy = mean_entropy(alpha) if cfg.expected else entropy_of_mean(p)
    loss = (entropy + weight * divergence(alpha)).mean()
    loss = loss + cfg.gamma * inversion(found, literal=cfg.inverse == "literal")
    return loss - entropy_of_mean(p.mean(0, keepdim=True))[0] if cfg.balance else loss


@torch.enable_grad()
def train_head(
    head: EvidentialHead, features: Features, cfg: BDConfig, generator: Generators
) -> dict[str, list[float]]:
    """Adam on batches drawn from every task.

    Returns:
        Curves: the loss and the median uncertainty of every step.
    """
    head.start(torch.cat(list(features.values())))
    random = {task: generator("head", task) for task in features}
    optimizer = torch.optim.Adam([p for p in head.parameters() if p.requires_grad], cfg.head_lr)
    curves: dict[str, list[float]] = {"head_loss": [], "head_u": []}
    for _ in range(cfg.head_steps):
        shown = [shuffled(x, random[task], cfg.batch) for task, x in features.items()]
        found = head(torch.cat(shown))
        loss = head_loss(found, cfg)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        curves["head_loss"].append(loss.item())
        curves["head_u"].append(found.uncertainty.median().item())
    optimizer.zero_grad()
    return curves


def shuffled(rows: Tensor, generator: torch.Generator, most: int | None = None) -> Tensor:
    """In random order, the first ``most`` of them."""
    return rows[torch.randperm(len(rows), generator=generator)[:most]]


def one_pass(features: Features, batch: int, generator: Generators) -> Iterator[Tensor]:
    """Batches as the router will be shown, of every task, no image twice.  ``[B, D]``."""
    mixed = [shuffled(x, generator("first pass", task)) for task, x in features.items()]
    for start in range(0, max(1, min(map(len, mixed)) // batch) * batch, batch):
        yield torch.cat([x[start : start + batch] for x in mixed])


def quantile(d: Tensor, share: float) -> Tensor:
    """With linear interpolation; 0 of no numbers.  ``[n] -> []``."""
    found = np.quantile(d.double().cpu().numpy(), share) if len(d) else 0.0
    return d.new_tensor(float(found))  # torch's own takes 16 million numbers at most


@torch.no_grad()
def first_epsilon(
    head: EvidentialHead, features: Features, cfg: BDConfig, generator: Generators
) -> Tensor:
    """The quantile of d over all pairs of neighbours of one pass. Scalar."""
    found = []
    for unit in one_pass(features, cfg.batch, generator):
        near, d = adjacency(unit, head(unit), cfg)
        found.append(d[near])
    return quantile(torch.cat(found), cfg.quantile)


def stage_one(
    learned: Learned, features: Features, cfg: BDConfig, generator: Generators
) -> tuple[dict[str, list[float]], Report]:
    """Train the head, then fix epsilon.

    Returns:
        Curves, and a report: ``median_u``, ``classes_used`` of ``classes``, ``epsilon`` and
        ``problems``.
    """
    curves = train_head(learned.head, features, cfg, generator)
    learned.epsilon.copy_(first_epsilon(learned.head, features, cfg, generator))
    with torch.no_grad():
        found = learned.head(torch.cat(list(features.values())))
    return curves, {
        "median_u": found.uncertainty.median().item(),
        "classes_used": len(found.alpha.argmax(1).unique()),
        "classes": found.alpha.shape[1],
        "epsilon": learned.epsilon.item(),
        "problems": head_problems(found, cfg),
    }


# -- stage 2, the router -------------------------------------------------------------------------


class Step(NamedTuple):
    """One step of the router."""

    loss: Tensor  # entropy + eta * contrast - spread * evenness
    entropy: Tensor  # of the merged predictions, mean
    contrast: Tensor
    evenness: Tensor  # H of the batch's mean weights, mean over the groups of layers
    weights: Tensor  # of the router, [B or 1, (G,) K']
    negatives: Tensor  # share of the neighbours
    same_task: Tensor  # share of the negatives
    anchors: Tensor  # share of the images: those that L_Dis is a mean over

    def curves(self) -> dict[str, Tensor]:
        """What is worth a line."""
        names = ("entropy", "contrast", "evenness", "negatives", "same_task", "anchors")
        found = {name: getattr(self, name).detach() for name in names}
        return found | {"largest_weight": self.weights.amax(-1).mean()}


class Merged(NamedTuple):
    """A batch through the models that the router mixed, with a gradient."""

    weights: Tensor  # of the router, [B or 1, (G,) K']
    features: Tensor  # [B, D]
    entropy: Tensor  # of the predictions, mean


def step(seen: Seen, merged: Merged, tasks: Tensor, first: Tensor, cfg: BDConfig) -> Step:
    """L_BD = L_Unsup + eta L_Dis, less what spreads the weights over the tasks.

    Args:
        seen: a batch through theta_0.
        merged: the same through the merged models.
        tasks: number of each image's task, for the curves alone.  ``[B]``
        first: epsilon of the first pass.
        cfg: the settings.
    """
    near, d = adjacency(seen.unit, seen.opinion, cfg)
    epsilon: float | Tensor = cfg.epsilon
    if cfg.threshold != "value":
        fixed = cfg.threshold == "first_pass"
        epsilon = first if fixed else quantile(d[near], cfg.quantile)
    pairs = parted(d, near, epsilon)
    between = contrast(merged.features, pairs, cfg.similarity)
    loss = merged.entropy + cfg.eta * between if cfg.contrast else merged.entropy
    evenness = entropy_of_mean(merged.weights.mean(0)).mean()
    loss = loss - cfg.spread * evenness  # each task has the same share of a batch
    share = pairs.negative.sum() / near.sum().clamp(min=1)
    same = same_task_share(pairs.negative, tasks)
    both = anchors(pairs).float().mean()
    weights = merged.weights.detach()
    return Step(loss, merged.entropy, between, evenness, weights, share, same, both)


def stage_two(learned: Learned, last: Sequence[Step], cfg: BDConfig) -> Report:
    """Keep the mean weights of the last steps.

    Returns:
        A report: ``usage`` (route -> mean weight), ``largest_weight``, ``negatives``,
        ``same_task``, ``anchors`` and ``problems``.
    """
    learned.usage.copy_(torch.stack([one.weights.mean(0) for one in last]).mean(0))
    usage = dict(zip(learned.routes, learned.usage.mean(0).tolist(), strict=True))
    means = {
        name: torch.stack([one.curves()[name].float() for one in last]).mean().item()
        for name in ("largest_weight", "negatives", "same_task", "anchors")
    }
    problems = contrast_problems(means["anchors"], means["negatives"], cfg)
    problems += router_problems(usage, means["largest_weight"])
    return {"usage": usage, **means, "problems": problems}
