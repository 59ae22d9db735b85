"""Sweeps that keep how sure methods are: what they write, and what they leave as it is."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from bench import sweep
from bench.plan import inspect, resolve
from bench.reporting.wandb import protocol
from bench.stages import artifacts
from bench.stages.build import bind
from bench.sweeps import SWEEPS
from mergeshift import DamagedFileError, UserError
from methods import METHODS
from results.schema import AUROC, unpack
from results.store import Store
from tasks import load, suite
from tests.helpers.learning_methods import Learner, register
from tests.helpers.toy_sweep import measured, stamps, sweep_into

CONTRAST = "contrast@5-cifar10-c-input-v1"
SWEEP = replace(
    SWEEPS["smoke"], name="doubts", methods=("average", "bd_merging", "individual"), tune=False,
    settings=("bd_merging.steps=2", "bd_merging.head_steps=3", "bd_merging.batch=4"),
    uncertainty=True,
)  # fmt: skip


@pytest.fixture(scope="module")
def made(smoke, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("doubts")
    sweep_into(folder, SWEEP)
    return folder


@pytest.fixture
def out(made, tmp_path) -> Path:
    """A finished sweep of one's own."""
    return Path(shutil.copytree(made, tmp_path / "out"))


def run_of(method: str):
    return next(run for run in resolve(SWEEP).runs if run.method == method)


def without_areas(folder: Path) -> pd.DataFrame:
    rows = measured(folder)
    return rows[~rows.index.get_level_values("metric").str.startswith(AUROC)]


def test_it_changes_no_run_and_no_number(made, tmp_path):
    plain = replace(SWEEP, uncertainty=False)
    assert resolve(plain).runs == resolve(SWEEP).runs
    sweep_into(tmp_path, plain)
    assert not list(tmp_path.glob("cells/*/images"))
    pd.testing.assert_frame_equal(measured(tmp_path), without_areas(made), check_exact=True)


def test_files_about_images_are_no_cells(made):
    store = Store(made)
    assert store.run_ids() == sorted(run.id for run in resolve(SWEEP).runs)
    assert store.shift_keys(run_of("average").id) == ["clean", CONTRAST]
    assert len(list(made.glob("cells/*/images/*.parquet"))) == 3 * 2


def test_every_image_has_a_line_that_agrees_with_the_cell(made):
    store = Store(made)
    images = store.read_images(store.run_ids(), ["clean", CONTRAST])
    assert len(images) == 3 * 2 * 3 * 24
    rows = measured(made).reset_index()
    of_method = {run.method: run.id for run in resolve(SWEEP).runs}
    for row in rows[rows["metric"] == "acc"].itertuples():
        cell = images[(images["run_id"] == of_method[row.method]) & (images["task"] == row.task)
                      & (images["severity"] == row.severity)]  # fmt: skip
        np.testing.assert_array_equal(cell["right"], unpack(row.hits, 24))
        np.testing.assert_array_equal(cell["image"], np.arange(24))
        areas = rows[rows["metric"].str.startswith(AUROC)]
        for name in ("method", "task", "severity"):
            areas = areas[areas[name] == getattr(row, name)]
        wrong = ~cell["right"]
        both = bool(wrong.any() and (~wrong).any())
        own = row.method == "bd_merging"
        names = ("max_prob", "entropy", *(("u", "ads") if own else ())) if both else ()
        assert set(areas["metric"]) == {f"{AUROC}{name}" for name in names}
        if both:
            area = areas.set_index("metric").loc[f"{AUROC}entropy", "value"]
            assert area == pytest.approx(roc_auc_score(wrong, cell["entropy"]), abs=1e-6)
        assert cell[["u", "ads"]].notna().all(axis=None) == own


def test_doubts_of_a_method_are_its_own(made):
    run = run_of("bd_merging")
    method, _ = bind(run).build(run.config, artifacts.path(Store(made), run.id))
    task = suite("toy")[0]
    pixels = np.array(load(task, "test").first(24).images).transpose(0, 3, 1, 2) / 255
    x = torch.from_numpy((pixels - 0.5) / 0.25).float()
    images = Store(made).read_images([run.id], ["clean"])
    mine = images[images["task"] == task.name]
    np.testing.assert_allclose(mine["u"], method.uncertainty(x), atol=1e-5)
    np.testing.assert_allclose(mine["ads"], method.discrepancy(x), atol=1e-4)


def test_a_sweep_that_was_run_without_is_measured_again_and_learns_nothing_again(tmp_path):
    sweep_into(tmp_path, replace(SWEEP, uncertainty=False))
    before = stamps(tmp_path, "cells/*/learned*")
    assert before
    plan = inspect(resolve(SWEEP), Store(tmp_path))
    assert (plan.num_todo, plan.to_learn) == (6, [])
    sweep_into(tmp_path, SWEEP)
    assert stamps(tmp_path, "cells/*/learned*") == before
    assert inspect(resolve(SWEEP), Store(tmp_path)).num_todo == 0
    assert inspect(resolve(replace(SWEEP, uncertainty=False)), Store(tmp_path)).num_todo == 0


def test_only_what_is_missing_is_measured(out, monkeypatch):
    seen = []
    evaluate = sweep.evaluate_runs

    def watched(runs, shift, *rest):
        seen.extend((run.method, str(shift)) for run, _ in runs)
        evaluate(runs, shift, *rest)

    monkeypatch.setattr(sweep, "evaluate_runs", watched)
    Store(out).images_path(run_of("average").id, "clean").unlink()
    sweep_into(out, SWEEP)
    assert seen == [("average", "clean")]
    sweep_into(out, SWEEP)
    assert len(seen) == 1


def test_lines_about_images_go_with_the_cell_they_were_measured_with(out):
    store, run = Store(out), run_of("average")
    store.path(run.id, "clean").unlink()
    sweep_into(out, replace(SWEEP, uncertainty=False))
    assert not store.images_path(run.id, "clean").exists()
    assert store.images_path(run.id, CONTRAST).exists()


def test_damage_is_named_and_mended_by_force(out):
    store, run = Store(out), run_of("average")
    path = store.images_path(run.id, "clean")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DamagedFileError, match=r"images/clean.parquet is damaged"):
        sweep_into(out, SWEEP)
    with pytest.raises(DamagedFileError, match="is damaged"):
        store.read_images([run.id], ["clean"])
    sweep_into(out, replace(SWEEP, uncertainty=False))  # it does not need them
    sweep_into(out, SWEEP, force=True)
    assert len(store.read_images([run.id], ["clean"])) == 3 * 24


def test_the_table(made, smoke, command):
    for form in ("text", "md", "csv", "latex"):
        shown = command("table", "--by", "uncertainty", "--format", form, "--out", made)
        assert shown.code == 0
        assert "BD-Merging (reimpl.)" in shown.out
    shown = command("table", "--by", "uncertainty", "--methods", "bd_merging", "--out", made)
    assert "(ADS)" in shown.out
    assert "Average" not in shown.out
    error = command("table", "--by", "uncertainty", "--out", smoke).error
    assert "run the sweep with --uncertainty" in error
    error = command("table", "--by", "uncertainty", "--metric", "nll", "--out", made).error
    assert "leave out --metric nll" in error
    with pytest.raises(UserError, match="nothing is kept of single images for 1 of 1 cells"):
        Store(smoke).read_images(["nobody"], ["clean"])


def test_the_command_line(made, command):
    words = ("sweep", "smoke", "--dry-run", "--out", made)
    assert "sweep smoke-uncertainty:" in " ".join(command(*words, "--uncertainty").out.split())


# -- what a method says of its learning ----------------------------------------------------------


class Failing(Learner):
    """theta = theta_0 + coef * sum_t tau_t, and it tells that this went wrong."""

    name = "learner"

    def on_fit_end(self) -> None:
        super().on_fit_end()
        self.report = {"median_u": 0.5, "problems": ["nothing moved [at all]"]}


def test_a_report_is_kept_and_a_failed_learning_is_told(tmp_path, monkeypatch, smoke, command):
    register(monkeypatch)
    monkeypatch.setitem(METHODS._items, "learner", Failing)
    words = ("--methods", "average,learner", "--shifts", "clean", "--jobs", 1, "--wandb", "off")
    shown = command("sweep", "smoke", *words, "--out", tmp_path)
    said = " ".join(shown.out.split())
    assert "learning went wrong: learner (toy-learner-" in said
    assert "nothing moved [at all]" in said
    record = json.loads(next((tmp_path / "sweeps").glob("*.json")).read_text())
    (run,) = [run for run, name in record["runs"].items() if name == "learner"]
    facts = artifacts.metadata(artifacts.path(Store(tmp_path), run))
    assert facts["report"] == {"median_u": 0.5, "problems": ["nothing moved [at all]"]}
    assert protocol([facts])["report"] == facts["report"]
    assert artifacts.diagnostics(Store(tmp_path), sorted(record["runs"])) == {
        run: ["nothing moved [at all]"]
    }


def test_reports_under_several_shifts_are_told_apart():
    lesson = {"adapt_on": "shifted", "steps": 5, "seconds": 2.0, "peak_mb": 7.0}
    lessons = [lesson | {"shift": key, "report": {"u": u}}
               for key, u in (("clean", 0.1), (CONTRAST, 0.2))]  # fmt: skip
    assert protocol(lessons)["report"] == {"clean": {"u": 0.1}, "contrast@5": {"u": 0.2}}
