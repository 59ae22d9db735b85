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

from corruptions.base import CLEAN, Shift
from corruptions.cache import Request, corrupted, stored
from mergeshift import home, rng_of
from tasks import settings
from tasks.images import Pictures, Streamed, done
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
            for task in data.tasks
            for start in range(0, data.count(task, split), data.batch)
        ]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> dict[str, Any]:
        task, shift, start = self.batches[index]
        rows, before = slice(start, start + self.data.batch), done.copy()
        return {
            "images": torch.from_numpy(np.array(self.data.pixels(task, self.split, shift)[rows])),
            "labels": torch.from_numpy(self.data.labels(task, self.split)[rows]),
            "task": task.name,
            "shift": shift.key,
            "work": dict(done - before),  # pictures decoded and corrupted for this batch
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
    unlabelled images, task by task, for methods that learn.

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
    ):
        super().__init__()
        self.tasks, self.shifts, self.data_seed = tasks, shifts, data_seed
        self.limits = {"test": limit, "val": val_limit}
        self.batch, self.adapt_on, self.adapt_shift, self.seed = batch, adapt_on, adapt_shift, seed
        self.adapt_batch, self.adapt_steps = adapt_batch, adapt_steps
        self.workers = settings.workers() if workers is None else workers
        self.val_shifts, self.work = val_shifts, Counter[str]()
        self._images: dict[tuple[str, str], np.ndarray | Pictures] = {}
        self._pixels: dict[tuple[str, str, Shift], Pixels] = {}

    def __getstate__(self) -> dict[str, Any]:
        """What workers need of it: not the Trainer, nor the models that look at the images."""
        return self.__dict__ | {"trainer": None, "_images": {}, "_pixels": {}}

    def count(self, task: Task, split: str) -> int:
        """Images of a split that are used: of test at most ``limit``, of val ``val_limit``."""
        return len(self.labels(task, split))

    def labels(self, task: Task, split: str) -> np.ndarray:
        """``int64 [N]``."""
        return load(task, split).first(self.limits.get(split)).labels

    def pixels(self, task: Task, split: str, shift: Shift) -> Pixels:
        """``uint8 [N, H, W, 3]``: memory-mapped, a corrupted split is computed once; or streamed.

        Pictures that are decoded on demand are streamed, unless somebody has put them into the
        cache.
        """
        key = (task.name, split, shift)
        if key not in self._pixels:
            images, _, name = self.request(task, split, shift)
            seed, folder = self.data_seed, image_cache()
            if isinstance(images, np.ndarray):
                found = corrupted(images, shift, data_seed=seed, task=name, folder=folder)
                self._pixels[key] = found
            else:
                kept = stored(images, shift, data_seed=seed, task=name, folder=folder)
                streamed = Streamed(images, shift, (seed, name))
                self._pixels[key] = streamed if kept is None else kept
        return self._pixels[key]

    def request(self, task: Task, split: str, shift: Shift) -> Request:
        """What the cache of corrupted images is asked for."""
        if (task.name, split) not in self._images:  # one array, so that it is hashed once
            part = load(task, split).first(self.limits.get(split))
            self._images[task.name, split] = part.images
        images = self._images[task.name, split]
        return images, shift, task.name if split == "test" else f"{task.name}/{split}"

    def on_before_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> Any:
        """Count what was done for a batch, in whichever process."""
        self.work.update(batch.pop("work", {}))
        return batch

    def test_dataloader(self) -> DataLoader:
        return self._loader(CellBatches(self, "test", self.shifts))

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
