"""Metrics that are computed over the lines of a table, against NumPy, SciPy and a bootstrap."""

import io

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import expit, logit

from mergeshift import UserError
from results.plots import robustness as plots
from results.render.text import render
from results.report.page import payload
from results.schema import pack, unpack
from results.statistics import over_experts
from results.tables.comparison import compare
from results.tables.grid import arrange
from results.tables.leaderboard import board
from results.tables.ranking import ranking
from results.tables.robustness import effective_robustness, fit_of, shifted_cells, static_of
from results.wandb.summaries import best
from tests.helpers.result_frames import METHODS, TASKS, make_rows

SHIFTS = (("clean", 0), ("contrast", 2), ("fog", 3))
STATIC = ("average", "task_arithmetic", "ties", "adamerging")
CHANCE = dict(zip(TASKS, (0.1, 0.1, 0.02, 0.25), strict=True))


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """One set of experts; shifts hurt average less than its clean accuracy says."""
    rows = make_rows(shifts=SHIFTS)
    easier = (rows["method"] == "average") & (rows["severity"] > 0) & (rows["metric"] == "acc")
    for i in rows.index[easier]:
        hits = unpack(rows.at[i, "hits"], 120) | (np.arange(120) < 12)
        rows.at[i, "hits"], rows.at[i, "value"] = pack(hits), hits.mean()
    return rows.assign(chance=rows["task"].map(CHANCE))


@pytest.fixture(scope="module")
def sets() -> pd.DataFrame:
    """Three sets of experts."""
    parts = [make_rows(shifts=SHIFTS, seeds=(k,)) for k in range(3)]
    return pd.concat([part.assign(seed=0, expert_seed=k) for k, part in enumerate(parts)])


def answers(rows: pd.DataFrame) -> np.ndarray:
    """Right or wrong: ``[E, T, S, N]``, by method, task and shift in the order of the lists."""
    accuracies = rows[rows["metric"] == "acc"].set_index(["method", "task", "corruption"])
    return np.array([[[unpack(accuracies.at[(m, t, s), "hits"], 120) for s, _ in SHIFTS]
                      for t in TASKS] for m in METHODS], float)  # fmt: skip


def residuals(hits: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """By ``np.polyfit``: of all methods, over both shifts together.

    Args:
        hits: ``[E, T, S, N]``.
        weights: ``[T, N]`` of the images, which add up to 1 for each task.
    """
    means = np.einsum("etsn,tn->es", hits, weights) / len(TASKS)
    clean, shifted = means[:, 0], means[:, 1:].mean(axis=1)
    line = [list(METHODS).index(name) for name in STATIC]
    slope, intercept = np.polyfit(logit(clean[line]), logit(shifted[line]), 1)
    return shifted - expit(intercept + slope * logit(clean))


EQUAL = np.full((len(TASKS), 120), 1 / 120)


def test_the_line_and_the_residuals_are_those_of_scipy(rows):
    grid = arrange(rows, "robustness")
    assert [grid.entries[e].method for e in static_of(grid)] == list(STATIC)
    found = fit_of(grid, shifted_cells(grid))
    accuracies = answers(rows).mean(axis=3).mean(axis=1)
    by_name = dict(zip(METHODS, zip(accuracies[:, 0], accuracies[:, 1:].mean(axis=1), strict=True),
                       strict=True))  # fmt: skip
    theirs = stats.linregress(*logit(np.array([by_name[name] for name in STATIC])).T)
    assert found.line == pytest.approx((theirs.intercept, theirs.slope))
    expected = dict(zip(METHODS, residuals(answers(rows), EQUAL), strict=True))
    values = {entry.method: value for entry, value in
              zip(grid.entries, found.residuals, strict=True)}  # fmt: skip
    assert values == pytest.approx(expected)
    assert values["average"] > 0  # the shifts hurt it less


def test_every_shifted_column_has_a_line_of_its_own(rows):
    table = compare(rows, "robustness")
    assert table.columns == ("contrast@2", "fog@3")
    hits = answers(rows)[:, :, [0, 2, 2]]
    expected = dict(zip(METHODS, residuals(hits, EQUAL), strict=True))
    assert {m: table.cells[m, "fog@3"].value for m in METHODS} == pytest.approx(expected)
    by_task = compare(rows, "robustness", "task", shift="fog")
    one = {m: by_task.cells[m, "animals"].value for m in METHODS}
    only = np.zeros_like(EQUAL)
    only[TASKS.index("animals")] = len(TASKS) / 120
    assert one == pytest.approx(dict(zip(METHODS, residuals(hits, only), strict=True)))
    with pytest.raises(UserError, match="give --shift"):
        compare(rows, "robustness", "task")
    twice = make_rows(STATIC, shifts=(("clean", 0), ("contrast", 2), ("contrast", 3)))
    assert compare(twice, "robustness", "severity").columns == ("2", "3")
    with pytest.raises(UserError, match="rank them by acc"):
        ranking(rows, "robustness")


def resampled(rows: pd.DataFrame, statistic) -> np.ndarray:
    """The statistic of 600 drawn test sets: images of a task with replacement, of all cells."""
    hits, rng = answers(rows), np.random.default_rng(0)
    draws = rng.multinomial(120, EQUAL[0], size=(600, len(TASKS))) / 120
    return np.array([statistic(hits, drawn) for drawn in draws])


def test_the_interval_over_images_is_that_of_a_bootstrap(rows):
    grid = arrange(rows, "robustness")
    found = effective_robustness(grid, shifted_cells(grid))
    spread = dict(zip(METHODS, resampled(rows, residuals).std(axis=0), strict=True))
    for entry, one in zip(grid.entries, found, strict=True):
        assert one.over_images.margin / 1.96 == pytest.approx(spread[entry.method], rel=0.12)


def test_sets_of_experts_have_their_lines_and_give_a_verdict(sets):
    grid = arrange(sets, "robustness")
    found = effective_robustness(grid, shifted_cells(grid))
    each = [residuals(answers(sets[sets["expert_seed"] == k]), EQUAL) for k in range(3)]
    by_method = dict(zip(METHODS, np.transpose(each), strict=True))
    for entry, one in zip(grid.entries, found, strict=True):
        assert one.sets == pytest.approx(by_method[entry.method])
        assert one.estimate == over_experts(one.over_images, one.sets.tolist())
    table = compare(sets, "robustness")
    assert set(table.leaders) == set(table.columns)
    assert all(keys and keys <= set(STATIC) for keys in table.leaders.values())
    text = " ".join(render(table).split())
    assert "interval over images (delta method, stratified by task) and over 3 sets" in text


def test_too_few_static_merges_are_one_line(rows):
    few = rows[rows["method"].isin(["pretrained", "average", "ties", "individual"])]
    with pytest.raises(UserError, match=r"have 2 \(average, ties\): measure more") as caught:
        compare(few, "robustness")
    assert "\n" not in str(caught.value)
    transductive = rows.assign(
        adapt_on=rows["adapt_on"].where(rows["method"] != "adamerging", "shifted"),
        stores=rows["stores"].where(rows["method"] != "ties", "one model, router"),
    )
    with pytest.raises(UserError, match=r"have 2 \(average, task_arithmetic\)"):
        compare(transductive, "robustness")
    with pytest.raises(UserError, match="clean images were not measured"):
        compare(rows[rows["severity"] > 0], "robustness")
    with pytest.raises(UserError, match="a shift were not measured"):
        compare(rows[rows["severity"] == 0], "robustness")


def test_equal_clean_accuracies_have_no_line(rows):
    clean = rows[(rows["severity"] == 0) & (rows["method"] == "ties")].set_index(["task", "metric"])
    same = rows.copy()
    for i in same.index[(same["severity"] == 0) & same["method"].isin(STATIC)]:
        for name in ("hits", "value"):
            same.at[i, name] = clean.at[(same.at[i, "task"], same.at[i, "metric"]), name]
    table = compare(same, "robustness")
    assert all(np.isnan(cell.value) for cell in table.cells.values())
    with pytest.raises(UserError, match="no line"):
        plots.draw(same)


# -- corrected for chance


def corrected(hits: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """On clean images, of all methods; the last are the individual experts."""
    chance = np.array(list(CHANCE.values()))
    clean = np.einsum("etn,tn->et", hits[:, :, 0], weights) - chance
    return (clean / clean[-1]).mean(axis=1)


def test_normalised_accuracy_above_chance(rows):
    table = compare(rows, "norm_chance")
    assert table.columns == ("clean", "contrast@2", "fog@3")
    expected = corrected(answers(rows), EQUAL)
    assert [table.cells[m, "clean"].value for m in METHODS] == pytest.approx(expected)
    assert table.cells["individual", "clean"].value == 1
    spread = resampled(rows, corrected).std(axis=0)
    margins = [table.cells[m, "clean"].margin / 1.96 for m in METHODS]
    assert margins[:-1] == pytest.approx(spread[:-1], rel=0.12)
    means = answers(rows).mean(axis=3) - np.array(list(CHANCE.values()))[:, None]
    fog = (means[..., 2] / means[-1, :, 0]).mean(axis=1)
    assert [table.cells[m, "fog@3"].value for m in METHODS] == pytest.approx(fog)


def test_what_it_needs_is_said(rows):
    with pytest.raises(UserError, match="needs the numbers of classes"):
        compare(rows.drop(columns="chance"), "norm_chance")
    with pytest.raises(UserError, match="needs the individual experts"):
        compare(rows[rows["method"] != "individual"], "norm_chance")
    with pytest.raises(UserError, match="needs clean images"):
        compare(rows[rows["severity"] > 0], "norm_chance")


# -- every door


def test_both_are_in_every_format(rows):
    for metric, title in (("robustness", "Effective robustness"), ("norm_chance", "Normalised")):
        table = compare(rows, metric)
        for form in ("text", "md", "latex"):
            assert title in render(table, form)
        frame = pd.read_csv(io.StringIO(render(table, "csv"))).set_index(["entry", "column"])
        for key, cell in table.cells.items():
            found = frame.loc[key, ["value", "low", "high"]].to_list()
            assert found == pytest.approx([100 * x for x in (cell.value, cell.low, cell.high)])
    text = " ".join(render(compare(rows, "robustness")).split())
    assert "static merges (one model that has seen no test image: Weight Averaging, Task" in text
    assert "+" in compare(rows, "robustness").printed(0.02)


def test_the_leaderboard_and_the_page_have_both(rows):
    table = compare(rows)
    lines = board(table, rows, {}).set_index("method")
    expected = 100 * residuals(answers(rows), EQUAL)
    titles = [METHODS[name][0] for name in METHODS]
    assert lines.loc[titles, "Effective robustness"].to_list() == pytest.approx(expected)
    expected = 100 * corrected(answers(rows), EQUAL)
    assert lines.loc[titles, "Norm. acc. above chance"].to_list() == pytest.approx(expected)
    assert (lines["Effective robustness low"] < lines["Effective robustness"]).all()
    few = rows[rows["method"].isin(["average", "ties"])].drop(columns="chance")
    assert "Effective robustness" not in board(compare(few), few, {})
    data = payload(rows, {}, "", (), ())
    assert {"robustness", "norm_chance"} <= data["metrics"].keys()
    shown = {(view["metric"], view["name"]) for view in data["views"]}
    assert {("robustness", "Shifts"), ("norm_chance", "Tasks, clean")} <= shown
    assert ("robustness", "Tasks, clean") not in shown
    assert "robustness" not in payload(few, {}, "", (), ())["metrics"]


def test_the_figure_has_a_point_for_each_method_and_the_line(rows):
    figure = plots.draw(rows)
    grid = arrange(rows, "robustness")
    found = fit_of(grid, shifted_cells(grid))
    (axes,) = figure.axes
    line, *others = axes.get_lines()
    x, y = line.get_data()
    assert y == pytest.approx(found.line.intercept + found.line.slope * np.asarray(x))
    points = {other.get_label().split("  ")[0]: other for other in others
              if not other.get_label().startswith("_")}  # fmt: skip
    assert set(points) == {METHODS[name][0] for name in METHODS}
    ties = points["TIES-Merging"]
    e = [entry.key for entry in grid.entries].index("ties")
    assert ties.get_xdata() == pytest.approx([logit(found.clean[e])])
    assert ties.get_markerfacecolor() != "none"
    assert points["Individual"].get_markerfacecolor() == "none"
    assert f"{100 * found.residuals[e]:+.1f} [" in ties.get_label()
    near = [float(label.get_text()) for label in axes.get_xticklabels()]
    assert logit(np.array(near) / 100) == pytest.approx(axes.get_xticks(), abs=0.01)


# -- metrics that are newer than results


def newer(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The same with a newer metric, which TIES lacks under a shift."""
    more = rows[rows["metric"] == "ece"].assign(metric=metric)
    lacking = (more["method"] == "ties") & (more["severity"] == 3)
    return pd.concat([rows, more[~lacking]], ignore_index=True)


def test_a_line_that_is_older_than_a_metric_has_a_dash(rows):
    whole = newer(rows, "brier")
    table = compare(whole, "brier")
    assert [entry.key for entry in table.entries] == [e.key for e in compare(rows).entries]
    assert np.isnan(table.cells["ties", "fog@3"].value)
    assert table.printed(table.cells["ties", "fog@3"].value) == "-"
    ece = compare(rows, "ece").cells["ties", "clean"].value
    assert table.cells["ties", "clean"].value == ece
    text = " ".join(render(table).split())
    assert "-: not measured, or in results older than this metric (TIES-Merging)." in text
    assert not np.isnan(best(table)["best/brier/fog@3"])
    for form in ("md", "csv", "latex"):
        assert render(table, form)
    with pytest.raises(UserError, match="not known of every method"):
        ranking(whole, "brier")
    data = payload(whole, {}, "", (), ())
    view = next(view for view in data["views"] if view["metric"] == "brier")
    assert [data["entries"][line]["key"] for line in view["lines"]] == [
        entry.key for entry in table.entries if entry.key != "ties"
    ]
    with pytest.raises(UserError, match="run `python -m bench sweep --force` first"):
        compare(rows, "brier")


def test_calibration_errors_say_what_chance_adds(rows):
    more = rows[rows["metric"] == "ece"].assign(metric="floor:ece")
    floors = pd.concat([rows, more], ignore_index=True)
    low = floors[floors["metric"] == "floor:ece"].groupby("method")["value"].mean() * 100
    note = compare(floors, "ece").notes["floor"]
    assert f"{low.min():.1f} to {low.max():.1f} % would be shown by perfectly calibrated" in note
    assert "floor" not in compare(rows, "ece").notes
    table = compare(floors, "floor:ece")
    assert table.title.startswith("Floor of ece (perfectly calibrated) on")
    assert (table.leaders, "verdict" in table.notes) == ({}, False)
    partly = floors.drop(floors.index[floors["metric"] == "floor:ece"][0])
    assert "floor" not in compare(partly, "ece").notes
