"""What every test gets: one thread, a data folder of its own, no W&B service; and helpers.

The process that hands out tests to workers reads this page, too, and runs none of them: what is
slow to import is imported where it is needed.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

# Before NumPy and torch are imported, here and in processes below: threads of a product of matrices
# wait for each other, and next to another worker on the same cores they wait long.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import pytest

import mergeshift as files
from tests.helpers.chromium import chromium, reader  # noqa: F401
from tests.helpers.fake_hub_run import go_offline, hub_home, local_hub  # noqa: F401

if TYPE_CHECKING:
    import pandas as pd

    from bench.config import Run
    from corruptions.base import Shift
    from results.store import Store
    from tests.helpers.toy_sweep import Outcome

USERS_HOME = os.environ.get("MERGESHIFT_HOME")
TESTS_HOME = pytest.StashKey[tempfile.TemporaryDirectory]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TESTS_HOME] = tempfile.TemporaryDirectory(prefix="mergeshift-tests-")


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[TESTS_HOME].cleanup()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before any fixture: tests marked ``data`` read the user's data folder, others a new one."""
    home = USERS_HOME if item.get_closest_marker("data") else item.config.stash[TESTS_HOME].name
    if home is None:
        os.environ.pop("MERGESHIFT_HOME", None)
    else:
        os.environ["MERGESHIFT_HOME"] = home


@pytest.fixture(autouse=True)
def deterministic(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread, so that numbers agree and cores stay free; W&B not logged in."""
    import torch

    torch.set_num_threads(1)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)


@pytest.fixture
def command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Outcome]:
    """Run ``python -m bench ...`` in this process, on a terminal of 120 columns."""
    from bench.cli.app import main
    from tests.helpers.toy_sweep import Outcome

    monkeypatch.setenv("COLUMNS", "120")

    def run(*words: object) -> Outcome:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture
def add(command: Callable[..., Outcome], out: Path, tmp_path: Path) -> Callable[..., Outcome]:
    """Put predictions into the tables of the results in ``out``, a fixture of the test's own."""

    def run(frame: pd.DataFrame, *words: object) -> Outcome:
        path = tmp_path / "predictions.parquet"
        frame.to_parquet(path)
        return command("results", "add", path, "--out", out, *words)

    return run


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of the sweep ``smoke``, undisturbed. Read-only: copy them to change them."""
    from bench.sweeps import SWEEPS
    from tests.helpers.toy_sweep import sweep_into

    out = tmp_path_factory.mktemp("smoke")
    sweep_into(out, SWEEPS["smoke"])
    return out


@pytest.fixture
def fill(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Call it with patterns of paths: the disk that they are written to is full from then on.

    Such a file is written to /dev/full, which refuses every byte as a full disk does, so that the
    errors are those that the libraries raise; safetensors, which would put a new file in its
    place, raises what it does on a disk that is full. No pattern: there is space again.
    """
    from safetensors import SafetensorError

    from methods.common import weights

    full: list[str] = []
    make, save = tempfile.mkstemp, weights.save_file

    def mkstemp(prefix: str, dir: Path) -> tuple[int, str]:
        handle, name = make(prefix=prefix, dir=dir)
        target = str(Path(dir) / prefix.strip("."))
        if any(fnmatch(target, pattern) for pattern in full):
            Path(name).unlink()
            Path(name).symlink_to("/dev/full")
        return handle, name

    def fill(*patterns: str) -> None:
        full[:] = patterns

    def save_file(tensors: dict, path: Path, metadata: dict) -> None:
        if Path(path).is_symlink():
            raise SafetensorError("I/O error: No space left on device (os error 28)")
        save(tensors, path, metadata)

    monkeypatch.setattr(files.tempfile, "mkstemp", mkstemp)
    monkeypatch.setattr(weights, "save_file", save_file)
    return fill


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The trainings that sweeps do: (method, shift)."""
    from bench import sweep
    from bench.stages.adapt import adapt_run

    seen: list[tuple[str, str]] = []

    def watched(run: Run, config: str, shift: Shift | None, store: Store) -> None:
        seen.append((run.method, str(shift or "")))
        adapt_run(run, config, shift, store)

    monkeypatch.setattr(sweep, "adapt_run", watched)
    return seen
