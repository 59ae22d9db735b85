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
from tasks.sources.wheels import WHEELS
from tasks.task import SPLITS, Task

MOST = (4000, 500, 500, 1000)  # images that a split keeps, at most


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
    """Run the builder; shuffle and cap each split.  Returns images, labels and split sizes."""
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
    wanted = task.sizes, task.num_classes, task.pixels
    if found != wanted:
        import PIL

        raise DamagedFileError(
            f"task {task.name} was built with (sizes, classes, pixels) {found}, its entry says "
            f"{wanted}; pixels are pinned for Pillow 13 (here {PIL.__version__}): install that "
            "version, or raise the task's version if the change is meant"
        )


@dataclass(frozen=True)
class Built:
    """Splits of a task that is built here, kept as two arrays."""

    build: Callable[[], Pool]  # makes every usable picture, anew
    wheels: tuple[str, ...] = ()  # what it reads: names in WHEELS
    rights: str = ""  # licences of what does not come from a wheel
    native: ClassVar[bool] = False

    @property
    def licence(self) -> str:
        """The licences of the wheels, and the rights in what comes from elsewhere."""
        named = [*(WHEELS[name].licence for name in self.wheels), self.rights]
        return "; ".join(dict.fromkeys(filter(None, named)))

    def is_ready(self, task: Task) -> bool:
        """Whether it was built, to the end."""
        return (folder(task) / "labels.npy").exists()

    def prepare(self, task: Task) -> None:
        """See :func:`build`."""
        build(task)

    def split(self, task: Task, split: str) -> Images:
        """One split, memory-mapped.

        Raises:
            DamagedFileError: a stored array is truncated or gone.
        """
        build(task)
        start = sum(task.sizes[: SPLITS.index(split)])
        rows = slice(start, start + task.sizes[SPLITS.index(split)])
        try:
            images = np.load(folder(task) / "images.npy", mmap_mode="r", allow_pickle=False)
            labels = np.load(folder(task) / "labels.npy", allow_pickle=False)
        except (ValueError, EOFError, FileNotFoundError) as error:
            raise DamagedFileError(
                f"{folder(task)} is damaged ({error}); delete that folder and run again"
            ) from error
        return Images(images[rows], labels[rows])
