"""The shift prior: which images stay, against NumPy."""

import numpy as np
import pytest

from corruptions.base import CLEAN, Shift
from mergeshift import rng_of
from tasks import SUITES, load
from tasks.prior import frequencies, rows_of

PRIOR = Shift("prior")


@pytest.mark.parametrize("seed", range(5))
def test_the_counts_fit_the_frequencies_and_one_class_keeps_all(seed):
    rng = np.random.default_rng(seed)
    labels, shares = rng.integers(0, 7, 400), rng.dirichlet(np.full(7, 0.1))
    rows = rows_of(labels, shares)
    there, kept = np.bincount(labels, minlength=7), np.bincount(labels[rows], minlength=7)
    favoured = int(np.argmax(shares / there))  # the first to run out when images are handed out
    assert kept[favoured] == there[favoured]
    ideal = shares / shares[favoured] * there[favoured]
    assert (np.abs(kept - ideal) <= 1).all()
    assert (kept <= ideal + 1e-6).all()
    assert (np.diff(rows) > 0).all()  # in their order, none twice
    for label in range(7):  # the first that there are
        np.testing.assert_array_equal(
            rows[labels[rows] == label], np.flatnonzero(labels == label)[: kept[label]]
        )


def test_classes_without_images_count_for_nothing():
    labels = np.array([0, 0, 2, 2, 2, 2])
    assert rows_of(labels, np.array([0.1, 0.8, 0.1])).tolist() == [0, 1, 2, 3]


def test_frequencies_depend_on_the_data_seed_and_the_task_alone():
    one = frequencies(10, 0, "mnist")
    np.testing.assert_array_equal(one, frequencies(10, 0, "mnist"))
    np.testing.assert_array_equal(one, rng_of("prior", 0, "mnist").dirichlet([0.1] * 10))
    assert not np.array_equal(one, frequencies(10, 1, "mnist"))
    assert not np.array_equal(one, frequencies(10, 0, "letters"))
    many = np.stack([frequencies(10, seed, "mnist") for seed in range(2000)])
    # of Dirichlet(a, ..., a): E p = 1 / C, Var p = (C - 1) / (C^2 (a C + 1)), here .045
    np.testing.assert_allclose(many.mean(0), 0.1, atol=0.02)
    np.testing.assert_allclose(many.var(0), 0.045, atol=0.006)


def test_a_suite_under_prior_shows_those_images_as_they_are():
    suite = SUITES["toy"]
    data = suite.datamodule([CLEAN, PRIOR], limit=24)
    for task in suite.tasks:
        whole = load(task, "test").first(24)
        rows = rows_of(whole.labels, frequencies(task.num_classes, 0, task.name))
        np.testing.assert_array_equal(data.labels(task, "test", PRIOR), whole.labels[rows])
        np.testing.assert_array_equal(data.pixels(task, "test", PRIOR), whole.images[rows])
        assert data.count(task, "test", PRIOR) == len(rows) < 24 == data.count(task, "test")
    batches = [b for b in data.test_dataloader() if b["shift"] == "prior"]
    assert sum(len(b["labels"]) for b in batches) == sum(
        data.count(task, "test", PRIOR) for task in suite.tasks
    )
