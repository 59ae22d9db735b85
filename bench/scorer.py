"""What is measured of answers: a callback collects them, cell by cell."""

from collections import defaultdict
from typing import Any, NamedTuple

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.classification import multiclass_calibration_error

from bench.engines import step_done

BINS = 15  # of the calibration error, equal width
Cell = tuple[str, str, str]  # member, task, key of the shift


class Answer(NamedTuple):
    """What one member says of one batch."""

    logits: Tensor  # [B, C]
    weights: Tensor | None = None  # [B, K], on each route; of a routed method alone
    oracle: Tensor | None = None  # [B, C]: logits with all weight on the true task's route
    u: Tensor | None = None  # [B]: uncertainty, of a method that knows its own
    ads: Tensor | None = None  # [B]: discrepancy from the images beside it, of such a method


class Scorer(Callback):
    """Collects the answers of every cell and measures them once, over all its images."""

    def __init__(self) -> None:
        self.answers: dict[Cell, list[Answer]] = defaultdict(list)
        self.labels: dict[Cell, list[Tensor]] = defaultdict(list)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        for member, answer in outputs.items():
            cell = (member, batch["task"], batch["shift"])
            given = {name: t for name, t in answer._asdict().items() if t is not None}
            here = {name: tensor.float().cpu() for name, tensor in given.items()}
            self.answers[cell].append(answer._replace(**here))
            self.labels[cell].append(batch["labels"].cpu())
        step_done(len(batch["labels"]) * len(outputs))

    on_validation_batch_end = on_test_batch_end

    def all(self, cell: Cell, part: str) -> Tensor | None:
        """One field of the answers, over all images; nothing if the member has none."""
        found = [getattr(answer, part) for answer in self.answers[cell]]
        return None if found[0] is None else torch.cat(found)

    def hits(self, cell: Cell) -> dict[str, Tensor]:
        """Right or wrong: ``acc``, and ``oracle_acc`` of a routed method.  Each ``bool [N]``."""
        labels = torch.cat(self.labels[cell])
        logits = {"acc": self.all(cell, "logits"), "oracle_acc": self.all(cell, "oracle")}
        return {name: x.argmax(1) == labels for name, x in logits.items() if x is not None}

    def measure(self, cell: Cell) -> dict[str, float]:
        """Accuracy, negative log-likelihood in nats, expected calibration error; of the oracle."""
        logits, labels = self.all(cell, "logits"), torch.cat(self.labels[cell])
        assert logits is not None
        return {
            **{name: float(hits.double().mean()) for name, hits in self.hits(cell).items()},
            "nll": float(F.cross_entropy(logits.double(), labels)),
            "ece": calibration_error(logits, labels),
        }

    def routing(self, cell: Cell, routes: list[str]) -> dict[str, float]:
        """Where a routed method sent the images of a cell; see :func:`routing`."""
        weights = self.all(cell, "weights")
        return {} if weights is None else routing(weights.double(), routes, cell[1])


def calibration_error(logits: Tensor, labels: Tensor) -> float:
    """Expected calibration error; of one class none, as it is sure and right."""
    if logits.shape[1] == 1:
        return 0.0
    error = multiclass_calibration_error(
        logits.softmax(-1), labels, num_classes=logits.shape[1], n_bins=BINS
    )
    return float(error)


def routing(weights: Tensor, routes: list[str], task: str) -> dict[str, float]:
    """Statistics of the weights that images of ``task`` got.

    Args:
        weights: ``[N, K]``, of each image on each route; rows sum to 1.
        routes: what the columns are: tasks, and perhaps "null".
        task: the true one; no routing accuracy if it has no route.

    Returns:
        ``route_acc``: share of images whose largest weight is on their task (the first of equals);
        ``route_entropy``: mean over images, in nats; ``route_max``: mean largest weight;
        ``route:NAME``: mean weight on each route.

    >>> routing(torch.tensor([[1.0, 0.0], [0.5, 0.5]]), ["a", "b"], "a")["route_acc"]
    1.0
    """
    entropy = -torch.xlogy(weights, weights).sum(1)
    right = weights.argmax(1) == routes.index(task) if task in routes else None
    return {
        **({} if right is None else {"route_acc": float(right.double().mean())}),
        "route_entropy": float(entropy.mean()),
        "route_max": float(weights.amax(1).mean()),
        **{f"route:{name}": float(w) for name, w in zip(routes, weights.mean(0), strict=True)},
    }
