"""Who weighs: from what a router sees to the weights of the routes, and how that is learned."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mergeshift import UserError


class Centroids(nn.Module):
    """w(x) = all on the route whose centroid has the largest cosine with x; on the first of equals.

    ``[B, d] -> [B, K']``.
    """

    centroids: Tensor  # [K', d], unit rows

    def __init__(self, num_routes: int, dim: int):
        super().__init__()
        self.register_buffer("centroids", torch.zeros(num_routes, dim))

    def fit(self, features: Mapping[str, Tensor]) -> None:
        """Take the mean of each task's unit features; a null route gets the mean of the means.

        Raises:
            UserError: there is a null route, and one task alone.
        """
        if len(self.centroids) > len(features):
            refuse_one(features)
        means = torch.stack([F.normalize(x, dim=-1).mean(0) for x in features.values()])
        found = F.normalize(means, dim=-1)
        middle = F.normalize(found.mean(0), dim=-1)
        self.centroids.copy_(torch.stack([*found, middle][: len(self.centroids)]))

    def forward(self, features: Tensor) -> Tensor:
        unit = F.normalize(features, dim=-1)
        scores = (unit[:, None] * self.centroids).sum(-1)  # no matrix product: equals stay equal
        return torch.zeros_like(scores).scatter(1, scores.argmax(1, keepdim=True), 1.0)


class Classifier(nn.Module):
    """w(x) = softmax(net(x)).  ``[B, d] -> [B, K']``."""

    def __init__(self, net: nn.Sequential, *, unit: bool):
        super().__init__()
        self.net, self.unit = net, unit

    def scores(self, features: Tensor) -> Tensor:
        """Before the softmax; where ``unit``, of features on the sphere of radius sqrt(d)."""
        if self.unit:
            features = F.normalize(features, dim=-1) * features.shape[-1] ** 0.5
        scores: Tensor = self.net(features)
        return scores

    def forward(self, features: Tensor) -> Tensor:
        return self.scores(features).softmax(-1)


def plain_mlp(dim: int, num_routes: int) -> Classifier:
    """MLP, d -> 2 d -> K' with a ReLU, on unit features."""
    net = nn.Sequential(nn.Linear(dim, 2 * dim), nn.ReLU(), nn.Linear(2 * dim, num_routes))
    return Classifier(net, unit=True)


def twin_mlp(dim: int, num_routes: int) -> Classifier:
    """MLP, d -> 2 d -> 2 d -> K' as Twin-Merging's, on the features as they are."""

    def hidden(width: int) -> list[nn.Module]:
        return [nn.Linear(width, 2 * dim), nn.BatchNorm1d(2 * dim), nn.LeakyReLU(), nn.Dropout(0.5)]

    net = nn.Sequential(*hidden(dim), *hidden(2 * dim), nn.Linear(2 * dim, num_routes))
    return Classifier(net, unit=False)


class Examples(NamedTuple):
    """What a classifier of routes learns from."""

    features: Tensor  # [n, d]
    routes: Tensor  # int64 [n]


def examples(features: Mapping[str, Tensor], null: torch.Generator | None = None) -> Examples:
    """Features with the number of their task, and if ``null`` is given, those of the null route."""
    parts = [*features.values()] + ([midpoints(features, null)] if null else [])
    counts = torch.tensor([len(part) for part in parts], device=parts[0].device)
    return Examples(torch.cat(parts), torch.arange(len(parts)).to(counts).repeat_interleave(counts))


def midpoints(features: Mapping[str, Tensor], generator: torch.Generator) -> Tensor:
    """Halfway between images of two tasks, as many as a task has on average.  ``[n, d]``.

    Raises:
        UserError: there is one task alone.
    """
    refuse_one(features)
    parts = list(features.values())

    def draw() -> Tensor:
        a, b = (parts[i] for i in torch.randperm(len(parts), generator=generator)[:2].tolist())
        row, other = torch.rand(2, generator=generator).tolist()
        return (a[int(row * len(a))] + b[int(other * len(b))]) / 2

    return torch.stack([draw() for _ in range(round(sum(map(len, parts)) / len(parts)))])


def refuse_one(features: Mapping[str, Tensor]) -> None:
    """Refuse to learn a null route from one task."""
    if len(features) == 1:
        raise UserError(
            "the null route is learned between two tasks; got one: set null_route=false"
        )


def hold_out(
    features: Mapping[str, Tensor], generator: torch.Generator
) -> tuple[dict[str, Tensor], Examples | None]:
    """Split off a tenth of every task's, at random, and of two or more at least one."""
    shown, held = {}, {}
    for task, part in features.items():
        count = max(1, len(part) // 10) if len(part) > 1 else 0
        rows = torch.randperm(len(part), generator=generator)
        held[task], shown[task] = part[rows[:count]], part[rows[count:]]
    return shown, examples(held) if any(map(len, held.values())) else None


@dataclass(frozen=True)
class Schedule:
    """AdamW with a rate that falls to zero step by step, and gradients of at most unit length."""

    lr: float
    batch: int
    epochs: int


@torch.enable_grad()
def train(
    router: Classifier,
    shown: Examples,
    held_out: Examples | None,
    schedule: Schedule,
    generator: torch.Generator,
) -> dict[str, list[float]]:
    """Cross-entropy on the routes; the first of the best epochs on ``held_out`` stays.

    Without ``held_out`` the last epoch stays. Dropout draws from torch's own generator.

    Returns:
        Curves: the loss of every epoch, and the accuracy on ``held_out`` after it in %.
    """
    n = len(shown.routes)
    steps = schedule.epochs * len(in_batches(torch.arange(n), schedule.batch))
    optimizer = torch.optim.AdamW(router.parameters(), schedule.lr, weight_decay=0.0)
    decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    curves: dict[str, list[float]] = {"router_loss": [], "router_acc": []}
    best, kept = -1.0, router.state_dict()
    for _ in range(schedule.epochs):
        router.train()
        total = 0.0
        for rows in in_batches(torch.randperm(n, generator=generator), schedule.batch):
            loss = F.cross_entropy(router.scores(shown.features[rows]), shown.routes[rows])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(router.parameters(), 1.0)
            optimizer.step()
            decay.step()
            total += loss.item() * len(rows)
        curves["router_loss"].append(total / n)
        score = accuracy(router.eval(), held_out) if held_out else best + 1
        curves["router_acc"] += [score] if held_out else []
        if score > best:
            best, kept = score, {k: tensor.clone() for k, tensor in router.state_dict().items()}
    router.load_state_dict(kept)
    return curves


def accuracy(router: Classifier, held_out: Examples) -> float:
    """Share of the examples whose largest weight is on their route, in %."""
    with torch.no_grad():
        right = router(held_out.features).argmax(-1) == held_out.routes
    return 100 * right.double().mean().item()


def in_batches(rows: Tensor, size: int) -> list[Tensor]:
    """Rows in parts of ``size``; a last part of one joins that before: BatchNorm needs two."""
    parts = list(rows.split(size))
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts
