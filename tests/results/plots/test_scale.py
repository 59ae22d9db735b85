"""How accuracy depends on the scale: what is drawn is what was measured, on val and on test."""

import json

import numpy as np
import pandas as pd
import pytest

from bench.plan import resolve
from bench.reporting.tuning_history import trials_of
from bench.sweeps import SWEEPS
from mergeshift import UserError
from methods import METHODS
from results.plots import scale as scale_plot
from results.plots import style
from results.plots.scale import VAL, Trials
from results.store import Store
from tests.helpers.result_frames import TASKS, make_rows

SCALES = {0.1: "average", 0.5: "adamerging"}  # measured at -> the method whose answers it gets


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """TIES at three scales, the plain line at 0.3; Task Arithmetic at one."""
    every = make_rows(n=40)
    ties = every[every["method"] == "ties"].iloc[0]
    parts = [every[every["method"].isin(["ties", "task_arithmetic", "individual"])]]
    for scale, source in SCALES.items():
        config = json.dumps({**json.loads(ties["config"]), "scale": scale})
        parts.append(every[every["method"] == source].assign(
            method="ties", title=ties["title"], cite=ties["cite"], needs=ties["needs"], tuned=True,
            adapt_on="", config=config, variant=f"scale={scale}", run_id=f"ties{scale}",
        ))  # fmt: skip
    rows = pd.concat(parts)
    return rows.assign(variant=rows["variant"].fillna(""))


REST = {"keep": 0.2, "merge": "sum"}
TRIALS = Trials("ties", REST, {0.3: dict.fromkeys(TASKS, 0.5), 0.6: dict.fromkeys(TASKS, 0.25)},
                dict.fromkeys(TASKS, 20), 0.3)  # fmt: skip


def test_curves_are_means_over_tasks_and_shifts(rows):
    (curve,), _ = scale_plot.curves(rows, [TRIALS])
    assert curve.title == "TIES-Merging"
    acc = rows[(rows["metric"] == "acc") & (rows["method"] == "ties")]
    for name, severity in (("clean", 0), ("L2", 2)):
        assert sorted(curve.panels[name]) == [0.1, 0.3, 0.5]
        for run, scale in (("pocket8-ties-0", 0.3), ("ties0.1", 0.1), ("ties0.5", 0.5)):
            mine = acc[(acc["run_id"] == run) & (acc["severity"] == severity)]
            assert curve.panels[name][scale].value == pytest.approx(mine["value"].mean())
    assert {s: i.value for s, i in curve.panels[VAL].items()} == {0.3: 0.5, 0.6: 0.25}
    assert all(i.low < i.value < i.high for i in curve.panels[VAL].values())


def test_figure_draws_the_curves_in_the_colour_of_the_method(rows, tmp_path):
    figure = scale_plot.scale(rows, [TRIALS])
    (curve,), _ = scale_plot.curves(rows, [TRIALS])
    assert [axes.get_title() for axes in figure.axes] == [VAL, "clean", "L1", "L2", "L3"]
    for axes in figure.axes:
        line, star = axes.get_lines()
        points = curve.panels[axes.get_title()]
        np.testing.assert_allclose(line.get_xdata(), sorted(points))
        np.testing.assert_allclose(
            line.get_ydata(), [100 * points[s].value for s in sorted(points)]
        )
        assert line.get_color() == star.get_color() == style.LINE_STYLES["ties"].colour
        assert list(star.get_xdata()) == [0.3]
    for form in style.FORMATS:
        assert style.save(figure, tmp_path / f"scale.{form}").stat().st_size > 5_000
    (only,), _ = scale_plot.curves(rows, [TRIALS], metric="nll")
    assert VAL not in only.panels


def test_other_constants_make_curves_of_their_own(rows):
    """The tuned line is a point of the curve that has its other constants, and of no other."""
    more = rows[rows["variant"] != ""].assign(
        variant=lambda f: "keep=0.1, " + f["variant"],
        run_id=lambda f: f["run_id"] + "k",
        config=lambda f: [json.dumps({**json.loads(c), "keep": 0.1}) for c in f["config"]],
    )
    found, _ = scale_plot.curves(pd.concat([rows, more]), [TRIALS])
    assert [curve.title for curve in found] == [
        "TIES-Merging [keep=0.2]", "TIES-Merging [keep=0.1]"
    ]  # fmt: skip
    assert [sorted(curve.panels["clean"]) for curve in found] == [[0.1, 0.3, 0.5], [0.1, 0.5]]
    assert [VAL in curve.panels for curve in found] == [True, False]
    elsewhere = TRIALS._replace(rest={**REST, "merge": "mean"})
    assert all(VAL not in c.panels for c in scale_plot.curves(rows, [elsewhere])[0])


def test_a_wide_range_of_scales_has_round_numbers_at_its_axis(rows):
    trials = TRIALS._replace(accuracies={s: dict.fromkeys(TASKS, 0.5) for s in (0.02, 0.3, 3.0)})
    axes = scale_plot.scale(rows, [trials]).axes[0]
    axes.figure.draw_without_rendering()
    low, high = axes.get_xlim()
    shown = [label.get_text() for label in axes.get_xticklabels()]
    assert {"0.02", "0.05", "0.1", "0.2", "0.5", "1", "2"} <= set(shown)
    assert 0 < low < 0.02 < 3 < high


def test_one_scale_is_no_curve(rows):
    with pytest.raises(UserError, match="measured at two scales, or tuned over them"):
        scale_plot.scale(rows[rows["variant"] == ""], [])


def test_trials_are_those_of_the_tuning_with_other_constants_as_chosen(smoke, command, tmp_path):
    rows = Store(smoke).read()
    found = {one.method: one for one in trials_of(rows, Store(smoke))}
    assert set(found) == {"task_arithmetic", "ties"}
    grid = METHODS["task_arithmetic"].Config.grid["scale"]
    assert sorted(found["task_arithmetic"].accuracies) == sorted(grid)
    ties, run = found["ties"], rows[rows["method"] == "ties"]["run_id"].iloc[0]
    tuning = Store(smoke).run(run)["tuning"]
    chosen = json.loads(tuning["config"])
    for scale, accuracies in ties.accuracies.items():
        wanted = json.dumps({**chosen, "scale": scale}, sort_keys=True)
        (trial,) = [one for one in tuning["trials"] if one["config"] == wanted]
        assert accuracies == trial["accuracy"]
    assert ties.chosen in ties.accuracies
    path = tmp_path / "scale.svg"
    assert command("plot", "scale", "--out", smoke, "-o", path).code == 0
    assert "TIES" in path.read_text() or path.stat().st_size > 5_000


def test_the_named_sweep_has_several_scales():
    runs = resolve(SWEEPS["scale"]).runs
    assert sum(run.method == "tsv" for run in runs) == 9
