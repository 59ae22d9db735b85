"""A program for tests: run a toy sweep and kill it, again and again; then two sweeps at once.

Every sweep is a process in a group of its own. At the moment given, when a file is written but not
yet in its place, the whole group gets SIGKILL. Arguments: folder, options of the sweep in one, then
one ``PATTERN,COUNT`` per sweep to kill: at the COUNT-th file whose path fits PATTERN, or at the
COUNT-th step of a training if that is ``step``. Prints one line of JSON per sweep.
"""

import json
import os
import signal
import sys
from fnmatch import fnmatch
from pathlib import Path

from bench.cli.app import main
from bench.stages import adapt
from results.store import Store
from tests.helpers.toy_sweep import stamps

SWEEP = ("sweep", "smoke", "--jobs", "1", "--wandb", "off")


def die_at(pattern: str, count: int) -> None:
    """Kill this process and its group at the ``count``-th file that fits, or step."""
    move, seen = Path.replace, []

    def saw(what: str) -> None:
        if fnmatch(what, pattern):
            seen.append(what)
            if len(seen) == count:
                os.killpg(0, signal.SIGKILL)

    def replace(path: Path, target: Path) -> Path:
        saw(str(target))
        return move(path, target)

    Path.replace = replace  # type: ignore[method-assign]
    adapt.report_progress = lambda steps=1: saw("step")  # type: ignore[assignment]


def start(home: Path, out: Path, words: list[str], moment: str = "") -> int:
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
    os._exit(main([*SWEEP, *words, "--out", str(out)]))


def end(child: int) -> int:
    """Its exit code, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def report(code: int, folder: Path, out: Path) -> None:
    damaged = [path.name for path in Store(out).damaged()]
    facts = {"code": code, "stamps": stamps(folder, "*/**/*.*"), "damaged": damaged}
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()  # before the next fork


if __name__ == "__main__":
    folder, words = Path(sys.argv[1]), sys.argv[2].split()
    for moment in (*sys.argv[3:], ""):
        code = end(start(folder / "home", folder / "out", words, moment))
        report(code, folder, folder / "out")
    both = [start(folder / "home2", folder / "out2", words) for _ in range(2)]
    for code in [end(child) for child in both]:  # neither writes any more
        report(code, folder, folder / "out2")
