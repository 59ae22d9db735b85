"""Helpers for tests that run commands and sweeps on the toy suite."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich.console import Console

from bench.config import Sweep
from bench.plan import resolve
from bench.stages import build
from bench.sweep import run_sweep
from results.store import Store
from tasks import task

KEYS = ["method", "seed", "task", "corruption", "severity", "metric"]


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The message of a user's mistake: exit code 2 and one line on stderr, nothing else."""
        assert self.code == 2, self
        assert self.err.startswith("error: "), self
        assert self.err.count("\n") == 1, self
        assert self.err.endswith("\n"), self
        return self.err.removeprefix("error: ").rstrip("\n")


def sweep_into(out: Path, sweep: Sweep, *, jobs: int = 1, force: bool = False) -> None:
    """Run a sweep in this process and print nothing."""
    run_sweep(sweep, out, jobs=jobs, force=force, dry_run=False, console=Console(quiet=True))


def run_ids(sweep: Sweep) -> dict[str, str]:
    """Method -> id of its run, for one seed."""
    return {run.method: run.id for run in resolve(sweep).runs}


def measured(out: Path) -> pd.DataFrame:
    """What was measured, without times: the values and the answers to single images, by cell."""
    rows = Store(out).read()
    return rows[rows["metric"] != "eval_s"].set_index(KEYS).sort_index()[["value", "hits", "n"]]


def stamps(folder: Path, pattern: str = "**/*.parquet") -> dict[str, tuple[int, int]]:
    """Path -> (inode, time of the last change): equal only if a file was not written again."""
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in sorted(folder.glob(pattern))
    }


def everything(folder: Path) -> dict[str, bytes]:
    """Path -> content of every file."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def forget() -> None:
    """Let this process forget what it has loaded and built, as a new one would."""
    for cached in (
        build._bind, build._checkpoints, build._built, build._restored, build._floor, task.load,
    ):  # fmt: skip
        cached.cache_clear()


def leftovers(folder: Path) -> list[Path]:
    """Temporary files of writes that did not end."""
    return [path for path in folder.rglob(".*") if path.is_file() or path.is_symlink()]
