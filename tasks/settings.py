"""How this machine handles images: told to a command once, known to all processes it starts.

None of it changes a pixel, but for ``data_dir``, which is part of what a task is.
"""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mergeshift import UserError

DATA_DIR = "MERGESHIFT_DATA_DIR"  # a folder of the user with a folder for each task
WORKERS = "MERGESHIFT_WORKERS"  # processes that decode and corrupt beside one that evaluates
BUDGET = "MERGESHIFT_IMAGE_BUDGET"  # GB of decoded and corrupted images that are kept
MAX_PIXELS = "MERGESHIFT_MAX_PIXELS"  # width times height of a picture that is decoded
GIGABYTES = 20.0  # by default
PIXELS = 2.0**28  # by default: 16,384 x 16,384, of which decoding takes about a gigabyte
SYSTEMS = {"__macosx", "__pycache__", "@eadir", "$recycle.bin", "system volume information"}


@contextmanager
def using(
    data_dir: Path | None = None, workers: int | None = None, gigabytes: float | None = None
) -> Iterator[None]:
    """Handle images so while the block runs, in worker processes too that start in it.

    Raises:
        UserError: there is no such folder, or no task in it; or a number is negative.
    """
    told = {DATA_DIR: data_dir and checked(data_dir), WORKERS: workers, BUDGET: gigabytes}
    for option, number in (("--workers", workers), ("--image-budget", gigabytes)):
        if number is not None and not 0 <= number < math.inf:
            raise UserError(f"{option} is a number from 0 on; got {number}")
    before = {name: os.environ.get(name) for name in told}
    os.environ.update({name: str(value) for name, value in told.items() if value is not None})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            os.environ.update({name: value} if value is not None else {})


def checked(folder: Path) -> Path:
    """The folder, absolute."""
    if not folder.is_dir() or not folders(folder):
        raise UserError(f"--data-dir is a folder with a folder for each task; got {folder}")
    return folder.resolve()


def folders(folder: Path) -> list[str]:
    """Names of the folders in a folder, in the order of the alphabet, but for the system's."""
    names = (path.name for path in folder.iterdir() if path.is_dir())
    return sorted(n for n in names if not n.startswith(".") and n.lower() not in SYSTEMS)


def data_dir() -> Path | None:
    """The folder of folders, if the user named one.

    Raises:
        UserError: it is gone.
    """
    chosen = os.environ.get(DATA_DIR)
    return checked(Path(chosen).expanduser()) if chosen else None


def workers() -> int:
    """Processes that decode and corrupt beside one that evaluates; 0 has it do so itself."""
    return int(_number(WORKERS, 0))


def image_budget() -> float:
    """Bytes of decoded and corrupted images that are kept."""
    return 1e9 * _number(BUDGET, GIGABYTES)


def max_pixels() -> int:
    """Width times height of the largest picture that is decoded."""
    return int(_number(MAX_PIXELS, PIXELS))


def _number(name: str, default: float) -> float:
    """What a variable of the environment says, which anybody may have set."""
    text = os.environ.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise UserError(f"{name} is a number from 0 on; got {text!r}: set another or none")
    return value
