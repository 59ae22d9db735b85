"""The numbers of a sweep agree with an evaluation by hand; the choice of constants is the best."""

import json
from dataclasses import replace
from itertools import combinations
from math import prod

import numpy as np
import pandas as pd
import pytest
import torch

from bench.plan import resolve
from bench.stages.build import bind
from bench.stages.evaluate import validate_run
from bench.sweeps import SWEEPS
from bench.zoo.encoders import ENCODERS
from bench.zoo.experts import checkpoints, experts_of
from corruptions.base import CLEAN, Shift
from methods import METHODS
from methods.common.vit import encode_plain
from results.schema import unpack
from results.store import Store
from tasks import load, suite
from tests.helpers.toy_sweep import measured, run_ids

SMOKE = SWEEPS["smoke"]
TASKS = ("toy_two", "toy_three", "toy_four")


def ece(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Guo et al. 2017, eq. 3: mean over bins of |accuracy - confidence|, weighted by images."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs(right[which == b].sum() - confidence[which == b].sum()) for b in np.unique(which)]
    return sum(gaps) / len(labels)


@pytest.mark.parametrize("shift", [CLEAN, Shift("contrast", 5)])
@pytest.mark.parametrize("task", suite("toy"), ids=lambda task: task.name)
def test_numbers_agree_with_an_evaluation_by_hand(smoke, task, shift):
    test, encoder = load(task, "test").first(24), ENCODERS["toy-vit"]
    pixels = np.stack(
        [shift.apply(np.array(x), 0, task.name, i) for i, x in enumerate(test.images)]
    )
    (expert,) = experts_of("toy-vit", [task], 0)
    weights = checkpoints("toy-vit", [task], 0).experts[expert.task]
    x = torch.from_numpy(pixels.transpose(0, 3, 1, 2) / 255.0).float()
    features = encode_plain((x - 0.5) / 0.25, weights, encoder.vit).double().numpy()
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    logits = features @ encoder.heads([task])[task.name].double().numpy().T
    probabilities = np.exp(logits - logits.max(1, keepdims=True))
    probabilities /= probabilities.sum(1, keepdims=True)
    right = probabilities.argmax(1) == test.labels

    rows = measured(smoke).loc[("individual", 0, task.name, shift.corruption, shift.severity)]
    assert set(rows["n"]) == {24}
    np.testing.assert_array_equal(unpack(rows.loc["acc", "hits"], 24), right)
    assert rows.loc["acc", "value"] == right.mean()
    nll = -np.log(probabilities[np.arange(24), test.labels]).mean()
    assert rows.loc["nll", "value"] == pytest.approx(nll, rel=1e-5)
    assert rows.loc["ece", "value"] == pytest.approx(ece(probabilities, test.labels), abs=1e-6)


def test_the_smoke_sweep_says_something(smoke):
    accuracies = measured(smoke)["value"].xs("acc", level="metric")
    by_method = accuracies.groupby(["method", "corruption"]).mean()
    assert by_method.max() < 0.999
    clean = by_method.xs("clean", level="corruption")
    assert clean["pretrained"] < clean["average"] < clean["ties"] < clean["individual"]
    hits = measured(smoke)["hits"].xs("acc", level="metric")
    answers = {method: tuple(hits.loc[method]) for method in SMOKE.methods}
    for one, other in combinations(SMOKE.methods, 2):
        assert answers[one] != answers[other]


def test_what_a_run_costs_is_kept_with_it(smoke):
    entries = sum(tensor.numel() for tensor in ENCODERS["toy-vit"].base().values())
    for method, run_id in run_ids(SMOKE).items():
        facts = Store(smoke).run(run_id)
        assert facts["cost"]["parameters"] == entries * (3 if method == "individual" else 1)
        assert facts["cost"]["merge_s"] > 0
        assert facts["cost"]["peak_mb"] >= 0
        assert facts["run"]["method"] == method
    rows = Store(smoke).read()
    assert (rows.loc[rows["metric"] == "eval_s", "value"] > 0).all()
    assert dict(zip(rows["method"], rows["tuned"], strict=True)) == {
        method: bool(METHODS[method].Config().grid) for method in SMOKE.methods
    }


# -- tuning --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["task_arithmetic", "ties"])
def test_the_choice_is_the_best_of_the_grid_by_normalised_accuracy(smoke, method):
    run = next(run for run in resolve(SMOKE).runs if run.method == method)
    tuning = Store(smoke).run(run.id)["tuning"]
    grid = METHODS[method].Config().grid
    assert json.loads(tuning["grid"]) == {name: list(values) for name, values in grid.items()}
    assert tuning["budget"] == len(tuning["trials"]) == prod(map(len, grid.values())) <= 32
    assert tuning["split"] == "val"
    assert [trial["config"] for trial in tuning["trials"]] == bind(run).candidates

    experts = {e.task: e.facts()["val_accuracy"] for e in experts_of("toy-vit", suite("toy"), 0)}
    table = pd.DataFrame([trial["accuracy"] for trial in tuning["trials"]])
    scores = (table[list(TASKS)] / pd.Series(experts)[list(TASKS)]).mean(axis=1)
    np.testing.assert_allclose([trial["score"] for trial in tuning["trials"]], scores, rtol=1e-12)
    assert tuning["config"] == tuning["trials"][scores.idxmax()]["config"]
    assert tuning["score"] == pytest.approx(scores.max())
    assert scores.max() > scores.min()
    assert set(Store(smoke).read([run.id])["config"]) == {tuning["config"]}


@pytest.mark.parametrize("limit", [None, 10])
def test_a_trial_is_the_accuracy_on_val(smoke, limit):
    sweep = replace(SMOKE, val_limit=limit)
    run = next(run for run in resolve(sweep).runs if run.method == "task_arithmetic")
    if limit:
        config = bind(run).candidates[7]
        trial = {"config": config, "accuracy": validate_run(run, config)}
    else:
        tuning = Store(smoke).run(run.id)["tuning"]
        assert tuning["images"] == {task.name: task.sizes[2] for task in suite("toy")}
        trial = tuning["trials"][7]
    ckpts = checkpoints("toy-vit", suite("toy"), 0)
    scale = json.loads(trial["config"])["scale"]
    merged = {
        name: base + scale * sum(expert[name] - base for expert in ckpts.experts.values())
        for name, base in ckpts.base.items()
    }
    for task in suite("toy"):
        val = load(task, "val").first(limit)
        assert len(val) == run.val_images(task.sizes[2]) == (limit or task.sizes[2])
        x = torch.from_numpy(np.array(val.images).transpose(0, 3, 1, 2) / 255.0).float()
        features = encode_plain((x - 0.5) / 0.25, merged, ENCODERS["toy-vit"].vit)
        right = (features @ ckpts.heads[task.name].T).argmax(1).numpy() == val.labels
        assert trial["accuracy"][task.name] == right.mean()
