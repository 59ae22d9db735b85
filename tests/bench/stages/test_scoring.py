"""Routed methods are measured with their own weights and with the oracle's; where they route."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from bench.plan import resolve
from bench.stages import artifacts
from bench.stages.build import bind
from bench.stages.scoring import MetricsCallback, Prediction, predicted, routing
from bench.sweeps import SWEEPS
from methods.base import NO_PAPER
from methods.routing.method import RoutedMethod
from results.schema import unpack
from results.store import Store
from tasks import load, suite
from tests.helpers.toy_sweep import measured, sweep_into

SMOKE = SWEEPS["smoke"]
TASKS = ("toy_two", "toy_three", "toy_four")
SETTINGS = ("adamerging.steps=3", "entropy_router.steps=3")
LEARNING = ("adamerging", "ce_router", "centroid_router", "entropy_router", "twin_merging")


# -- statistics of routing, by hand --------------------------------------------------------------


def test_routing_of_four_images_by_hand():
    weights = torch.tensor(
        [[0.5, 0.25, 0.25], [1.0, 0.0, 0.0], [0.1, 0.2, 0.7], [0.0, 0.5, 0.5]], dtype=torch.float64
    )
    found = routing(weights, ["a", "b", "null"], "b")
    # largest weights: a, a, null, and b as the first of equals: 1 of 4 images is on b
    assert found["route_acc"] == 0.25
    assert found["route_max"] == pytest.approx((0.5 + 1 + 0.7 + 0.5) / 4)
    assert found["route:a"] == pytest.approx(1.6 / 4)
    assert found["route:b"] == pytest.approx(0.95 / 4)
    assert found["route:null"] == pytest.approx(1.45 / 4)
    # entropies: 1.5 ln 2; 0; 0.1 ln 10 + 0.2 ln 5 + 0.7 ln(10 / 7); ln 2
    third = 0.1 * math.log(10) + 0.2 * math.log(5) + 0.7 * math.log(10 / 7)
    assert found["route_entropy"] == pytest.approx((2.5 * math.log(2) + third) / 4)


def test_a_task_of_one_class_is_measured():
    scorer, cell = MetricsCallback(), ("m", "t", "clean")
    batch = {"task": "t", "shift": "clean", "labels": torch.zeros(3, dtype=torch.long)}
    scorer.on_test_batch_end(None, None, {"m": Prediction(torch.ones(3, 1))}, batch, 0)
    found = scorer.measure(cell)
    assert {found.pop(name) for name in ("acc", "bacc", "worst_acc")} == {1.0}
    assert set(found) >= {"nll", "ece", "brier"}
    assert set(found.values()) == {0.0}


def test_weights_of_layers_are_averaged_first():
    """Two layers that disagree: their mean is undecided, though each of them is certain."""

    class Layered(RoutedMethod):
        """w = one-hot, another in every layer."""

        def predict_routed(self, images, task):
            weights = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).expand(len(images), 2, 2)
            return torch.zeros(len(images), 3), weights

        def merge(self, ckpts):
            return {}

    Layered.name, Layered.title, Layered.paper = "layered", "Layered", NO_PAPER
    answer = predicted(Layered(), torch.zeros(5, 3, 32, 32), "a")
    assert torch.equal(answer.weights, torch.full((5, 2), 0.5))
    found = routing(answer.weights, ["a", "b"], "a")
    assert (found["route_max"], found["route_entropy"]) == (0.5, pytest.approx(math.log(2)))


def test_the_scorer_counts_batches_of_any_size_together():
    scorer, cell = MetricsCallback(), ("m", "a", "clean")
    logits = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 1.0]])
    oracle = torch.tensor([[1.0, 2.0], [0.0, 1.0], [1.0, 3.0]])
    weights = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    labels = torch.tensor([0, 1, 1])
    for rows in (slice(0, 1), slice(1, 3)):
        batch = {"task": "a", "shift": "clean", "labels": labels[rows]}
        answers = {"m": Prediction(logits[rows], weights[rows], oracle[rows]),
                   "static": Prediction(logits[rows])}  # fmt: skip
        scorer.on_test_batch_end(None, None, answers, batch, 0)
    hits = {name: right.tolist() for name, right in scorer.hits(cell).items()}
    assert hits == {"acc": [True, True, False], "oracle_acc": [False, True, True]}
    found = scorer.measure(cell)
    assert (found["acc"], found["oracle_acc"]) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert scorer.routing(cell, ["a", "b"])["route_acc"] == pytest.approx(2 / 3)
    static = ("static", "a", "clean")
    assert list(scorer.hits(static)) == ["acc"]
    assert scorer.routing(static, ["a", "b"]) == {}


# -- in a sweep ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def out(smoke, tmp_path_factory):
    """A sweep of methods that route, and the expert of every task."""
    folder = tmp_path_factory.mktemp("routed")
    sweep_into(folder, replace(SMOKE, methods=("individual", "oracle_router", "centroid_router")))
    return folder


def values(rows: pd.DataFrame, method: str, metric: str) -> pd.Series:
    return rows["value"].xs((method, metric), level=("method", "metric"))


def test_with_the_whole_task_vector_the_oracle_is_the_expert(out):
    rows = measured(out)
    for method in ("oracle_router", "centroid_router"):
        pd.testing.assert_series_equal(
            values(rows, method, "oracle_acc"), values(rows, "individual", "acc")
        )
    hits = rows["hits"].xs("oracle_acc", level="metric").loc["centroid_router"]
    assert hits.equals(rows["hits"].xs("acc", level="metric").loc["individual"])
    oracle = {m: values(rows, "oracle_router", m) for m in ("route_acc", "route_max")}
    assert all((series == 1).all() for series in oracle.values())
    assert (values(rows, "oracle_router", "route_entropy") == 0).all()
    for task in TASKS:
        on_it = values(rows, "oracle_router", f"route:{task}").groupby("task").mean()
        assert on_it.to_dict() == {name: float(name == task) for name in TASKS}


def test_only_routed_methods_have_rows_about_routing(out):
    rows = measured(out).reset_index()
    about = rows[rows["metric"].str.startswith(("route", "oracle"))]
    assert set(about["method"]) == {"oracle_router", "centroid_router"}
    assert set(about["metric"]) == {"oracle_acc", "route_acc", "route_entropy", "route_max",
                                    *(f"route:{task}" for task in TASKS)}  # fmt: skip
    weights = about[about["metric"].str.startswith("route:")]
    sums = weights.groupby(["method", "task", "corruption"])["value"].sum()
    np.testing.assert_allclose(sums, 1, atol=1e-5)


def test_a_routed_method_by_hand(out):
    """Weights and answers of the centroid router on one cell, image by image."""
    (run,) = resolve(replace(SMOKE, methods=("centroid_router",))).runs
    method, _ = bind(run).build(run.config, artifacts.path(Store(out), run.id))
    task = suite("toy")[1]
    test = load(task, "test").first(24)
    x = torch.from_numpy((np.array(test.images).transpose(0, 3, 1, 2) / 255 - 0.5) / 0.25).float()
    with torch.no_grad():
        weights = torch.cat([method.route(image[None], task.name) for image in x])
        features = torch.cat(
            [method.features_with(image[None], w[None], task.name)
             for image, w in zip(x, weights, strict=True)]
        )  # fmt: skip
    logits = F.normalize(features, dim=-1) @ method.heads()[task.name].T
    right = logits.argmax(1).numpy() == test.labels
    rows = measured(out).loc[("centroid_router", 0, task.name, "clean", 0)]
    np.testing.assert_array_equal(unpack(rows.loc["acc", "hits"], 24), right)
    chosen = weights.argmax(1).numpy()
    assert rows.loc["route_acc", "value"] == (chosen == TASKS.index(task.name)).mean()
    for i, name in enumerate(TASKS):
        mean = float(weights[:, i].mean())
        assert rows.loc[f"route:{name}", "value"] == pytest.approx(mean, abs=1e-6)


def test_what_learns_learns_the_same_here_and_in_workers(smoke, tmp_path):
    """Every learning method on the toy suite: artifacts and answers, with one job and with two."""
    sweep = replace(SMOKE, methods=LEARNING, settings=SETTINGS)
    for jobs in (1, 2):
        sweep_into(tmp_path / str(jobs), sweep, jobs=jobs)
    runs = resolve(sweep).runs
    kept = [
        [artifacts.metadata(artifacts.path(Store(tmp_path / jobs), run.id)) for run in runs]
        for jobs in ("1", "2")
    ]
    for one, other in zip(*kept, strict=True):
        assert one["tensors"] == other["tensors"]
        assert one["curves"] == other["curves"]
        assert one["coefficients"] == other["coefficients"]
    pd.testing.assert_frame_equal(
        measured(tmp_path / "1"), measured(tmp_path / "2"), check_exact=True
    )


@pytest.mark.parametrize("method", LEARNING)
def test_what_learns_from_images_says_from_which(method):
    (run,) = resolve(replace(SMOKE, methods=(method,))).runs
    assert run.adapt_on == "adapt"
