"""A process for tests: run a toy sweep and kill it, again and again; then two sweeps at once.

Every sweep is a process in a group of its own. At the moment given, when a file is written but not
yet in its place, the whole group gets SIGKILL.
"""

import json
import os
import signal
import sys
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

import torch

from bench.cli.app import main
from bench.stages import adapt
from results.store import Store
from tests.helpers.toy_sweep import stamps

SWEEP = ("sweep", "smoke", "--jobs", "1", "--wandb", "off")
REPORTS, ERRORS = "reports.jsonl", "errors.txt"  # files in the folder


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
    with (folder / REPORTS).open("a") as file:
        file.write(json.dumps(facts) + "\n")


def run(
    folder: Path, words: list[str], moments: Sequence[str], environment: dict[str, str]
) -> None:
    """All of it; a line of JSON per sweep goes to one file of the folder, errors to another.

    Args:
        folder: where all of it happens.
        words: options of the sweep.
        moments: ``PATTERN,COUNT`` per sweep to kill: at the COUNT-th file whose path fits PATTERN,
            or at the COUNT-th step of a training if that is ``step``.
        environment: variables of the system.
    """
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    torch.set_num_threads(1)
    with (folder / ERRORS).open("w") as file:
        os.dup2(file.fileno(), sys.stderr.fileno())
    for moment in (*moments, ""):
        code = end(start(folder / "home", folder / "out", words, moment))
        report(code, folder, folder / "out")
    both = [start(folder / "home2", folder / "out2", words) for _ in range(2)]
    for code in [end(child) for child in both]:  # neither writes any more
        report(code, folder, folder / "out2")
