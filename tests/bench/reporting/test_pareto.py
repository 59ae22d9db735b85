"""Fronts of MAP: from what a learning told to a table in every format and a figure."""

import numpy as np
import pytest

from bench.reporting import pareto as reporting
from bench.reporting.pareto import fronts_of
from mergeshift import UserError
from methods.map import predicted
from results.plots.pareto import trade_offs
from results.render.text import render
from results.tables.pareto import pareto
from tests.helpers.result_frames import make_rows

TASKS = ("mnist", "optdigits")
OPTIMA = np.array([[0.2, 0.5], [0.6, 0.1]])
FITS = [[1 - (one @ one), *(2 * one), -1, -1] for one in OPTIMA]  # q_i = 1 - |c - a_i|^2
POINTS = np.random.default_rng(0).uniform(size=(5, 2))
REPORT = {
    "tasks": list(TASKS), "quadratic": "diagonal", "high": 1.0, "fits": FITS,
    "points": POINTS.tolist(),
    "accuracies": predicted(np.array(FITS), POINTS, "diagonal").tolist(),
    "error at the points": 0.01, "error at points left out": 0.025, "error at the optimum": 0.004,
}  # fmt: skip


@pytest.fixture(scope="module")
def rows():
    return make_rows(("average", "ties"), tasks=TASKS)


@pytest.fixture(scope="module")
def fronts(rows):
    reports = {"pocket8-ties-0": REPORT}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reporting, "report_of", lambda store, run: reports.get(run, {}))
        return fronts_of(None, rows["run_id"])


def sigmoid(value: float) -> float:
    return float(1 / (1 + np.exp(-value)))


def test_a_front_goes_from_one_optimum_to_the_other(fronts):
    (front,) = fronts.values()
    apart = ((OPTIMA[0] - OPTIMA[1]) ** 2).sum()
    ends = front.curves["mnist"]
    np.testing.assert_allclose(ends[1.0], [sigmoid(1), sigmoid(1 - apart)], atol=1e-4)
    np.testing.assert_allclose(ends[0.0], [sigmoid(1 - apart), sigmoid(1)], atol=1e-4)
    np.testing.assert_allclose(front.equal, [sigmoid(1 - apart / 4)] * 2, atol=1e-4)  # the middle
    assert front.errors == {"at the points of the fit": 0.01, "at points left out of it": 0.025,
                            "at the optimum": 0.004}  # fmt: skip


@pytest.mark.parametrize("form", ["text", "md", "latex", "csv"])
def test_every_format_has_the_table(rows, fronts, form):
    table = pareto(rows, fronts)
    (entry,) = table.entries
    assert entry.method == "ties"
    written = " ".join(render(table, form).split())
    equal = sigmoid(1 - ((OPTIMA[0] - OPTIMA[1]) ** 2).sum() / 4)
    if form == "csv":
        assert f"{equal:.3f}"[:5] in written
        return
    assert f"{100 * equal:.1f}" in written
    assert "half on mnist" in written
    assert "1.0 at the points of the fit, 2.5 at points left out of it, 0.4 at the" in written


def test_methods_without_one_are_refused(rows):
    with pytest.raises(UserError, match=r"no method here fits quadratics .* a sweep with map"):
        pareto(rows, {})


def test_a_panel_for_each_task_has_the_front_and_what_was_measured(fronts):
    (front,) = fronts.values()
    figure = trade_offs(front, "MAP")
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in panels] == list(TASKS)
    dots, line, star = panels[0].lines
    np.testing.assert_allclose(dots.get_xdata(), 100 * np.array(REPORT["accuracies"])[:, 0])
    np.testing.assert_allclose(line.get_ydata()[0], 100 * front.curves["mnist"][0.0][1])
    assert star.get_xdata()[0] == pytest.approx(100 * front.equal[0])
