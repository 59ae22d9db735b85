"""Corrupt images block by block, in worker processes or in this one."""

import signal
from collections import deque
from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import starmap
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from corruptions.base import Shift
from mergeshift import UserError, end_with_parent

Rows = int | slice | np.ndarray | list[int]


class LazyImages(Protocol):
    """Images that are decoded when they are looked at; see :class:`tasks.images.Pictures`."""

    @property
    def digest(self) -> str:
        """Hex digits of all that decides the pixels."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def nbytes(self) -> int: ...

    def __len__(self) -> int: ...

    def under(self, shift: Shift, rows: Rows, *identity: object) -> np.ndarray:
        """Some of the images under a shift, clean included."""


Call = tuple[np.ndarray | Path | LazyImages | int, int, int, Shift, str, int]

_lazy: dict[int, LazyImages] = {}  # what the parent's calls mean by a number


def blocks(calls: list[Call], jobs: int) -> Generator[np.ndarray]:
    """Corrupt blocks in ``jobs`` processes and yield them in order.

    Args:
        calls: images (or the file that holds them), first, last, shift, task, data seed.
        jobs: processes.

    Raises:
        UserError: a worker was killed, or an image cannot be read.
    """
    if jobs <= 1:
        yield from starmap(_block, calls)
        return
    lazy: dict[int, Any] = {
        id(images): images for images, *_ in calls if not isinstance(images, np.ndarray | Path)
    }
    calls = [(id(call[0]), *call[1:]) if id(call[0]) in lazy else call for call in calls]
    waiting: deque = deque()  # at most a few blocks, so that memory stays small
    try:
        with ProcessPoolExecutor(jobs, get_context("spawn"), _start_worker, (lazy,)) as pool:
            for call in calls:
                waiting.append(pool.submit(_block, *call))
                if len(waiting) > 3 * jobs:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise UserError(
            f"a worker that corrupts images was killed ({error}); use fewer jobs: each needs memory"
        ) from error


def _block(
    images: np.ndarray | Path | LazyImages | int,
    start: int,
    stop: int,
    shift: Shift,
    task: str,
    data_seed: int,
) -> np.ndarray:
    """Corrupt images ``start`` to ``stop``."""
    if isinstance(images, int):
        images = _lazy[images]
    if isinstance(images, Path):
        images = np.lib.format.open_memmap(images, mode="r")
    if not isinstance(images, np.ndarray):
        return images.under(shift, slice(start, stop), data_seed, task)
    source = np.asarray(images)  # a plain view: indexing a memmap is slow
    return np.stack([shift.apply(source[i], data_seed, task, i) for i in range(start, stop)])


def _start_worker(lazy: dict[int, LazyImages]) -> None:
    """Keep OpenCV's own threads out of the way, leave Ctrl-C to the parent, and end with it."""
    import cv2

    _lazy.update(lazy)
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
