"""Sweeps with one temperature for each method: what it is, what it writes, what it leaves alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from bench.plan import inspect, resolve
from bench.stages.build import bind
from bench.sweeps import SWEEPS
from corruptions.base import CLEAN
from mergeshift import UserError
from results.store import Store
from results.tables.comparison import compare
from tasks import load, suite
from tests.helpers.learning_methods import register
from tests.helpers.toy_sweep import measured, run_ids, stamps, sweep_into

CONTRAST = "contrast@5-cifar10-c-input-v1"
SWEEP = replace(
    SWEEPS["smoke"], name="scaled", methods=("average", "centroid_router", "individual"),
    tune=False, temperature=True,
)  # fmt: skip
NEW = {"nll_ts", "ece_ts", "aece_ts", "brier_ts", "temperature", "floor:ece_ts", "floor:aece_ts"}


@pytest.fixture(scope="module")
def made(smoke, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scaled")
    sweep_into(folder, SWEEP)
    return folder


def logits_of(folder: Path, method: str, split: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Logits and labels of clean images, task by task, as the built method gives them."""
    run = next(run for run in resolve(SWEEP).runs if run.method == method)
    built, _ = bind(run).method(run.config, CLEAN, Store(folder))
    found = []
    for task in suite("toy"):
        images = load(task, split).first(24 if split == "test" else None)
        x = torch.from_numpy(np.array(images.images).transpose(0, 3, 1, 2) / 255).float()
        with torch.inference_mode():
            logits = built.predict((x - 0.5) / 0.25, task.name).double().numpy()
        found.append((logits, images.labels))
    return found


def nll(logits: np.ndarray, labels: np.ndarray, t: float) -> float:
    return float(-log_softmax(logits / t, axis=1)[np.arange(len(labels)), labels].mean())


@pytest.mark.parametrize("method", ["average", "centroid_router"])
def test_the_temperature_is_the_best_on_clean_val(made, method):
    fact = Store(made).run(run_ids(SWEEP)[method])["temperature"][""]
    val = logits_of(made, method, "val")
    best = minimize_scalar(lambda log_t: sum(nll(*one, np.exp(log_t)) for one in val),
                           bounds=np.log([0.05, 20]), method="bounded",
                           options={"xatol": 1e-8})  # fmt: skip
    assert fact["value"] == pytest.approx(np.exp(best.x), rel=1e-3)
    assert fact["images"] == sum(len(labels) for _, labels in val)
    assert fact["tasks"] == [task.name for task in suite("toy")]
    rows = measured(made)["value"].xs(method, level="method").xs("clean", level="corruption")
    for task, (logits, labels) in zip(suite("toy"), logits_of(made, method, "test"), strict=True):
        cell = rows.xs(task.name, level="task").droplevel(["seed", "severity"])
        assert cell["temperature"] == fact["value"]
        assert cell["nll_ts"] == pytest.approx(nll(logits, labels, fact["value"]), rel=1e-4)
        p = np.exp(log_softmax(logits / fact["value"], axis=1))
        brier = ((p - np.eye(p.shape[1])[labels]) ** 2).sum(axis=1).mean()
        assert cell["brier_ts"] == pytest.approx(brier, rel=1e-4)
        order = np.argsort(p.max(1), kind="stable")
        gaps = np.array_split((p.argmax(1) == labels).astype(float)[order] - p.max(1)[order], 15)
        expected = sum(abs(gap.sum()) for gap in gaps) / len(labels)
        assert cell["aece_ts"] == pytest.approx(expected, abs=1e-4)


def test_it_changes_no_run_and_no_number_and_is_measured_where_it_is_missing(made, tmp_path):
    plain = replace(SWEEP, temperature=False)
    assert resolve(plain).runs == resolve(SWEEP).runs
    sweep_into(tmp_path, plain)
    rows = measured(made)
    old = ~rows.index.get_level_values("metric").isin(NEW)
    pd.testing.assert_frame_equal(measured(tmp_path), rows[old], check_exact=True)
    with pytest.raises(UserError, match="run `python -m bench sweep --temperature` first"):
        compare(Store(tmp_path).read(), "ece_ts")
    learned = stamps(tmp_path, "cells/*/learned*")
    assert learned
    plan = inspect(resolve(SWEEP), Store(tmp_path))
    assert (plan.num_todo, plan.to_learn, len(plan.to_calibrate)) == (6, [], 3)
    sweep_into(tmp_path, SWEEP)
    assert stamps(tmp_path, "cells/*/learned*") == learned
    pd.testing.assert_frame_equal(measured(tmp_path), rows, check_exact=True)
    plan = inspect(resolve(SWEEP), Store(tmp_path))
    assert (plan.num_todo, plan.to_calibrate) == (0, [])
    assert inspect(resolve(plain), Store(tmp_path)).num_todo == 0


def test_tables_have_the_scaled_metrics(made):
    rows = Store(made).read()
    table = compare(rows, "nll_ts")
    assert "after temperature scaling" in table.title
    raw = compare(rows, "nll")
    assert {entry.key for entry in table.entries} == {entry.key for entry in raw.entries}
    assert table.cells["average", "clean"].value != raw.cells["average", "clean"].value
    assert "floor" in compare(rows, "ece_ts").notes
    assert compare(rows, "temperature").leaders == {}


def test_a_method_that_learns_under_each_shift_has_several(smoke, tmp_path, monkeypatch):
    register(monkeypatch)
    sweep = replace(SWEEP, methods=("learner",), adapt_on="shifted", shifts=("clean", "contrast@5"))
    sweep_into(tmp_path, sweep)
    (run,) = resolve(sweep).runs
    facts = Store(tmp_path).run(run.id)["temperature"]
    assert set(facts) == {"clean", CONTRAST}
    values = measured(tmp_path)["value"].xs("temperature", level="metric").groupby("corruption")
    assert values.first().to_dict() == {
        "clean": facts["clean"]["value"], "contrast": facts[CONTRAST]["value"],
    }  # fmt: skip
