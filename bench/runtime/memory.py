"""Peak memory of a block of work."""

import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass
class Peak:
    """Megabytes above what was held when the block began."""

    megabytes: float = 0.0


def _kilobytes(field: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    return 0


@contextmanager
def peak_memory() -> Iterator[Peak]:
    """Measure a block's resident set. Memory of a GPU that a method learns on is not in it.

    Where the process's peak cannot be reset (not Linux, some sandboxes) the growth of the peak over
    the whole life of the process is given, a lower bound.
    """
    peak = Peak()
    if _reset():
        held = _kilobytes("VmRSS")
        yield peak
        peak.megabytes = max(0, _kilobytes("VmHWM") - held) / 1e3
    else:
        import resource

        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        yield peak
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held
        peak.megabytes = grown / (1e6 if sys.platform == "darwin" else 1e3)  # bytes or kilobytes


@contextmanager
def own_memory() -> Iterator[Peak]:
    """Measure a block's own memory, looked at every 5 ms; 0 where the system does not tell.

    The resident set counts the pages of mapped files of weights as well, which the system may
    take back at any time; this does not.
    """
    peak, ended = Peak(), threading.Event()
    _give_back()
    held = _anonymous()

    def look() -> None:
        while not ended.wait(0.005):
            peak.megabytes = max(peak.megabytes, _anonymous() - held)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        ended.set()
        watcher.join()
        peak.megabytes = max(peak.megabytes, _anonymous() - held)


def _anonymous() -> float:
    return _kilobytes("RssAnon") / 1e3 if _STATUS.exists() else 0.0


def _give_back() -> None:
    """Return memory that was freed before but is still held by the allocator.

    A block that reused it would seem to need nothing.
    """
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)


def _reset() -> bool:
    """Set the high-water mark to the present size; False where the system does not offer that."""
    try:
        _give_back()
        _RESET.write_text("5")
    except OSError:
        return False
    return True
