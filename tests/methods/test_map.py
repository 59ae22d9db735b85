"""MAP: quadratics that are recovered exactly, optima that are known, and its budget."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mergeshift import UserError
from methods.common.config import TUNING_BUDGET
from methods.contract import TASKS, Recorder, build, of_weights, small_checkpoints
from methods.map import (
    SHARES,
    Group,
    Map,
    MapNested,
    closest,
    combined,
    design,
    fit,
    front,
    left_out,
    logit,
    maximise,
    predicted,
    rounds_of,
    terms,
)


def quadratic(axes: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.normal(size=1 + 2 * axes + axes * (axes - 1) // 2)


@pytest.mark.parametrize(
    ("kind", "axes", "count"), [("full", 8, 45), ("diagonal", 8, 17), ("full", 2, 6)]
)
def test_an_exact_quadratic_is_recovered_from_as_many_points(kind, axes, count):
    want = quadratic(axes, 1)[: count if kind == "full" else 1 + 2 * axes]
    points = np.random.default_rng(0).uniform(size=(count, axes))
    assert terms(points, kind).shape == (count, len(want)) == (count, count)
    got = fit(points, terms(points, kind) @ want, kind)
    fresh = np.random.default_rng(2).uniform(size=(50, axes))
    gap = terms(fresh, kind) @ (got - want)
    assert np.abs(gap).max() < 0.05 * np.abs(terms(fresh, kind) @ want).max()  # the ridge is small


def test_more_points_than_terms_recover_it_closely():
    want, points = quadratic(3, 1), np.random.default_rng(0).uniform(size=(60, 3))
    got = fit(points, terms(points, "full") @ want, "full")
    np.testing.assert_allclose(got, want, atol=1e-3)


def test_the_grid_of_the_authors_cannot_tell_a_square_from_its_root():
    corners = np.array(np.meshgrid(*[[0.0, 1.0]] * 4)).reshape(4, -1).T
    assert np.linalg.matrix_rank(terms(corners, "diagonal")) == 5
    assert np.linalg.matrix_rank(terms(design(4, 16, 0), "diagonal")) == 9


def test_the_optimum_of_two_tasks_is_between_theirs():
    # q_i = -|c - a_i|^2: the mean of the sigmoids is highest at the midpoint, by symmetry
    a = np.array([[0.2, 0.4], [0.4, 0.2]])
    fits = np.array([[-(one @ one), *(2 * one), -1, -1] for one in a])
    best = maximise(fits, np.full((1, 2), 0.1), "diagonal", 1.0)
    np.testing.assert_allclose(best, [0.3, 0.3], atol=1e-3)
    assert maximise(fits, np.full((1, 2), 0.1), "diagonal", 0.25) == pytest.approx([0.25, 0.25])


def test_accuracies_keep_half_an_image_from_the_ends():
    np.testing.assert_allclose(logit(np.array([0.0, 0.5, 1.0]), 10), [-np.log(19), 0, np.log(19)])
    fits = np.array([[0.3, 0.0, 0.0]])
    np.testing.assert_allclose(
        predicted(fits, np.zeros((1, 1)), "diagonal"), 1 / (1 + np.exp(-0.3))
    )


def test_points_are_spread_and_the_seeds():
    points = design(8, 30, 7)
    assert points.shape == (30, 8)
    assert np.all((points >= 0) & (points < 1))
    assert np.abs(points.mean(0) - 0.5).max() < 0.1
    np.testing.assert_array_equal(points, design(8, 30, 7))
    assert not np.array_equal(points, design(8, 30, 8))


def test_the_merge_is_the_combination():
    ckpts = small_checkpoints()
    experts, shares = list(ckpts.experts.values()), torch.tensor([0.5, -0.1, 0.2])
    got = combined(ckpts.base, experts, shares)
    for name in ckpts.base:
        base = ckpts.base[name].double().numpy()
        taus = [expert[name].double().numpy() - base for expert in experts]
        want = base + 0.5 * taus[0] - 0.1 * taus[1] + 0.2 * taus[2]
        np.testing.assert_allclose(got[name], want, atol=1e-5)


def test_it_takes_the_best_of_what_it_has_measured_within_the_budget():
    access = Recorder()
    method = Map().build(small_checkpoints(), access)
    assert access.num_validation_passes == TUNING_BUDGET == Map().num_validation_passes
    report = method.report
    points, accuracies = np.array(report["points"]), np.array(report["accuracies"])
    np.testing.assert_allclose(
        method.learned()["coefficients"], points[accuracies.mean(1).argmax()], atol=1e-6
    )
    assert report["points"][0] == [0.3] * 3
    assert report["terms"] == 7
    assert report["problems"] == []
    assert list(method.coefficients["all"]) == sorted(TASKS)
    # what it says of its quadratics is what least squares by another route give
    rows = np.hstack([np.ones((31, 1)), points[:-1], points[:-1] ** 2])
    values = logit(accuracies[:-1], 8)
    fits = np.linalg.lstsq(rows, values, rcond=None)[0]
    told = 1 / (1 + np.exp(-rows @ fits))
    assert report["error at the points"] == pytest.approx(
        np.abs(told - accuracies[:-1]).mean(), abs=1e-3
    )

    def height(point: np.ndarray) -> float:
        return float((1 / (1 + np.exp(-np.hstack([1, point, point**2]) @ fits))).mean())

    assert all(height(points[-1]) >= height(point) - 1e-3 for point in points[:-1])


def test_accuracies_are_those_of_the_combinations():
    ckpts = small_checkpoints()
    method = build(Map, ckpts, points=3)
    experts = [ckpts.experts[task] for task in sorted(TASKS)]
    for point, told in zip(method.report["points"], method.report["accuracies"], strict=True):
        model = combined(ckpts.base, experts, torch.tensor(point)).materialise()
        for task, share in zip(sorted(TASKS), told, strict=True):
            values = of_weights(ckpts, model)[task].argmax(1)
            right = (values == torch.arange(8) % TASKS[task]).float().mean().item()
            assert share == pytest.approx(right)


def test_fewer_points_than_coefficients_are_told():
    method = build(Map, small_checkpoints(), points=8, quadratic="full")
    assert method.report["problems"] == ["10 coefficients from 8 points"]


def test_one_point_is_the_plain_sum_or_better():
    method = build(Map, small_checkpoints(), points=1)
    assert len(method.report["points"]) == 2


def test_points_left_out_are_told_of_by_fits_without_them():
    points = np.random.default_rng(0).uniform(size=(12, 2))
    values = np.random.default_rng(1).normal(size=(12, 3))
    got = left_out(points, values, "full")
    for i in (0, 5, 11):
        others = np.arange(12) != i
        fits = [fit(points[others], column[others], "full") for column in values.T]
        want = predicted(np.array(fits), points[i : i + 1], "full")[0]
        np.testing.assert_allclose(got[i], want, atol=1e-4)
    assert np.isnan(left_out(points[:6], values[:6], "full")).all()


def test_it_tells_how_far_its_quadratics_are_off():
    report = build(Map, small_checkpoints(), points=12).report
    assert report["error at points left out"] > report["error at the points"] > 0
    assert "error at points left out" not in build(Map, small_checkpoints(), points=7).report


# -- the front -----------------------------------------------------------------------------------


def test_the_front_of_two_tasks_is_the_segment_between_their_optima():
    # q_i = -|c - a_i|^2: nothing beats the points of the segment from a_1 to a_2
    a = np.array([[0.2, 0.5], [0.6, 0.1]])
    fits = [[-(one @ one), *(2 * one), -1, -1] for one in a]
    points = np.random.default_rng(0).uniform(size=(5, 2))
    accuracies = predicted(np.array(fits), points, "diagonal")
    report = {"fits": fits, "points": points.tolist(), "accuracies": accuracies.tolist(),
              "tasks": ["one", "two"], "quadratic": "diagonal", "high": 1.0}  # fmt: skip
    found = [one for one in front(report) if one.task == "one"]
    assert [one.share for one in found] == list(SHARES)
    np.testing.assert_allclose(found[0].coefficients, a[1], atol=2e-3)
    np.testing.assert_allclose(found[-1].coefficients, a[0], atol=2e-3)
    for one in found:
        c = np.array(one.coefficients)
        along = (c - a[0]) @ (a[1] - a[0]) / ((a[1] - a[0]) ** 2).sum()
        np.testing.assert_allclose(c, a[0] + along * (a[1] - a[0]), atol=5e-3)
        assert -0.01 <= along <= 1.01
    own, other = np.array([one.accuracies for one in found]).T
    assert (np.diff(own) >= -1e-6).all()
    assert (np.diff(other) <= 1e-6).all()


# -- nested --------------------------------------------------------------------------------------


def test_rounds_share_the_passes_and_pairs_are_the_closest():
    assert rounds_of(8, 31) == [10, 10, 11]
    assert rounds_of(20, 31) == [6, 6, 6, 6, 7]
    groups = [Group((name,), np.zeros(1), value) for name, value in
              (("a", 0.9), ("b", 0.1), ("c", 0.5), ("d", 0.55), ("e", 0.12))]  # fmt: skip
    pairs, left = closest(groups)
    assert [(x.tasks, y.tasks) for x, y in pairs] == [(("b",), ("e",)), (("c",), ("d",))]
    assert [group.tasks for group in left] == [("a",)]


def test_nested_is_the_product_of_the_coefficients_of_its_pairs():
    access, ckpts = Recorder(), small_checkpoints()
    method = MapNested(MapNested.Config(passes=17)).build(ckpts, access)
    assert access.num_validation_passes == 17 == method.num_validation_passes
    assert MapNested().num_validation_passes == TUNING_BUDGET
    first, last = method.report["joined"]
    assert (len(first["points"]), len(last["points"])) == (8, 8)  # (17 - 1) / 2 in each round
    assert first["terms"] == last["terms"] == 6
    assert first["points"][0] == last["points"][0] == [0.5, 0.5]

    def best(joined) -> np.ndarray:
        return np.array(joined["points"])[np.array(joined["accuracies"]).mean(1).argmax()]

    assert sorted(last["tasks"]) == sorted(TASKS)
    a, b = best(first), best(last)
    shares = dict(zip(first["tasks"], a, strict=True))
    (third,) = set(TASKS) - set(shares)
    joined_first = last["tasks"][0] != third  # the pair, or the model that was left over
    pair, single = (b[0], b[1]) if joined_first else (b[1], b[0])
    want = {task: pair * share for task, share in shares.items()} | {third: single}
    assert method.coefficients["all"] == pytest.approx(want, abs=1e-6)
    told = np.array(last["accuracies"]).mean(1).max()
    reached = [
        (of_weights(ckpts, method.models["all"]())[task].argmax(1).numpy()
         == np.arange(8) % count).mean() for task, count in TASKS.items()
    ]  # fmt: skip
    assert np.mean(reached) == pytest.approx(told)


def test_too_few_passes_for_the_rounds_are_one_line():
    with pytest.raises(UserError, match=r"joins 3 of them in 2 rounds .* got passes=4, the least"):
        MapNested(MapNested.Config(passes=4)).build(small_checkpoints(), Recorder())


def test_an_extra_expert_has_a_coefficient_and_no_accuracy():
    ckpts = replace(small_checkpoints(), extra=frozenset({"four"}))
    method = build(Map, ckpts, points=2)
    assert list(method.coefficients["all"]) == sorted(TASKS)
    assert method.report["tasks"] == ["three", "two"]
    assert np.array(method.report["accuracies"]).shape == (3, 2)
    assert build(MapNested, ckpts).coefficients["all"]["four"] == 0
