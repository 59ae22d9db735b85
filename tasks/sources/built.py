"""Build a task once, check it against its entry, and read it memory-mapped ever after."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import ClassVar

import numpy as np
from filelock import FileLock

from mergeshift import DamagedFileError, atomic, home, rng_of
from tasks.images import Images
from tasks.rights import Rights
from tasks.sources.archives import Archive
from tasks.sources.debian import DEBIAN
from tasks.sources.wheels import WHEELS
from tasks.task import RESERVED, SPLITS, Task

DRAWN_HERE = Rights("MIT (made here)", "LICENSE", "anyone")
MOST = (4000, 500, 500, 1000)  # images that a split keeps, at most; test with what is reserved


@dataclass(frozen=True)
class Pool:
    """What a builder returns: every usable picture of a source, each assigned to a split."""

    images: np.ndarray  # uint8 [N, 32, 32, 3]
    labels: np.ndarray  # int [N]
    splits: np.ndarray  # int8 [N], index into SPLITS; -1 is left out


def folder(task: Task) -> Path:
    """Where the built task lies; another version or other pixels lie elsewhere."""
    return home() / "tasks" / f"{task.name}-v{task.version}-{task.pixels[:8]}"


def assemble(task: Task) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """Run the builder; shuffle and cap each split.

    Returns:
        Images, labels, and the number of images in train, adapt, val, and test with what is
        reserved.
    """
    if not isinstance(task.source, Built):
        raise TypeError(f"{task.name} comes from {task.source}; it is not built")
    pool, order = task.source.build(), []
    for split, most in enumerate(MOST):
        rows = np.flatnonzero(pool.splits == split)
        order.append(rng_of("order", task.name, split).permutation(rows)[:most])
    rows = np.concatenate(order)
    sizes = tuple(map(len, order))
    return np.ascontiguousarray(pool.images[rows]), pool.labels[rows].astype(np.int64), sizes


def pixel_hash(images: np.ndarray, labels: np.ndarray) -> str:
    """First 16 hex digits of the sha256 of ``uint8 [N, H, W, 3]`` and ``int64 [N]``."""
    return sha256(images.tobytes() + labels.astype("<i8").tobytes()).hexdigest()[:16]


def build(task: Task) -> None:
    """Build and check ``task`` unless it is there.

    Raises:
        DamagedFileError: counts, classes or pixels are not those of the task's entry.
    """
    place = folder(task)
    if (place / "labels.npy").exists():
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{place}.lock"):
        if (place / "labels.npy").exists():
            return
        images, labels, sizes = assemble(task)
        check(task, images, labels, sizes)
        for name, array in (("images", images), ("labels", labels)):  # labels last: they mean done
            with atomic(place / f"{name}.npy") as temporary, temporary.open("wb") as file:
                np.save(file, array)


def check(task: Task, images: np.ndarray, labels: np.ndarray, sizes: tuple[int, ...]) -> None:
    """Compare what was built with the task's entry."""
    found = sizes, len(np.unique(labels)), pixel_hash(images, labels)
    *seen, test = task.sizes
    wanted = (*seen, test + task.reserved), task.num_classes, task.pixels
    if found != wanted:
        import PIL

        raise DamagedFileError(
            f"task {task.name} was built with (sizes, classes, pixels) {found}, its entry says "
            f"{wanted}; pixels are pinned for Pillow 13 (here {PIL.__version__}): install that "
            "version, or raise the task's version if the change is meant"
        )


def stored(task: Task) -> Images:
    """All that is kept of a built task, memory-mapped: its splits one after the other.

    Raises:
        DamagedFileError: an array is truncated or gone.
    """
    build(task)
    try:
        images = np.load(folder(task) / "images.npy", mmap_mode="r", allow_pickle=False)
        labels = np.load(folder(task) / "labels.npy", allow_pickle=False)
    except (ValueError, EOFError, FileNotFoundError) as error:
        raise DamagedFileError(
            f"{folder(task)} is damaged ({error}); delete that folder and run again"
        ) from error
    return Images(images, labels)


@dataclass(frozen=True)
class Built:
    """Splits of a task that is built here, kept as two arrays."""

    build: Callable[[], Pool]  # makes every usable picture, anew
    wheels: tuple[str, ...] = ()  # what it reads: names in WHEELS
    debian: tuple[str, ...] = ()  # what it reads, too: names in DEBIAN
    native: ClassVar[bool] = False

    @property
    def archives(self) -> list[Archive]:
        """All that it reads."""
        return [*(WHEELS[name] for name in self.wheels), *(DEBIAN[name] for name in self.debian)]

    @property
    def rights(self) -> tuple[Rights, ...]:
        """The rights in all that it reads; what is drawn here is free."""
        found = [archive.rights for archive in self.archives]
        return tuple(dict.fromkeys(found)) or (DRAWN_HERE,)

    def is_ready(self, task: Task) -> bool:
        """Whether it was built, to the end."""
        return (folder(task) / "labels.npy").exists()

    def prepare(self, task: Task) -> None:
        """See :func:`build`."""
        build(task)

    def split(self, task: Task, split: str) -> Images:
        """One split, memory-mapped; what is reserved are the last of the test images.

        Raises:
            DamagedFileError: a stored array is truncated or gone.
        """
        edges = np.cumsum((0, *task.sizes, task.reserved))
        place = (*SPLITS, RESERVED).index(split)
        every = stored(task)
        rows = slice(*edges[place : place + 2])
        return Images(every.images[rows], every.labels[rows])
