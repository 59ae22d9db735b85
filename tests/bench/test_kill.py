"""kill -9 at any moment: nothing that was finished is done again, and the end is the same."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.sweeps import SWEEPS
from tests.helpers.crash import killed
from tests.helpers.toy_sweep import measured

METHODS = ("average", "individual", "task_arithmetic")
MOMENTS = (  # (the file in flight, which of its kind, cells that are finished then)
    ("*/images.npy", 1, 0),  # the first task is built, and has no labels yet
    ("*/labels.npy", 2, 0),  # so is the second, and has pictures
    ("*/experts/*.safetensors", 2, 0),  # the second expert is trained
    ("*/experts/*.json", 1, 0),  # its manifest: the weights are there, but it is not made yet
    ("*/images/*.npy", 2, 0),  # the second task is corrupted
    ("*/run.json", 1, 0),  # a method is tuned
    ("*.parquet", 2, 1),  # one of three methods is measured under the first shift
    ("*.parquet", 3, 3),  # the first of three under the second
)
SAMPLE = MOMENTS[1], MOMENTS[3], ("*.parquet", 3, 2)
CELLS = 6  # at the end


@pytest.fixture(scope="module", params=[SAMPLE, pytest.param(MOMENTS, marks=pytest.mark.slow)],
                ids=["sample", "all"])  # fmt: skip
def moments(request) -> tuple[tuple[str, int, int], ...]:
    return request.param


@pytest.fixture(scope="module")
def folder(moments, tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("killed")


@pytest.fixture(scope="module")
def sweeps(folder, moments) -> list[dict[str, Any]]:
    """The killed sweeps and the one that ended; then two that ran at once."""
    words = [f"{pattern},{count}" for pattern, count, _ in moments]
    return killed(folder, replace(SWEEPS["smoke"], methods=METHODS), words)


def test_every_kill_came_at_its_moment(sweeps, moments):
    codes = [sweep["code"] for sweep in sweeps]
    assert codes == [-9] * len(moments) + [0] + [0, 0]
    cells = [
        sum(path.startswith("out/") and path.endswith(".parquet") for path in sweep["stamps"])
        for sweep in sweeps[: len(moments) + 1]
    ]
    assert cells == [finished for *_, finished in moments] + [CELLS]


def made(sweep: dict[str, Any]) -> dict[str, Any]:
    """What counts as made: path -> inode and time; tasks have labels, experts have a manifest.

    Of a corrupted image the inode alone: the time of its file says when it was last used.
    """
    stamps = {path: at for path, at in sweep["stamps"].items() if "/." not in path}
    experts = [path for path in stamps if "/experts/" in path and path.endswith(".json")]
    weights = [path.replace(".json", ".safetensors") for path in experts]
    whole = [path for path in stamps if path.endswith(("labels.npy", ".parquet"))]
    images = {path: at[0] for path, at in stamps.items() if "/images/" in path}
    return {path: stamps[path] for path in (*experts, *weights, *whole)} | images


def test_what_was_finished_is_never_written_again(sweeps, moments):
    attempts = [made(sweep) for sweep in sweeps[: len(moments) + 1]]
    for before, after in pairwise(attempts):
        assert {path: after.get(path) for path in before} == before
    numbers = [len(attempt) for attempt in attempts]
    assert numbers == sorted(numbers)
    assert numbers[moments.index(MOMENTS[1])] == 1  # task
    assert numbers[-1] == 3 + 2 * 3 + 3 + CELLS  # tasks, experts with manifests, images, cells


def test_no_kill_leaves_a_damaged_result(sweeps):
    assert all(sweep["damaged"] == [] for sweep in sweeps)


def of_this_sweep(out: Path) -> pd.DataFrame:
    return measured(out).loc[list(METHODS)]


def test_the_end_is_that_of_an_undisturbed_sweep(sweeps, folder, smoke, command):
    expected = of_this_sweep(smoke)
    pd.testing.assert_frame_equal(of_this_sweep(folder / "out"), expected, check_exact=True)
    tables = [
        command("table", "--format", "csv", "--methods", *METHODS, "--out", out)
        for out in (smoke, folder / "out")
    ]
    assert tables[0] == tables[1]
    assert tables[0].code == 0


def test_two_sweeps_may_share_their_folders(sweeps, folder, smoke):
    expected = of_this_sweep(smoke)
    pd.testing.assert_frame_equal(of_this_sweep(folder / "out2"), expected, check_exact=True)
