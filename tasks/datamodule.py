"""A suite under a list of shifts, as one DataModule."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from corruptions.base import CLEAN, DOMAIN, PRIOR, Shift
from corruptions.cache import Request, corrupted, stored
from mergeshift import home, rng_of
from tasks import settings
from tasks.domains import domain_named, shown
from tasks.images import Images, Pictures, Streamed, done
from tasks.prior import frequencies, rows_of
from tasks.task import Task, load

BATCH = 128  # images: small enough for the activations of a layer to stay in the cache
Pixels = np.ndarray | Streamed  # uint8 [N, H, W, 3]


class CellBatches(Dataset[dict[str, Any]]):
    """The batches of many (task, shift) cells, one after the other; an item is a whole batch."""

    def __init__(self, data: "SuiteDataModule", split: str, shifts: Sequence[Shift]):
        self.data, self.split = data, split
        self.batches = [
            (task, shift, start)
            for shift in shifts
            for task in data.shown(shift)
            for start in range(0, data.count(task, split, shift), data.batch)
        ]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> dict[str, Any]:
        task, shift, start = self.batches[index]
        rows, before = slice(start, start + self.data.batch), done.copy()
        return {
            "images": torch.from_numpy(np.array(self.data.pixels(task, self.split, shift)[rows])),
            "labels": torch.from_numpy(self.data.labels(task, self.split, shift)[rows]),
            "task": task.name,
            "shift": shift.key,
            "work": dict(done - before),  # pictures decoded and corrupted for this batch
        }


class MixedBatches(Dataset[dict[str, Any]]):
    """Batches in which the images of all tasks stand side by side, shift by shift.

    Their order is drawn by the data seed, and is the same under every shift.
    """

    def __init__(self, data: "SuiteDataModule", split: str, shifts: Sequence[Shift]):
        self.data, self.split = data, split
        counts = {
            shift: [data.count(task, split, shift) for task in data.shown(shift)]
            for shift in shifts
        }
        self.batches = [
            (shift, start)
            for shift, count in counts.items()
            for start in range(0, sum(count), data.batch)
        ]
        self.orders = {shift: self._order(count) for shift, count in counts.items()}

    def _order(self, counts: Sequence[int]) -> np.ndarray:
        """Task and image of every place.  ``int64 [N, 2]``."""
        every = [(task, row) for task, count in enumerate(counts) for row in range(count)]
        return rng_of("mixed-task", self.data.data_seed).permutation(np.array(every))

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Images ``[B, H, W, 3]``, and of each task, ``int64 [b]`` each: labels and two places.

        ``parts`` are places in the batch, ``rows`` are those in the test.
        """
        (shift, start), before = self.batches[index], done.copy()
        places = self.orders[shift][start : start + self.data.batch]
        size = self.data.tasks[0].size
        images = np.empty((len(places), size, size, 3), np.uint8)
        parts, rows, labels = {}, {}, {}
        for number, task in enumerate(self.data.shown(shift)):
            mine = np.flatnonzero(places[:, 0] == number)
            if len(mine):
                numbers = places[mine, 1]
                images[mine] = self.data.pixels(task, self.split, shift)[numbers]
                parts[task.name] = torch.from_numpy(mine)
                rows[task.name] = torch.from_numpy(numbers)
                own = self.data.labels(task, self.split, shift)[numbers]
                labels[task.name] = torch.from_numpy(own)
        return {
            "images": torch.from_numpy(images),
            "parts": parts,
            "rows": rows,
            "labels": labels,
            "shift": shift.key,
            "work": dict(done - before),
        }


class Unlabelled(Dataset[dict[str, Tensor]]):
    """Endless batches of images alone, one per task: labels cannot leak."""

    def __init__(self, data: "SuiteDataModule", batch: int, steps: int):
        self.data, self.batch, self.steps = data, batch, steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        found = {}
        for task in self.data.tasks:
            pixels = self.data.pixels(task, self.data.adapt_on, self.data.adapt_shift)
            rng = rng_of("adapt", self.data.seed, task.name, step)
            rows = np.sort(draw(len(pixels), self.batch, rng))
            found[task.name] = torch.from_numpy(pixels[rows])
        return found


def draw(count: int, batch: int, rng: np.random.Generator) -> np.ndarray:
    """Numbers of ``batch`` images, none twice unless there are too few.  ``int [batch]``."""
    whole, rest = divmod(batch, count)
    return np.concatenate([*[np.arange(count)] * whole, rng.permutation(count)[:rest]])


class SuiteDataModule(LightningDataModule):
    """Every (task, shift) cell of a sweep, as uint8 images ``[B, H, W, 3]``.

    ``test_dataloader`` and ``val_dataloader`` give labelled cells; ``train_dataloader`` streams
    unlabelled images, task by task, for methods that learn. ``mixed`` makes test batches of the
    images of all tasks (see :class:`MixedBatches`).

    Pictures that are decoded on demand are read from the image cache where it has them, else by
    ``workers`` processes beside the one that looks at them; ``work`` counts what these did.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        shifts: Sequence[Shift],
        *,
        limit: int | None = None,
        val_limit: int | None = None,
        data_seed: int = 0,
        batch: int = BATCH,
        adapt_on: str = "adapt",
        adapt_shift: Shift = CLEAN,
        adapt_batch: int = 16,
        adapt_steps: int = 500,
        seed: int = 0,
        workers: int | None = None,
        val_shifts: Sequence[Shift] = (CLEAN,),
        mixed: bool = False,
    ):
        super().__init__()
        self.tasks, self.shifts, self.data_seed = tasks, shifts, data_seed
        self.limits = {"test": limit, "val": val_limit}
        self.batch, self.adapt_on, self.adapt_shift, self.seed = batch, adapt_on, adapt_shift, seed
        self.adapt_batch, self.adapt_steps = adapt_batch, adapt_steps
        self.workers = settings.workers() if workers is None else workers
        self.val_shifts, self.mixed, self.work = val_shifts, mixed, Counter[str]()
        self._images: dict[tuple[str, str, Shift], np.ndarray | Pictures] = {}
        self._pixels: dict[tuple[str, str, Shift], Pixels] = {}

    def __getstate__(self) -> dict[str, Any]:
        """What workers need of it: not the Trainer, nor the models that look at the images."""
        return self.__dict__ | {"trainer": None, "_images": {}, "_pixels": {}}

    def shown(self, shift: Shift) -> Sequence[Task]:
        """The tasks that have images under a shift: all, unless it is of some domain."""
        return shown(self.tasks, shift)

    def count(self, task: Task, split: str, shift: Shift = CLEAN) -> int:
        """Images of a split that are used: of test at most ``limit``, of val ``val_limit``."""
        return len(self.labels(task, split, shift))

    def labels(self, task: Task, split: str, shift: Shift = CLEAN) -> np.ndarray:
        """``int64 [N]``; of another number under a shift that shows other images."""
        return self.part(task, split, shift).labels

    def part(self, task: Task, split: str, shift: Shift) -> Images:
        """The images and labels of a cell, before anything is done to their pixels."""
        limit = self.limits.get(split)
        if shift.corruption.startswith(DOMAIN):
            return domain_named(shift.corruption).images(task).first(limit)
        found = load(task, split).first(limit)
        if shift.corruption != PRIOR:
            return found
        shares = frequencies(task.num_classes, self.data_seed, task.name)
        return found.take(rows_of(found.labels, shares))

    def pixels(self, task: Task, split: str, shift: Shift) -> Pixels:
        """``uint8 [N, H, W, 3]``: memory-mapped, a corrupted split is computed once; or streamed.

        Pictures that are decoded on demand are streamed, unless somebody has put them into the
        cache.
        """
        key = (task.name, split, shift)
        if key not in self._pixels:
            images, done_to, name = self.request(task, split, shift)
            seed, folder = self.data_seed, image_cache()
            if isinstance(images, np.ndarray):
                found = corrupted(images, done_to, data_seed=seed, task=name, folder=folder)
                self._pixels[key] = found
            else:
                kept = stored(images, done_to, data_seed=seed, task=name, folder=folder)
                streamed = Streamed(images, done_to, (seed, name))
                self._pixels[key] = streamed if kept is None else kept
        return self._pixels[key]

    def request(self, task: Task, split: str, shift: Shift) -> Request:
        """What the cache of corrupted images is asked for."""
        key = (task.name, split, CLEAN if shift.corrupts else shift)
        if key not in self._images:  # one array, so that it is hashed once
            self._images[key] = self.part(task, split, shift).images
        name = task.name if split == "test" else f"{task.name}/{split}"
        return self._images[key], shift if shift.corrupts else CLEAN, name

    def on_before_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> Any:
        """Count what was done for a batch, in whichever process."""
        self.work.update(batch.pop("work", {}))
        return batch

    def test_dataloader(self) -> DataLoader:
        return self._loader(
            (MixedBatches if self.mixed else CellBatches)(self, "test", self.shifts)
        )

    def val_dataloader(self) -> DataLoader:
        return self._loader(CellBatches(self, "val", self.val_shifts))

    def train_dataloader(self) -> DataLoader:
        return self._loader(Unlabelled(self, self.adapt_batch, self.adapt_steps))

    def _loader(self, batches: Dataset) -> DataLoader:
        """Batches in their order; workers make them only where there is something to decode."""
        workers = self.workers if any(task.source.native for task in self.tasks) else 0
        if not workers:
            return DataLoader(batches, batch_size=None, shuffle=False)
        # Not forked from this process, whose threads may hold locks, but from one that has none.
        context = get_context("forkserver")
        context.set_forkserver_preload([__name__])
        return DataLoader(
            batches,
            batch_size=None,
            shuffle=False,
            num_workers=workers,
            multiprocessing_context=context,
            worker_init_fn=partial(begin, dict(os.environ)),
        )


def begin(environment: Mapping[str, str], worker: int) -> None:
    """Start a worker: with what its own process was told, and without OpenCV's own threads.

    The server that forks workers began earlier, and knows the environment of that time.
    """
    import cv2

    os.environ.clear()
    os.environ.update(environment)
    cv2.setNumThreads(1)


def affordable(requests: Iterable[Request], budget: float) -> list[Request]:
    """Requests of the cache that are worth it: all of arrays; of pictures, the first that fit.

    Args:
        requests: those that are looked at most often first; what is asked twice counts once.
        budget: bytes of pictures.
    """
    chosen: dict[tuple[int, Shift, str], Request] = {}
    for images, shift, name in requests:
        key = (id(images), shift, name)
        if key not in chosen and not isinstance(images, np.ndarray):
            if images.nbytes > budget:
                continue
            budget -= images.nbytes
        chosen[key] = (images, shift, name)
    return list(chosen.values())


def image_cache() -> Path:
    """Where corrupted images are kept."""
    return home() / "images"
