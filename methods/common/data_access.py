"""What a method may look at besides weights: declared, and held to it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Flag, auto
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from mergeshift import UserError


class Needs(Flag):
    """What a method looks at besides weights, before or while it is evaluated.

    >>> str(Needs.NOTHING), str(Needs.IMAGES | Needs.TASK_IDS)
    ('weights only', 'unlabelled images, task ids')
    """

    NOTHING = 0
    IMAGES = auto()  # unlabelled images to learn from: of the adapt split, if not said otherwise
    TASK_IDS = auto()  # which task an image that it learns from belongs to, as a thing to learn
    VAL_LABELS = auto()  # labelled images of the val split
    TEST_STREAM = auto()  # the unlabelled test images themselves
    TRAIN_LABELS = auto()  # labelled images that the experts were trained on
    OPTIMIZER_STATE = auto()  # what the optimizer held when the experts' training ended

    def __str__(self) -> str:
        return ", ".join(_TEXT[need] for need in self) or "weights only"


_TEXT = {
    Needs.IMAGES: "unlabelled images",
    Needs.TASK_IDS: "task ids",
    Needs.VAL_LABELS: "validation labels",
    Needs.TEST_STREAM: "test stream",
    Needs.TRAIN_LABELS: "training labels",
    Needs.OPTIMIZER_STATE: "optimizer state",
}


@dataclass(frozen=True)
class AdaptationSchedule:
    """How long a Trainer shows unlabelled images to a method."""

    steps: int
    batch: int  # images of every task, a step


class DataAccess(Protocol):
    """The images that a method may see before it is evaluated, normalised.

    Unlabelled images come in an order that its seed draws, so that the first of them are a sample.

    And what lets a long learning be followed, and go on after it was killed.
    """

    def unlabeled(self, task: str) -> Iterator[Tensor]:
        """Unlabelled batches of the images kept for adapting, drawn.  ``[B, 3, H, W]``."""

    def test_stream(self, task: str) -> Iterator[Tensor]:
        """Unlabelled batches of the test images themselves.  ``[B, 3, H, W]``."""

    def validation(self, task: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of the val split with their labels.  ``[B, 3, H, W], [B]``."""

    def training(self, task: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of the train split with their labels.  ``[B, 3, H, W], [B]``."""

    @property
    def journal(self) -> Path | None:
        """A file for a record of the learning so far; ``None`` where none is to be kept."""

    def count_pass(self) -> None:
        """Told by a method after each of its ``num_validation_passes``."""


def take_images(
    batches: Iterable[tuple[Tensor, ...]], limit: int | None
) -> Iterator[tuple[Tensor, ...]]:
    """The first ``limit`` images of a stream of batches; ``None``: all of them.

    No batch is asked for beyond the one that has the last of them.

    Args:
        batches: of images alone, or with labels: tuples of tensors of one length.
        limit: how many images.

    >>> [len(batch) for (batch,) in take_images(zip(Tensor(10, 3).split(4)), 7)]
    [4, 3]
    """
    left = limit
    for batch in batches if left != 0 else ():
        yield tuple(part[:left] for part in batch)
        if left is not None:
            left -= len(batch[0])
            if left <= 0:
                return


def cycle_images(
    read: Callable[[], Iterable[tuple[Tensor, ...]]], count: int
) -> Iterator[tuple[Tensor, ...]]:
    """``count`` images at a time without end, after the last the first; none if there is none.

    A stream that has fewer comes whole each time. One batch is held besides what is given.

    Args:
        read: begins the stream of batches anew: of images alone, or with labels.
        count: how many images.

    >>> parts = cycle_images(lambda: zip(Tensor([0, 1, 2, 3, 4]).split(2)), 3)
    >>> [next(parts)[0].tolist() for _ in range(3)]
    [[0.0, 1.0, 2.0], [3.0, 4.0, 0.0], [1.0, 2.0, 3.0]]
    """
    held: tuple[Tensor, ...] = ()
    while True:
        seen = 0
        for batch in read():
            seen += len(batch[0])
            held = tuple(map(torch.cat, zip(held, batch, strict=True))) if held else batch
            while len(held[0]) >= count:
                yield tuple(part[:count] for part in held)
                held = tuple(part[count:] for part in held)
        if not seen:
            return
        if seen < count:
            yield held
            held = ()


@dataclass(frozen=True)
class CheckedDataAccess:
    """A :class:`DataAccess` that gives what a method declared to need, and nothing else."""

    access: DataAccess | None
    needs: Needs
    method: str

    def unlabeled(self, task: str) -> Iterator[Tensor]:
        """See :class:`DataAccess`."""
        return self._allowed(Needs.IMAGES).unlabeled(task)

    def test_stream(self, task: str) -> Iterator[Tensor]:
        """See :class:`DataAccess`."""
        return self._allowed(Needs.TEST_STREAM).test_stream(task)

    def validation(self, task: str) -> Iterator[tuple[Tensor, Tensor]]:
        """See :class:`DataAccess`."""
        return self._allowed(Needs.VAL_LABELS).validation(task)

    def training(self, task: str) -> Iterator[tuple[Tensor, Tensor]]:
        """See :class:`DataAccess`."""
        return self._allowed(Needs.TRAIN_LABELS).training(task)

    @property
    def journal(self) -> Path | None:
        """See :class:`DataAccess`."""
        return self.access.journal if self.access else None

    def count_pass(self) -> None:
        """See :class:`DataAccess`."""
        if self.access:
            self.access.count_pass()

    def _allowed(self, need: Needs) -> DataAccess:
        if need not in self.needs:
            raise PermissionError(f"{self.method} reads {need} but declares: {self.needs}")
        if self.access is None:
            raise UserError(f"{self.method} needs {need}; build it with a DataAccess that has them")
        return self.access
