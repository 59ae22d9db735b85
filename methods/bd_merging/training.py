"""The two trainings of BD-Merging: the evidential head's, then the router's.

And what can go wrong in them, each with its cause and what to set.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from methods.bd_merging.config import BDConfig
from methods.bd_merging.discrepancy import (
    contrastive_loss,
    has_both_pairs,
    same_task_share,
    split_pairs,
)
from methods.bd_merging.evidential_head import (
    EvidentialHead,
    Opinion,
    entropy_of_mean,
    inverse_correlation_loss,
    kl_to_uniform,
    mean_entropy,
)
from methods.bd_merging.router import BaseOutputs, Learned, adjacency
from methods.routing.method import NULL

Features = Mapping[str, Tensor]  # task -> unit features of theta_0, [n, D]

Generators = Callable[..., torch.Generator]  # random numbers for some words

Report = dict[str, Any]  # ready for JSON


# -- stage 1, the head ---------------------------------------------------------------------------


def head_loss(found: Opinion, cfg: BDConfig) -> Tensor:
    """L_Head = mean(H + lambda KL) + gamma L_Inv, and less H of the mean opinion. Scalar."""
    alpha, p = found.alpha, found.probability
    weight = cfg.kl * (10 / alpha.shape[1] if cfg.kl_by == "classes" else 1)
    entropy = mean_entropy(alpha) if cfg.expected else entropy_of_mean(p)
    loss = (entropy + weight * kl_to_uniform(alpha)).mean()
    loss = loss + cfg.gamma * inverse_correlation_loss(found, literal=cfg.inverse == "literal")
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


def learn_head(
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


class RouterLosses(NamedTuple):
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


class MergedOutputs(NamedTuple):
    """A batch through the models that the router mixed, with a gradient."""

    weights: Tensor  # of the router, [B or 1, (G,) K']
    features: Tensor  # [B, D]
    entropy: Tensor  # of the predictions, mean


def router_loss(
    seen: BaseOutputs, merged: MergedOutputs, tasks: Tensor, first: Tensor, cfg: BDConfig
) -> RouterLosses:
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
    pairs = split_pairs(d, near, epsilon)
    between = contrastive_loss(merged.features, pairs, cfg.similarity)
    loss = merged.entropy + cfg.eta * between if cfg.contrast else merged.entropy
    evenness = entropy_of_mean(merged.weights.mean(0)).mean()
    loss = loss - cfg.spread * evenness  # each task has the same share of a batch
    share = pairs.negative.sum() / near.sum().clamp(min=1)
    same = same_task_share(pairs.negative, tasks)
    both = has_both_pairs(pairs).float().mean()
    weights = merged.weights.detach()
    return RouterLosses(loss, merged.entropy, between, evenness, weights, share, same, both)


def summarise_router(learned: Learned, last: Sequence[RouterLosses], cfg: BDConfig) -> Report:
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


@torch.no_grad()
def head_problems(found: Opinion, cfg: BDConfig) -> list[str]:
    """How the head collapsed, if it did, each with its cause."""
    (images, num_classes), problems = found.alpha.shape, []
    u, used = found.uncertainty.median().item(), len(found.alpha.argmax(1).unique())
    if u > 0.95:
        problems.append(
            f"the head has lost its evidence (median u {u:.3f} > 0.95): the KL term outweighs the "
            f"entropy for {num_classes} classes; {advice(cfg, kl_by='classes') or 'lower kl'}"
        )
    if u < 0.01:
        problems.append(
            f"the head is sure of everything (median u {u:.4f} < 0.01): nothing holds evidence "
            "back; raise kl"
        )
    if 2 * used < min(images, num_classes):
        problems.append(
            f"the head finds {used} of {num_classes} classes in {images} images: "
            + (advice(cfg, balance=True, head="text") or "theta_0 does not tell them apart")
        )
    return problems


def advice(cfg: BDConfig, **good: str | bool) -> str:
    """What to set that is not set so.

    >>> advice(BDConfig(balance=False), balance=True, head="text")
    'set balance=true'
    """
    wrong = [f"{k}={v}".lower() for k, v in good.items() if getattr(cfg, k) != v]
    return f"set {' and '.join(wrong)}" if wrong else ""


def router_problems(usage: Mapping[str, float], largest: float) -> list[str]:
    """How the training of the router failed, if it did.

    Args:
        usage: route -> mean weight, over images of all tasks in equal parts.
        largest: mean of the largest weight of an image.
    """
    if len(usage) == 1:
        return []
    problems, top = [], max(usage, key=lambda name: usage[name])
    tasks = [name for name in usage if name != NULL]
    least = 1 / (4 * len(tasks))
    idle = [f"{task} ({usage[task]:.3f})" for task in tasks if usage[task] < least]
    if largest < 1.5 / len(usage):
        problems.append(
            f"the router is stuck at equal weights (mean largest {largest:.3f} < 1.5 / "
            f"{len(usage)}): raise lr or steps"
        )
    if usage[top] > 0.9:
        problems.append(f"the router gives all to {top} (mean weight {usage[top]:.3f} > 0.9)")
    if idle:
        problems.append(f"the router leaves out {', '.join(idle)}: below 1 / (4 * {len(tasks)})")
    return problems


def contrast_problems(anchors: float, negatives: float, cfg: BDConfig) -> list[str]:
    """Why the contrastive loss taught nothing in the last steps, if it did not.

    Args:
        anchors: share of the images that have positive and negative neighbours.
        negatives: share of the neighbours.
        cfg: the settings.
    """
    if anchors > 0 or not (cfg.contrast and cfg.eta):
        return []
    side = "epsilon" if cfg.threshold == "value" else "quantile"
    if cfg.ads and not cfg.conf:
        cause, remedy = "all neighbours of an image are alike", advice(cfg, conf=True)
    elif 0 < negatives < 1:
        cause, remedy = "those of one image are all alike", f"raise {cfg.near}"
    elif negatives:
        cause, remedy = "all are negative", f"raise {side}"
    else:
        cause, remedy = "none is negative", f"lower {side}"
        remedy += " or raise radius" * (cfg.near == "radius")
    return [
        "the contrastive loss taught nothing: in the last steps no image had both positive and "
        f"negative neighbours ({cause}); {remedy}"
    ]
