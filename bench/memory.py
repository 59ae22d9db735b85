"""Peak memory of a block of work."""

import ctypes
import sys
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
    """Measure a block's resident set: merging is done on the CPU, also where a GPU evaluates.

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


def _reset() -> bool:
    """Set the high-water mark to the present size; False where the system does not offer that.

    Memory that was freed before but is still held by the allocator is given back first: a block
    that reused it would seem to need nothing.
    """
    try:
        if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
            trim(0)
        _RESET.write_text("5")
    except OSError:
        return False
    return True
