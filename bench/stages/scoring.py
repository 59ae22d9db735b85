"""Score built methods: all of them look at the same batches, and a callback measures.

A :class:`SharedEvaluation` is a LightningModule over one or more built methods: a batch is decoded,
corrupted and normalised once, whoever looks at it. The :class:`MetricsCallback` collects the
predictions, cell by cell, and measures them; methods hold no metric code.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.nn import functional as F

from bench.runtime import devices
from bench.runtime.lightning import make_trainer
from bench.runtime.workers import report_progress
from bench.stages.label_space import LabelSpace
from methods import MergingMethod
from methods.base import JOINT
from methods.common.precision import layers_in
from methods.routing.method import RoutedMethod
from results.metrics import brier, by_class, of_confidence
from results.schema import FLOOR_OF, SCALED
from tasks.datamodule import SuiteDataModule

Cell = tuple[str, str, str]  # member, task, key of the shift


class Prediction(NamedTuple):
    """What one member says of one batch."""

    logits: Tensor  # [B, C]
    weights: Tensor | None = None  # [B, K], on each route; of a routed method alone
    oracle: Tensor | None = None  # [B, C]: logits with all weight on the true task's route
    u: Tensor | None = None  # [B]: uncertainty, of a method that knows its own
    ads: Tensor | None = None  # [B]: discrepancy from the images beside it, of such a method


class MetricsCallback(Callback):
    """Collects the answers of every cell and measures them once, over all its images.

    Args:
        space: the labels that answers are among, where they are not among those of one task.
    """

    def __init__(self, space: LabelSpace | None = None) -> None:
        self.space = space
        self.predictions: dict[Cell, list[Prediction]] = defaultdict(list)
        self.labels: dict[Cell, list[Tensor]] = defaultdict(list)
        self.rows: dict[Cell, list[Tensor]] = defaultdict(list)  # where images come in any order

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        mixed = "parts" in batch
        every = batch["labels"] if mixed else {batch["task"]: batch["labels"]}
        for member, output in outputs.items():
            for task, answer in output.items() if mixed else [(batch["task"], output)]:
                cell = (member, task, batch["shift"])
                self.predictions[cell].append(on_the_cpu(answer))
                self.labels[cell].append(self.numbered(every[task].cpu(), task))
                if mixed:
                    self.rows[cell].append(batch["rows"][task].cpu())
        report_progress(sum(map(len, every.values())) * len(outputs))

    on_validation_batch_end = on_test_batch_end

    def numbered(self, labels: Tensor, task: str) -> Tensor:
        """Labels of a task as answers are numbered."""
        return labels if self.space is None else self.space.labels[task][labels]

    def all(self, cell: Cell, part: str) -> Tensor | None:
        """One field of the answers, over all images; nothing if the member has none."""
        found = [getattr(answer, part) for answer in self.predictions[cell]]
        return None if found[0] is None else self.in_order(cell, torch.cat(found))

    def true(self, cell: Cell) -> Tensor:
        """The labels of all images.  ``int64 [N]``."""
        return self.in_order(cell, torch.cat(self.labels[cell]))

    def in_order(self, cell: Cell, values: Tensor) -> Tensor:
        """What is known of images, as they stand in the test."""
        return values[torch.cat(self.rows[cell]).argsort()] if self.rows[cell] else values

    def answers(self, cell: Cell) -> tuple[Tensor, Tensor]:
        """Logits ``[N, C]`` and labels ``[N]`` of a cell."""
        logits = self.all(cell, "logits")
        assert logits is not None
        return logits, self.true(cell)

    def hits(self, cell: Cell) -> dict[str, Tensor]:
        """Right or wrong: ``acc``, and ``oracle_acc`` of a routed method.  Each ``bool [N]``."""
        labels = self.true(cell)
        logits = {"acc": self.all(cell, "logits"), "oracle_acc": self.all(cell, "oracle")}
        return {name: x.argmax(1) == labels for name, x in logits.items() if x is not None}

    def taken_in(self, cell: Cell, target: int) -> Tensor:
        """Whether an image is taken for ``target``, of those that are not of it.  ``bool [n]``."""
        logits, labels = self.all(cell, "logits"), self.true(cell)
        assert logits is not None
        return (logits.argmax(1) == target)[labels != target]

    def measure(self, cell: Cell, temperature: float | None = None) -> dict[str, float]:
        """All that is measured of answers: accuracies (the oracle's, too), losses, calibration.

        With a temperature, losses and calibration of the logits over it, too.
        """
        logits, labels = self.answers(cell)
        return {
            **{name: float(hits.double().mean()) for name, hits in self.hits(cell).items()},
            **by_class(logits.argmax(1).numpy(), labels.numpy()),
            **judged(logits, labels),
            **({} if temperature is None else scaled(logits, labels, temperature)),
        }

    def routing(self, cell: Cell, routes: list[str]) -> dict[str, float]:
        """Where a routed method sent the images of a cell; see :func:`routing`."""
        weights = self.all(cell, "weights")
        return {} if weights is None else routing(weights.double(), routes, cell[1])


def judged(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """``nll`` in nats, ``brier``, and what :func:`results.metrics.of_confidence` tells.

    Args:
        logits: ``[N, C]``, float32.
        labels: ``[N]``.
    """
    confidence, predicted = logits.softmax(-1).max(1)
    return {
        "nll": float(F.cross_entropy(logits.double(), labels)),
        "brier": brier(logits.double().softmax(-1).numpy(), labels.numpy()),
        **of_confidence(confidence.numpy(), (predicted == labels).numpy()),
    }


def scaled(logits: Tensor, labels: Tensor, temperature: float) -> dict[str, float]:
    """``nll_ts``, ``brier_ts``, ``ece_ts`` and ``aece_ts`` with their floors, ``temperature``.

    Args:
        logits: ``[N, C]``, float32.
        labels: ``[N]``.
        temperature: of all images of the method.
    """
    found = judged(logits / temperature, labels)
    wanted = ("nll", "brier", "ece", "aece", f"{FLOOR_OF}ece", f"{FLOOR_OF}aece")
    return {f"{name}{SCALED}": found[name] for name in wanted} | {"temperature": temperature}


def on_the_cpu(answer: Prediction) -> Prediction:
    """An answer as it is kept."""
    given = {name: t for name, t in answer._asdict().items() if t is not None}
    return answer._replace(**{name: tensor.float().cpu() for name, tensor in given.items()})


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


Normalise = Callable[[Tensor], Tensor]  # uint8 [B, H, W, 3] -> float [B, 3, H, W]

LAYERS = {"": None, "bf16": torch.bfloat16}  # precision -> type of matrix products


@runtime_checkable
class SupportsUncertainty(Protocol):
    """A method that says of each image how unsure it is of it."""

    def uncertainty(self, images: Tensor) -> Tensor:
        """``[B, 3, H, W] -> [B]``, in [0, 1]."""

    def discrepancy(self, images: Tensor) -> Tensor:
        """How much it disagrees with its neighbours in the batch.  ``[B, 3, H, W] -> [B]``."""


class SharedEvaluation(LightningModule):
    """Several built methods that look at the same batches.

    Args:
        models: by any name.
        unseen: tasks whose experts were not merged.
        fallback: answers for models that would need these; the others answer themselves.
        unsure: whether models that know how unsure they are shall say so.
        normalise: makes pixels what their encoder wants; it is done where they are.
        precision: bf16 multiplies matrices in it; see :func:`methods.common.precision.layers_in`.
        swap_to_device: let models take turns on the device, batch by batch, where not all find
            room.
        space: the labels of all tasks, where nobody is told the task of an image.
    """

    def __init__(
        self,
        models: Mapping[str, MergingMethod],
        unseen: Collection[str] = (),
        fallback: MergingMethod | None = None,
        unsure: bool = False,
        *,
        normalise: Normalise,
        precision: str = "",
        swap_to_device: bool = False,
        space: LabelSpace | None = None,
    ):
        super().__init__()
        self.normalise, self.layers, self.space = normalise, LAYERS[precision], space
        self.keys, self.unseen, self.fallback, self.unsure = list(models), unseen, fallback, unsure
        self.swap_to_device, held = swap_to_device, list(models.values())
        # A plain list does not follow this module to the device.
        self.models = held if swap_to_device else nn.ModuleList(held)
        self.seconds: dict[Cell, float] = defaultdict(float)

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        """What every member says of one batch of one cell, with the weights of those that route.

        Of a batch of several tasks: of each task.
        """
        images, shift = self.normalise(batch["images"]), batch["shift"]
        answers: dict[str, Any] = {}
        with layers_in(self.layers):
            for key, member in self.on_the_device():
                if "parts" in batch:
                    answers[key] = self.measured_mixed(key, member, images, batch["parts"], shift)
                else:
                    answers[key] = self.measured(key, member, images, batch["task"], shift)
        return answers

    def on_the_device(self) -> Iterator[tuple[str, MergingMethod]]:
        """The members; those that take turns are there while they are asked."""
        for key, member in zip(self.keys, self.models, strict=True):
            assert isinstance(member, MergingMethod)
            if self.swap_to_device:
                member.to(self.device)
            yield key, member
            if self.swap_to_device:
                member.cpu()

    def measured(
        self, key: str, member: MergingMethod, images: Tensor, task: str, shift: str
    ) -> Prediction:
        """What a member says of a batch of a cell, timed; and what only a test asks it."""
        answer, seconds = timed(partial(self.ask, member, images, task))
        self.seconds[key, task, shift] += seconds
        oracle = self.oracle(member, images, task)
        return answer._replace(oracle=oracle, **self.doubts(member, images))

    def measured_mixed(
        self,
        key: str,
        member: MergingMethod,
        images: Tensor,
        parts: Mapping[str, Tensor],
        shift: str,
    ) -> dict[str, Prediction]:
        """The same of a batch of several tasks, each with the share of the time of its images."""
        answers, seconds = timed(partial(self.ask_mixed, member, images, parts))
        doubts = self.doubts(member, images)  # each image among those of all tasks
        for task, rows in parts.items():
            self.seconds[key, task, shift] += seconds * len(rows) / len(images)
            oracle = self.oracle(member, images[rows], task)
            own = {name: values[rows] for name, values in doubts.items()}
            answers[task] = answers[task]._replace(oracle=oracle, **own)
        return answers

    def oracle(self, member: MergingMethod, images: Tensor, task: str) -> Tensor | None:
        """Logits of a routed member by the true task's route. Not timed: nobody can do it so."""
        if not isinstance(member, RoutedMethod) or task in self.unseen:
            return None
        if self.space is None:
            return member.predict_oracle(images, task)
        features = member.features_with(images, member.one_hot_route(task), task)
        return self.space.by_name(member.classify(features, JOINT))

    def doubts(self, member: MergingMethod, images: Tensor) -> dict[str, Tensor]:
        """How unsure a member is of each image of a batch, if it is asked and knows."""
        if not self.unsure or not isinstance(member, SupportsUncertainty):
            return {}
        return {"u": member.uncertainty(images), "ads": member.discrepancy(images)}

    def ask(self, member: MergingMethod, images: Tensor, task: str) -> Prediction:
        """What a member says, or the floor in its place: no route then has any weight."""
        if not self.stands_in(member, task):
            answer = predicted(member, images, task, hidden=self.space is not None)
        else:
            assert self.fallback is not None
            weights = None
            if isinstance(member, RoutedMethod):
                weights = images.new_zeros(len(images), len(member.routes))
            head = JOINT if self.space is not None else task
            answer = Prediction(self.fallback.predict(images, head), weights)
        if self.space is None:
            return answer
        return answer._replace(logits=self.space.by_name(answer.logits))

    def ask_mixed(
        self, member: MergingMethod, images: Tensor, parts: Mapping[str, Tensor]
    ) -> dict[str, Prediction]:
        """What a member says of a batch of several tasks, each image under its own task's head."""
        if member.knows_task:
            return {task: self.ask(member, images[rows], task) for task, rows in parts.items()}
        if isinstance(member, RoutedMethod):
            return routed_mixed(member, images, parts)
        return {t: Prediction(logits) for t, logits in member.predict_mixed(images, parts).items()}

    def stands_in(self, member: MergingMethod, task: str) -> bool:
        """Whether the fallback answers for a member: it would need an expert that is not merged."""
        return task in self.unseen and member.knows_task and self.fallback is not None

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Prediction]:
        """Logits of every member on one batch of one cell."""
        images, task = self.normalise(batch["images"]), batch["task"]
        with layers_in(self.layers):
            return {
                key: Prediction(member.predict(images, task))
                for key, member in self.on_the_device()
            }


T = TypeVar("T")


def timed(ask: Callable[[], T]) -> tuple[T, float]:
    """What it returns, and the seconds that it took."""
    devices.synchronize()
    start = perf_counter()
    answer = ask()
    devices.synchronize()
    return answer, perf_counter() - start


def predicted(member: MergingMethod, images: Tensor, task: str, hidden: bool = False) -> Prediction:
    """What a member says of images, as a user would ask it.

    Args:
        member: any.
        images: of one task.
        task: its name.
        hidden: classify under all heads. Who needs the task for its weights is still told it.
    """
    if not isinstance(member, RoutedMethod):
        if hidden and member.knows_task:
            return Prediction(member.classify(member.features(images, task), JOINT))
        return Prediction(member.predict(images, JOINT if hidden else task))
    if hidden:
        weights = member.route(images, task)
        logits = member.classify(member.features_with(images, weights, task), JOINT)
        weights = weights.expand(len(images), *weights.shape[1:])
    else:
        logits, weights = member.predict_routed(images, task)
    return Prediction(logits, mean_over_layers(weights))


def routed_mixed(
    member: RoutedMethod, images: Tensor, parts: Mapping[str, Tensor]
) -> dict[str, Prediction]:
    """What a routed member that is not told the task says of a batch of several tasks."""
    some = next(iter(parts))  # any: neither the router nor the mixer looks at it
    weights = member.route(images, some)
    features = member.features_with(images, weights, some)
    shown = mean_over_layers(weights.expand(len(images), *weights.shape[1:]))
    return {
        task: Prediction(member.classify(features[rows], task), shown[rows])
        for task, rows in parts.items()
    }


def mean_over_layers(weights: Tensor) -> Tensor:
    """Weights of images, where layers may have their own.  ``[B, K'] or [B, G, K'] -> [B, K']``."""
    return weights.mean(1) if weights.ndim == 3 else weights


def score(
    models: Mapping[str, MergingMethod],
    data: SuiteDataModule,
    split: str,
    unseen: Collection[str] = (),
    fallback: MergingMethod | None = None,
    unsure: bool = False,
    *,
    normalise: Normalise,
    precision: str = "",
    space: LabelSpace | None = None,
) -> tuple[SharedEvaluation, MetricsCallback]:
    """Show every cell of ``data`` to every member; see :class:`SharedEvaluation`.

    Args:
        models: by any name.
        data: what they are shown.
        split: test or val.
        unseen: see :class:`SharedEvaluation`.
        fallback: see :class:`SharedEvaluation`.
        unsure: see :class:`SharedEvaluation`.
        normalise: see :class:`SharedEvaluation`.
        precision: see :class:`SharedEvaluation`.
        space: see :class:`SharedEvaluation`.
    """
    held = [tensor for m in models.values() for tensor in (*m.parameters(), *m.buffers())]
    turns = sum(tensor.nbytes for tensor in held) > devices.room()
    panel = SharedEvaluation(
        models,
        unseen,
        fallback,
        unsure,
        normalise=normalise,
        precision=precision,
        swap_to_device=turns,
        space=space,
    )
    scorer = MetricsCallback(space)
    trainer = make_trainer(callbacks=[scorer])
    if split == "test":
        trainer.test(panel, datamodule=data, verbose=False)
    else:
        trainer.validate(panel, datamodule=data, verbose=False)
    return panel, scorer
