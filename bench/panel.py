"""Score built methods: all of them look at the same batches, and a callback counts.

A :class:`Panel` is a LightningModule over one or more built methods: a batch is decoded, corrupted
and normalised once, whoever looks at it. The :class:`Scorer` measures; methods hold no metric code.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from time import perf_counter
from typing import Any, Protocol, runtime_checkable

import torch
from lightning import LightningModule
from torch import Tensor, nn

from bench import devices
from bench.quiet import quiet_trainer
from bench.scorer import Answer as Answer
from bench.scorer import Cell as Cell
from bench.scorer import Scorer as Scorer
from bench.scorer import routing as routing
from methods import MergingMethod
from methods.precision import layers_in
from methods.routed import RoutedMethod
from tasks.datamodule import SuiteData

Normalise = Callable[[Tensor], Tensor]  # uint8 [B, H, W, 3] -> float [B, 3, H, W]
LAYERS = {"": None, "bf16": torch.bfloat16}  # precision -> type of matrix products


@runtime_checkable
class Unsure(Protocol):
    """A method that says of each image how unsure it is of it."""

    def uncertainty(self, images: Tensor) -> Tensor:
        """``[B, 3, H, W] -> [B]``, in [0, 1]."""

    def discrepancy(self, images: Tensor) -> Tensor:
        """How much it disagrees with its neighbours in the batch.  ``[B, 3, H, W] -> [B]``."""


class Panel(LightningModule):
    """Several built methods that look at the same batches.

    Args:
        members: by any name.
        unseen: tasks whose experts were not merged.
        floor: answers for members that would need these; for all others they answer themselves.
        unsure: whether members that know how unsure they are shall say so.
        normalise: makes pixels what their encoder wants; it is done where they are.
        precision: bf16 multiplies matrices in it; see :func:`methods.precision.layers_in`.
        turns: let members take turns on the device, batch by batch, where not all find room.
    """

    def __init__(
        self,
        members: Mapping[str, MergingMethod],
        unseen: Collection[str] = (),
        floor: MergingMethod | None = None,
        unsure: bool = False,
        *,
        normalise: Normalise,
        precision: str = "",
        turns: bool = False,
    ):
        super().__init__()
        self.normalise, self.layers, self.turns = normalise, LAYERS[precision], turns
        self.keys, self.unseen, self.floor, self.unsure = list(members), unseen, floor, unsure
        held = list(members.values())
        self.members = held if turns else nn.ModuleList(held)  # a list does not follow the panel
        self.seconds: dict[Cell, float] = defaultdict(float)

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Answer]:
        """What every member says of one batch of one cell, with the weights of those that route."""
        images, answers = self.normalise(batch["images"]), {}
        with layers_in(self.layers):
            for key, member in self.on_the_device():
                answers[key] = self.measured(key, member, images, batch["task"], batch["shift"])
        return answers

    def on_the_device(self) -> Iterator[tuple[str, MergingMethod]]:
        """The members; those that take turns are there while they are asked."""
        for key, member in zip(self.keys, self.members, strict=True):
            assert isinstance(member, MergingMethod)
            if self.turns:
                member.to(self.device)
            yield key, member
            if self.turns:
                member.cpu()

    def measured(
        self, key: str, member: MergingMethod, images: Tensor, task: str, shift: str
    ) -> Answer:
        """What a member says of a batch of a cell, timed; and what only a test asks it."""
        devices.settle()
        start = perf_counter()
        answer = self.ask(member, images, task)
        devices.settle()
        self.seconds[key, task, shift] += perf_counter() - start
        if isinstance(member, RoutedMethod) and task not in self.unseen:
            # not timed: nobody can do it without the task
            answer = answer._replace(oracle=member.predict_oracle(images, task))
        if self.unsure and isinstance(member, Unsure):
            doubts = {"u": member.uncertainty(images), "ads": member.discrepancy(images)}
            answer = answer._replace(**doubts)
        return answer

    def ask(self, member: MergingMethod, images: Tensor, task: str) -> Answer:
        """What a member says, or the floor in its place: no route then has any weight."""
        if task not in self.unseen or not member.knows_task or self.floor is None:
            return answered(member, images, task)
        weights = None
        if isinstance(member, RoutedMethod):
            weights = images.new_zeros(len(images), len(member.routes))
        return Answer(self.floor.predict(images, task), weights)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Answer]:
        """Logits of every member on one batch of one cell."""
        images, task = self.normalise(batch["images"]), batch["task"]
        with layers_in(self.layers):
            return {
                key: Answer(member.predict(images, task)) for key, member in self.on_the_device()
            }


def answered(member: MergingMethod, images: Tensor, task: str) -> Answer:
    """What a member says of images, as a user would ask it."""
    if not isinstance(member, RoutedMethod):
        return Answer(member.predict(images, task))
    logits, weights = member.predict_routed(images, task)
    return Answer(logits, weights.mean(1) if weights.ndim == 3 else weights)  # over the layers


def score(
    members: Mapping[str, MergingMethod],
    data: SuiteData,
    split: str,
    unseen: Collection[str] = (),
    floor: MergingMethod | None = None,
    unsure: bool = False,
    *,
    normalise: Normalise,
    precision: str = "",
) -> tuple[Panel, Scorer]:
    """Show every cell of ``data`` to every member; see :class:`Panel`.

    Args:
        members: by any name.
        data: what they are shown.
        split: test or val.
        unseen: see :class:`Panel`.
        floor: see :class:`Panel`.
        unsure: see :class:`Panel`.
        normalise: see :class:`Panel`.
        precision: see :class:`Panel`.
    """
    held = [tensor for m in members.values() for tensor in (*m.parameters(), *m.buffers())]
    turns = sum(tensor.nbytes for tensor in held) > devices.room()
    panel = Panel(
        members, unseen, floor, unsure, normalise=normalise, precision=precision, turns=turns
    )
    scorer = Scorer()
    trainer = quiet_trainer(callbacks=[scorer])
    if split == "test":
        trainer.test(panel, datamodule=data, verbose=False)
    else:
        trainer.validate(panel, datamodule=data, verbose=False)
    return panel, scorer
