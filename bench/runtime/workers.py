"""Where work is done: here, or in local worker processes.

A unit of work is a picklable function and its arguments. Every unit runs on one thread, so numbers
do not depend on how many workers there are. Any other :class:`Executor` (a cluster) needs the same
one method.
"""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.sharedctypes import Synchronized
from typing import Any, Protocol, TypeVar

import torch

from mergeshift import UserError, end_with_parent

T = TypeVar("T")
Job = tuple[Any, ...]
OnProgress = Callable[[float], None]  # told, now and then, how many steps all units have done

_steps: "Synchronized[float] | None" = None


class Executor(Protocol):
    """Runs units of work."""

    jobs: int

    def run(
        self, function: Callable[..., T], units: Iterable[Job], watch: OnProgress | None = None
    ) -> Iterator[tuple[Job, T]]:
        """Yield each unit with its result, as they finish."""


def report_progress(steps: float = 1) -> None:
    """Called inside a unit: so much of it is done (shown to whoever watches)."""
    if _steps is not None:
        with _steps.get_lock():
            _steps.value += steps


@contextmanager
def one_thread() -> Iterator[None]:
    """Run a block on one thread of torch, and put the number of threads back."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class SerialExecutor:
    """One unit after the other, in this process."""

    jobs = 1

    def run(
        self, function: Callable[..., T], units: Iterable[Job], watch: OnProgress | None = None
    ) -> Iterator[tuple[Job, T]]:
        counter = _Plain(watch) if watch else None  # of all units together
        for unit in units:
            with one_thread(), _counting(counter):
                result = function(*unit)
            yield unit, result


class ProcessExecutor:
    """Units in ``jobs`` worker processes, which live as long as the engine is open.

    Where the system can, workers are forked from a server that has no threads and has imported
    what the first unit needs: libraries that take seconds are loaded once and not in each of them,
    and their memory is shared. The server outlives the engine, so the next one starts at once.
    """

    def __init__(self, jobs: int):
        self.jobs = jobs
        forks = "forkserver" in multiprocessing.get_all_start_methods()
        self._context = multiprocessing.get_context("forkserver" if forks else "spawn")
        self._counter = self._context.Value("d", 0.0)
        self._pool = ProcessPoolExecutor(
            jobs, mp_context=self._context, initializer=_start_worker,
            initargs=(self._counter, dict(os.environ)),
        )  # fmt: skip

    def run(
        self, function: Callable[..., T], units: Iterable[Job], watch: OnProgress | None = None
    ) -> Iterator[tuple[Job, T]]:
        self._counter.value = 0.0
        self._context.set_forkserver_preload([function.__module__])  # without effect once it runs
        futures = {self._pool.submit(function, *unit): unit for unit in units}
        try:
            while futures:
                done, _ = wait(futures, timeout=0.25, return_when=FIRST_COMPLETED)
                if watch is not None:
                    watch(self._counter.value)
                for future in done:
                    yield futures.pop(future), future.result()
        except BrokenProcessPool as error:
            raise UserError(
                f"a worker was killed ({error}); use fewer jobs: each needs memory"
            ) from error
        finally:
            for future in futures:
                future.cancel()

    def close(self) -> None:
        """End the workers."""
        self._pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def executor(jobs: int) -> Iterator[Executor]:
    """The engine for so many jobs."""
    if jobs == 1:
        yield SerialExecutor()
        return
    local = ProcessExecutor(jobs)
    try:
        yield local
    finally:
        local.close()


def default_jobs() -> int:
    """The cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _start_worker(counter: "Synchronized[float]", environment: dict[str, str]) -> None:
    """One thread, and no life after the parent's: a killed sweep leaves nothing running.

    The environment is the engine's: the server that forks workers began at another time.
    """
    global _steps
    _steps = counter
    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(1)
    end_with_parent()


class _Plain:
    """A counter for one process that tells its watcher at once."""

    def __init__(self, watch: OnProgress):
        self._value, self._watch, self._lock = 0.0, watch, threading.Lock()

    @property
    def value(self) -> float:
        return self._value

    @value.setter
    def value(self, new: float) -> None:
        self._value = new
        self._watch(new)

    def get_lock(self) -> threading.Lock:
        return self._lock


@contextmanager
def _counting(counter: _Plain | None) -> Iterator[None]:
    """Let :func:`report_progress` count in ``counter`` while the block runs."""
    global _steps
    _steps = counter  # type: ignore[assignment]
    try:
        yield
    finally:
        _steps = None
