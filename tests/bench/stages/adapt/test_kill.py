"""kill -9 while a method learns: nothing half-learned is left, and the end is the same."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.plan import resolve
from bench.stages import artifacts
from bench.sweeps import SWEEPS
from results.store import Store
from tests.helpers.crash import killed
from tests.helpers.toy_sweep import leftovers, measured, sweep_into

SWEEP = replace(
    SWEEPS["smoke"],
    methods=("adamerging", "adamerging_task", "average"),
    settings=("adamerging.steps=5", "adamerging_task.steps=3"),
)
MOMENTS = (  # (the file in flight or a step, which of its kind): what is learned then
    ("step,2", 0),  # in the middle of the first training
    ("*/learned.safetensors,1", 0),  # it has ended and is being written
    ("step,7", 1),  # the first has taken five steps; in the middle of the second
    ("*.parquet,1", 2),  # both have learned, the first cell is being written
)


SAMPLE = MOMENTS[1:3]


@pytest.fixture(scope="module", params=[SAMPLE, pytest.param(MOMENTS, marks=pytest.mark.slow)],
                ids=["sample", "all"])  # fmt: skip
def moments(request) -> tuple[tuple[str, int], ...]:
    return request.param


@pytest.fixture(scope="module")
def folder(moments, tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("killed")


@pytest.fixture(scope="module")
def sweeps(folder, moments) -> list[dict[str, Any]]:
    """The killed sweeps and the one that ended; then two that ran at once."""
    return killed(folder, SWEEP, [moment for moment, _ in moments])


def kept(sweep: dict[str, Any]) -> dict[str, Any]:
    """What was learned: path -> inode and time."""
    ours = {path: at for path, at in sweep["stamps"].items() if path.startswith("out/")}
    return {path: at for path, at in ours.items() if path.endswith("/learned.safetensors")}


def test_a_killed_training_leaves_nothing_and_a_finished_one_is_never_redone(sweeps, moments):
    codes = [sweep["code"] for sweep in sweeps]
    assert codes == [-9] * len(moments) + [0] + [0, 0]
    counts = [len(kept(sweep)) for sweep in sweeps[: len(moments)]]
    assert counts == [count for _, count in moments]
    for before, after in pairwise(sweeps[: len(moments) + 1]):
        assert kept(before).items() <= kept(after).items()
    assert all(sweep["damaged"] == [] for sweep in sweeps)


def test_the_end_is_that_of_an_undisturbed_sweep(sweeps, folder, smoke, tmp_path):
    sweep_into(tmp_path, SWEEP)
    expected = measured(tmp_path)
    for out in (folder / "out", folder / "out2"):
        pd.testing.assert_frame_equal(measured(out), expected, check_exact=True)
        for run in resolve(SWEEP).runs[:2]:
            (ours, facts), (theirs, undisturbed) = (
                artifacts.load(artifacts.path(Store(where), run.id)) for where in (out, tmp_path)
            )
            assert facts["tensors"] == undisturbed["tensors"]
            assert facts["curves"] == undisturbed["curves"]
            assert ours.keys() == theirs.keys()
    assert not leftovers(folder / "out2")
