"""A program for tests: run a toy sweep and kill it, again and again; then two sweeps at once.

Every sweep is a process in a group of its own. At the moment given, when a file is written but not
yet in its place, the whole group gets SIGKILL. Arguments: folder, then one ``PATTERN,COUNT`` per
sweep to kill: at the COUNT-th file whose path fits PATTERN. Prints one line of JSON per sweep.
"""

import json
import os
import signal
import sys
from fnmatch import fnmatch
from pathlib import Path

from bench.cli import main
from results.store import Store
from tests.toy import stamps

SWEEP = ("sweep", "smoke", "--methods", "average", "individual", "task_arithmetic",
         "--jobs", "1", "--wandb", "off")  # fmt: skip


def die_at(pattern: str, count: int) -> None:
    """Kill this process and its group at the ``count``-th file that fits ``pattern``."""
    move, seen = Path.replace, []

    def replace(path: Path, target: Path) -> Path:
        if fnmatch(str(target), pattern):
            seen.append(target)
            if len(seen) == count:
                os.killpg(0, signal.SIGKILL)
        return move(path, target)

    Path.replace = replace  # type: ignore[method-assign]


def start(home: Path, out: Path, moment: str = "") -> int:
    """Begin a sweep; the id of its process."""
    if child := os.fork():
        return child
    os.setsid()
    os.environ["MERGESHIFT_HOME"] = str(home)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    if moment:
        pattern, count = moment.split(",")
        die_at(pattern, int(count))
    os._exit(main([*SWEEP, "--out", str(out)]))


def end(child: int) -> int:
    """Its exit code, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def report(code: int, folder: Path, out: Path) -> None:
    damaged = [path.name for path in Store(out).damaged()]
    facts = {"code": code, "stamps": stamps(folder, "*/**/*.*"), "damaged": damaged}
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()  # before the next fork


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for moment in (*sys.argv[2:], ""):
        code = end(start(folder / "home", folder / "out", moment))
        report(code, folder, folder / "out")
    both = [start(folder / "home2", folder / "out2") for _ in range(2)]
    for child in both:
        report(end(child), folder, folder / "out2")
