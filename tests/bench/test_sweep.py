"""What a sweep does again and what it never does again; the same numbers however it is run."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from bench import sweep as sweeping
from bench.plan import resolve
from bench.reporting.sweep_index import load_sweep, rows_of
from bench.stages import evaluate
from bench.stages.build import bind
from bench.sweeps import SWEEPS
from bench.zoo.experts import experts_of
from corruptions.base import Shift
from methods import METHODS
from methods.common.weights import Weights
from results.schema import unpack
from results.store import Store
from results.tables.grid import arrange
from tasks import suite
from tests.helpers.toy_sweep import forget, leftovers, measured, run_ids, stamps, sweep_into

SMOKE = SWEEPS["smoke"]
CONTRAST = Shift("contrast", 5)
TASKS = ("toy_two", "toy_three", "toy_four")


@pytest.fixture
def out(smoke, tmp_path) -> Path:
    """A finished sweep of one's own."""
    return Path(shutil.copytree(smoke, tmp_path / "out"))


@pytest.fixture
def calls(monkeypatch) -> list[tuple[str, str]]:
    """The (method, shift) cells that are measured, and the validation passes as (method, val)."""
    seen: list[tuple[str, str]] = []
    measure, validate = sweeping.evaluate_runs, evaluate.validate_run

    def watched(runs, shift, *rest) -> None:
        seen.extend((run.method, str(shift)) for run, _ in runs)
        measure(runs, shift, *rest)

    def tried(run, config) -> dict[str, float]:
        seen.append((run.method, "val"))
        return validate(run, config)

    monkeypatch.setattr(sweeping, "evaluate_runs", watched)
    monkeypatch.setattr("bench.stages.tune.validate_run", tried)
    return seen


def flat_experts(seed: int) -> list[torch.Tensor]:
    """All weights of each expert, as they lie on disk."""
    return [Weights.open(e.path).flat() for e in experts_of("toy-vit", suite("toy"), seed)]


# -- what is done again --------------------------------------------------------------------------


def test_without_tuning_the_declared_defaults_are_measured(tmp_path, calls, smoke):
    sweep = replace(SMOKE, tune=False, shifts=("clean",), methods=("ties", "average"))
    sweep_into(tmp_path, sweep)
    assert calls == [("ties", "clean"), ("average", "clean")]
    rows = Store(tmp_path).read([run_ids(sweep)["ties"]])
    assert [json.loads(text) for text in set(rows["config"])] == [
        METHODS["ties"].Config().as_dict()
    ]
    assert not rows["tuned"].any()
    assert "tuning" not in Store(tmp_path).run(run_ids(sweep)["ties"])


def test_a_finished_sweep_is_not_run_again(out, calls):
    before = stamps(out)
    assert len(before) == 2 * len(SMOKE.methods)
    sweep_into(out, SMOKE)
    assert calls == []
    assert stamps(out) == before


def test_only_a_missing_cell_is_measured(out, calls):
    lost = Store(out).path(run_ids(SMOKE)["ties"], CONTRAST.key)
    lost.unlink()
    before = stamps(out)
    sweep_into(out, SMOKE)
    assert calls == [("ties", "contrast@5")]  # and no validation pass: the choice is known
    after = stamps(out)
    assert {path: after[path] for path in before} == before
    assert set(after) - set(before) == {lost.relative_to(out).as_posix()}


def test_a_new_shift_reruns_nothing(out, calls):
    before = stamps(out)
    sweep_into(out, replace(SMOKE, shifts=(*SMOKE.shifts, "contrast@1")))
    assert sorted(calls) == sorted((method, "contrast@1") for method in SMOKE.methods)
    after = stamps(out)
    assert {path: after[path] for path in before} == before


def test_a_changed_setting_is_a_run_of_its_own(out, calls):
    before = stamps(out)
    changed = replace(SMOKE, settings=("ties.keep=0.5", "ties.merge=mean", "ties.scale=0.7"))
    sweep_into(out, changed)
    assert calls == [("ties", "clean"), ("ties", "contrast@5")]  # all is set: nothing to tune
    after = stamps(out)
    assert {path: after[path] for path in before} == before
    new = Store(out).read([run_ids(changed)["ties"]])
    assert json.loads(new["config"].iloc[0])["scale"] == 0.7


def test_force_measures_everything_again_and_finds_the_same(out, smoke, calls):
    before = stamps(out)
    sweep_into(out, SMOKE, force=True)
    passes = sum(len(bind(run).candidates) for run in resolve(SMOKE).runs if run.tuned)
    assert len([call for call in calls if call[1] == "val"]) == passes
    cells = [call for call in calls if call[1] != "val"]
    assert sorted(cells) == sorted((m, s) for m in SMOKE.methods for s in ("clean", "contrast@5"))
    after = stamps(out)
    assert after.keys() == before.keys()
    assert all(after[path] != before[path] for path in before)
    pd.testing.assert_frame_equal(measured(out), measured(smoke), check_exact=True)


def test_other_constants_lie_beside_the_first(out, smoke, calls, command):
    """The second sweep's table shows its own cells, and so does the first one's afterwards."""
    sweep = replace(SMOKE, methods=("average", "individual"), constants="imagenet-c")
    sweep_into(out, sweep)
    assert calls == [("average", "contrast@5"), ("individual", "contrast@5")]  # clean is shared
    assert "imagenet-c" in command("table", "--notes", "--out", out).out
    sweep_into(out, SMOKE)
    shown = command("table", "--out", out).out
    assert "imagenet-c" not in shown
    assert shown == command("table", "--out", smoke).out


# -- the same numbers, however it is run ---------------------------------------------------------


# In one process `smoke` is made already, and the test of --force measures all of it again.
@pytest.mark.parametrize("jobs", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_sweep_from_nothing_gives_the_same_numbers(jobs, smoke, tmp_path, monkeypatch):
    """Data, experts, images, choices and answers, bit by bit, in one process or in several."""
    first = flat_experts(0)
    with monkeypatch.context() as patch:
        patch.setenv("MERGESHIFT_HOME", str(tmp_path / "home"))
        forget()
        sweep_into(tmp_path / "out", SMOKE, jobs=jobs)
        second = flat_experts(0)
    forget()
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    pd.testing.assert_frame_equal(measured(tmp_path / "out"), measured(smoke), check_exact=True)
    assert Store(tmp_path / "out").run_ids() == sorted(run_ids(SMOKE).values())
    assert not leftovers(tmp_path)


def test_numbers_do_not_depend_on_who_else_is_measured(smoke, tmp_path):
    sweep_into(tmp_path, replace(SMOKE, methods=("individual", "average"), shifts=("contrast@5",)))
    alone, among = measured(tmp_path), measured(smoke)
    pd.testing.assert_frame_equal(alone, among.loc[alone.index], check_exact=True)


def test_a_limit_takes_the_first_images_of_the_same_test(smoke, tmp_path):
    sweep_into(tmp_path, replace(SMOKE, methods=("average",), limit=None))
    whole, part = (
        measured(folder)["hits"].xs(("average", "acc"), level=("method", "metric"))
        for folder in (tmp_path, smoke)
    )
    for cell in part.index:
        np.testing.assert_array_equal(unpack(whole[cell], 48)[:24], unpack(part[cell], 24))


def test_the_seed_of_a_method_without_chance_changes_nothing(tmp_path):
    for seed in (0, 1):
        sweep_into(tmp_path, replace(SMOKE, methods=("average",), seeds=(seed,)))
    values = measured(tmp_path)["value"].unstack("seed")
    np.testing.assert_array_equal(values[0], values[1])


def test_another_set_of_experts(tmp_path):
    other = replace(SMOKE, methods=("individual",), expert_seeds=(1,), shifts=("clean",))
    sweep_into(tmp_path / "other", other)
    assert not any(map(torch.equal, flat_experts(0), flat_experts(1)))


def test_several_sets_of_experts_are_the_runs_of_each(smoke, tmp_path, calls):
    """What one set has measured is not measured again; the pretrained model is of no set."""
    lines = ("pretrained", "average", "ties", "individual")
    one = replace(SMOKE, methods=lines, shifts=("clean",))
    both = replace(one, name="both", expert_seeds=(0, 1))
    ids = [{run.id for run in resolve(replace(one, expert_seeds=(s,))).runs} for s in (0, 1)]
    runs = resolve(both).runs
    assert [(run.method, run.expert_seed) for run in runs] == [
        ("pretrained", 0), *((line, seed) for line in lines[1:] for seed in (0, 1))
    ]  # fmt: skip
    assert {run.id for run in runs} < ids[0] | ids[1]
    out = Path(shutil.copytree(smoke, tmp_path / "out"))
    sweep_into(out, both)
    assert sorted(set(calls)) == [
        ("average", "clean"), ("individual", "clean"), ("ties", "clean"), ("ties", "val")
    ]  # fmt: skip
    record = load_sweep(out, "both")
    assert record["sweep"]["expert_seeds"] == [0, 1]
    rows = rows_of(out, record)
    grid = arrange(rows[rows["metric"] == "acc"])
    assert grid.seeds == ((0, 0), (0, 1))
    values = {entry.key: grid.values[e] for e, entry in enumerate(grid.entries)}  # [T, S, R]
    assert (values["pretrained"][..., 0] == values["pretrained"][..., 1]).all()
    assert (values["individual"][..., 0] != values["individual"][..., 1]).any()
