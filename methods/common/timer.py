"""Seconds of work, wherever it is done: a GPU is asked first and works later."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

import torch

CPU = torch.device("cpu")


def synchronize(device: torch.device) -> None:
    """Wait until a device has done all that it was asked; a CPU has.

    A clock that is read without it tells how long the asking took.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


class Timer:
    """Seconds spent on each kind of work, and how often.

    Args:
        device: where it is done.
    """

    def __init__(self, device: torch.device = CPU) -> None:
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)
        self.times: dict[str, int] = defaultdict(int)

    @contextmanager
    def __call__(self, work: str) -> Iterator[None]:
        """Count what is done in a block."""
        synchronize(self.device)
        start = perf_counter()
        yield
        synchronize(self.device)
        self.seconds[work] += perf_counter() - start
        self.times[work] += 1

    def report(self) -> dict[str, float]:
        """Work -> seconds of doing it once."""
        return {work: spent / max(1, self.times[work]) for work, spent in self.seconds.items()}
