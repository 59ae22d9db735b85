"""kill -9 while a method searches: what was tried is never tried again, and the end is the same."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.config import Run
from bench.plan import resolve
from bench.stages import artifacts
from bench.sweeps import SWEEPS
from methods.common.study import elapsed_seconds
from results.store import Store
from tests.helpers.crash import killed
from tests.helpers.toy_sweep import measured, sweep_into

TRIALS = {"bmm_datafree": 9, "anchor_scales": 4}
SWEEP = replace(
    SWEEPS["smoke"],
    methods=(*TRIALS, "average"),
    settings=tuple(f"{method}.trials={count}" for method, count in TRIALS.items()),
)
MOMENTS = (  # (the pass or the file in flight, which of its kind): what is learned then
    ("step,4", 0),  # the experts' pass, then three trials
    ("step,9", 0),  # the experts' pass again, the trials of before are told, five are done
    ("*/learned.safetensors,1", 0),  # all trials are done, nothing is kept but the journal
    ("step,13", 1),  # the first tells of its 11 passes again; the second has made one trial
)


SAMPLE = MOMENTS[1], MOMENTS[3]


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


@pytest.fixture(scope="module")
def undisturbed(sweeps, tmp_path_factory, smoke) -> Path:
    out = tmp_path_factory.mktemp("undisturbed")
    sweep_into(out, SWEEP)
    return out


def runs() -> list[Run]:
    return [run for run in resolve(SWEEP).runs if run.method in TRIALS]


def facts_of(out: Path, run: Run) -> dict[str, Any]:
    return artifacts.load(artifacts.path(Store(out), run.id))[1]


def journal_of(out: Path, run: Run) -> Path:
    (found,) = (out / "cells" / run.id).glob("study-*.journal")
    return found


def test_the_sweeps_were_killed_where_they_should_be(sweeps, moments):
    codes = [sweep["code"] for sweep in sweeps]
    assert codes == [-9] * len(moments) + [0] + [0, 0]
    for sweep, (_, count) in zip(sweeps, moments, strict=False):
        kept = [path for path in sweep["stamps"] if path.endswith("/learned.safetensors")]
        assert len(kept) == count
    assert all(sweep["damaged"] == [] for sweep in sweeps)


def test_no_trial_is_made_twice(sweeps, folder):
    for out in (folder / "out", folder / "out2"):  # killed; and two sweeps that share a folder
        for run in runs():
            told = [json.loads(line) for line in journal_of(out, run).read_text().splitlines()]
            made = [one for one in told if one["op_code"] == 4]  # a trial begins
            assert len(made) == TRIALS[run.method]


def test_the_end_is_that_of_an_undisturbed_sweep(sweeps, folder, undisturbed):
    expected = measured(undisturbed)
    for out in (folder / "out", folder / "out2"):
        pd.testing.assert_frame_equal(measured(out), expected, check_exact=True)
        for run in runs():
            ours, theirs = facts_of(out, run), facts_of(undisturbed, run)
            assert ours["tensors"] == theirs["tensors"]
            for name in ("constants", "best", "anchor", "val", "budget", "space"):
                assert ours["report"][name] == theirs["report"][name], name
            for mine, other in zip(
                ours["report"]["trials"], theirs["report"]["trials"], strict=True
            ):
                assert mine["params"] == other["params"]
                assert mine["value"] == other["value"]


def test_time_spent_before_a_kill_counts(sweeps, folder):
    for run in runs():
        journal = journal_of(folder / "out", run)
        trials = facts_of(folder / "out", run)["report"]["trials"]
        assert elapsed_seconds(journal) == pytest.approx(sum(trial["seconds"] for trial in trials))
        assert facts_of(folder / "out", run)["seconds"] > elapsed_seconds(journal)
    assert elapsed_seconds(folder / "none") == 0


def test_force_searches_anew(undisturbed):
    def seconds(run: Run) -> list[float]:
        return [trial["seconds"] for trial in facts_of(undisturbed, run)["report"]["trials"]]

    before = [seconds(run) for run in runs()]
    sweep_into(undisturbed, SWEEP, force=True)
    for run, old in zip(runs(), before, strict=True):
        assert not set(seconds(run)) & set(old)
        told = [json.loads(line) for line in journal_of(undisturbed, run).read_text().splitlines()]
        assert sum(one["op_code"] == 4 for one in told) == TRIALS[run.method]
