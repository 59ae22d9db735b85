"""Where tensors are computed with: the device that a command was told, here and in its workers."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from bench.runtime.workers import default_jobs
from mergeshift import UserError
from methods.common import timer

VARIABLE = "MERGESHIFT_DEVICE"  # auto | cpu | cuda | cuda:1 | mps; worker processes inherit it


@contextmanager
def using(name: str) -> Iterator[None]:
    """Compute on a device while the block runs, in worker processes too that start in it.

    Args:
        name: ``auto`` takes an NVIDIA GPU where there is one, else the CPU; ``cpu``; ``cuda`` or
            ``cuda:1``; ``mps``, which evaluates and fine-tunes, while methods learn on the CPU.

    Raises:
        UserError: there is no such device.
    """
    check(name)
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = name
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


def check(name: str) -> None:
    """Refuse a device that is not there.

    Raises:
        UserError: it is not.
    """
    match = re.fullmatch(r"auto|cpu|mps|cuda(?::(\d+))?", name)
    if not match:
        raise UserError(f"--device is auto, cpu, cuda, cuda:NUMBER or mps; got {name!r}")
    count = torch.cuda.device_count()
    if name.startswith("cuda") and int(match[1] or 0) >= count:
        raise UserError(f"there is no {name} here ({count} GPUs are seen); use --device cpu")
    if name == "mps" and not torch.backends.mps.is_available():
        raise UserError("there is no mps here (it is Apple's GPU); use --device cpu")


def chosen() -> str:
    """What was chosen: ``auto`` unless told otherwise."""
    return os.environ.get(VARIABLE) or "auto"


def device() -> torch.device:
    """The device as torch names it. Nothing else decides where anything is computed."""
    name = chosen()
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def for_learning() -> torch.device:
    """Where methods learn: Apple's GPUs have no float64, in which matrices are decomposed."""
    here = device()
    return torch.device("cpu") if here.type == "mps" else here


def for_trainer(here: torch.device | None = None) -> dict[str, Any]:
    """How a Trainer of Lightning is told.

    Args:
        here: where; default: :func:`device`.
    """
    here = here or device()
    if here.type != "cuda":
        return {"accelerator": here.type, "devices": 1}
    return {"accelerator": "gpu", "devices": [here.index or 0]}


def synchronize() -> None:
    """Wait until the device has done all that it was asked; clocks are read after it."""
    timer.synchronize(device())


def described() -> str:
    """The device in words, to be kept with what was measured on it."""
    here = device()
    return torch.cuda.get_device_name(here) if here.type == "cuda" else here.type


def room() -> float:
    """Bytes that models may take on the device: most of what is free; elsewhere no limit."""
    here = device()
    return 0.7 * torch.cuda.mem_get_info(here)[0] if here.type == "cuda" else float("inf")


def cores(jobs: int) -> int:
    """Processes for work that no GPU does: ``jobs``, or a core each where jobs wait for a GPU."""
    return jobs if device().type == "cpu" else max(jobs, default_jobs())


def jobs() -> int:
    """How many workers there are if nobody says: one per core, but one alone on a GPU."""
    return default_jobs() if device().type == "cpu" else 1
