"""The figure of a search: what is drawn, and which constants are said to matter."""

import json
from itertools import accumulate

import numpy as np
import pytest
from PIL import Image

from bench.reporting import tuning_history
from bench.reporting.tuning_history import history_of, importance
from bench.reporting.wandb import learning_curves
from results.plots.search import SEEN, History, history
from results.plots.style import save
from results.store import Store
from tests.helpers.result_frames import make_rows

SPACE = {"alpha.qkv": [1e-4, 1e6, True], "scale.qkv": [0.3, 2.0, False]}


def searched(seed: int = 0, count: int = 32, base: float = 0.8) -> dict:
    """A report of a search in which the scale decides and alpha does not."""
    random = np.random.default_rng(seed)
    trials, points = [], [{"alpha.qkv": 1e6, "scale.qkv": 1.0}]  # the anchor is tried first
    while len(points) < count:
        points.append({"alpha.qkv": 10 ** random.uniform(-4, 6),
                       "scale.qkv": random.uniform(0.3, 2)})  # fmt: skip
    for point in points:
        value = base - 0.3 * (point["scale.qkv"] - 1.2) ** 2
        trials.append({"params": point, "value": value, "seconds": 0.1})
    return {"trials": trials, "space": SPACE, "anchor": trials[0]["value"],
            "objective": "normalised", "budget": count}  # fmt: skip


def test_what_decides_is_important():
    share = importance([searched(seed) for seed in range(3)])
    assert list(share) == ["scale.qkv", "alpha.qkv"]
    assert share["scale.qkv"] > 0.8
    assert sum(share.values()) == pytest.approx(1)
    assert importance([searched(count=9)]) == {}  # too few to tell


def test_a_search_that_began_higher_is_not_the_better_one():
    level = importance([searched(0), searched(1)])
    apart = importance([searched(0), searched(1, base=1.1)])  # its worst is above the other's best
    assert apart == pytest.approx(level)


def test_shares_that_are_equal_stand_in_the_order_of_the_space():
    """Where nothing decides every trial counts as good: no constant is more important."""
    report = searched()
    report["trials"] = [one | {"value": 0.8} for one in report["trials"]]
    report["anchor"] = 0.8
    assert list(importance([report]).items()) == [("alpha.qkv", 0.5), ("scale.qkv", 0.5)]


def rows_with(variants=("",), seeds=(0, 1)):
    rows = make_rows(["adamerging"], shifts=[("clean", 0)], seeds=seeds)
    return rows.assign(variant=variants[0])


@pytest.fixture
def reports(monkeypatch):
    """Run -> what it tells; the store is not asked."""
    told: dict[str, dict] = {}
    monkeypatch.setattr(tuning_history, "report_of", lambda _, run: told.get(run, {}))
    return told


def test_a_history_has_every_seed(reports, tmp_path):
    rows = rows_with()
    runs = list(rows["run_id"].unique())
    reports.update({run: searched(seed) for seed, run in enumerate(runs)})
    found = history_of(rows, Store(tmp_path))
    assert list(found.values) == ["seed 0", "seed 1"]
    assert found.values["seed 1"] == [t["value"] for t in searched(1)["trials"]]
    assert found.anchor["seed 0"] == searched(0)["trials"][0]["value"]
    assert "AdaMerging on pocket8" in found.title
    assert list(found.importance) == ["scale.qkv", "alpha.qkv"]


def drawn(**fields) -> History:
    values = {f"seed {s}": [t["value"] for t in searched(s)["trials"]] for s in (0, 1)}
    whole = {"title": "BMM (reimpl.) on pocket8", "objective": "normalised", "values": values,
             "anchor": {name: each[0] for name, each in values.items()},
             "importance": {"scale.qkv": 0.9, "alpha.qkv": 0.1}}  # fmt: skip
    return History(**(whole | fields))


def test_the_figure_shows_points_the_best_so_far_and_the_anchor():
    found = drawn()
    left, right = history(found).axes
    lines = {line.get_label(): line for line in left.lines}
    for name, values in found.values.items():
        best = [100 * value for value in accumulate(values, max)]
        assert lines[f"best, {name}"].get_ydata() == pytest.approx(best)
    assert lines["the anchor itself"].get_ydata()[0] == pytest.approx(
        100 * min(found.anchor.values())
    )
    low, high = left.get_ylim()
    every = np.concatenate([100 * np.array(each) for each in found.values.values()])
    assert (every >= low).mean() >= SEEN - 0.02
    assert every.max() < high
    assert [bar.get_width() for bar in right.patches] == [0.9, 0.1]
    assert [label.get_text() for label in right.get_yticklabels()] == ["scale.qkv", "alpha.qkv"]


def test_every_trial_is_drawn_once_and_a_bad_one_at_the_foot():
    values = {"seed 0": [0.5, 0.8, 0.81, 0.1, 0.82, 0.83, 0.8, 0.81]}
    axes = history(drawn(values=values, anchor={"seed 0": 0.5}, importance={})).axes
    assert len(axes) == 1  # too few trials for an importance
    low, _ = axes[0].get_ylim()
    points = [line for line in axes[0].lines if line.get_marker() in ("o", "v")]
    heights = sorted(y for line in points for y in line.get_ydata())
    assert heights == pytest.approx([low, *sorted(100 * v for v in values["seed 0"])[1:]])


def test_equal_values_and_many_constants_can_be_drawn(tmp_path):
    flat = {"seed 0": [0.5] * 12}
    many = {f"alpha.{group}.{third}": 1 / 24 for group in "abcdefgh"
            for third in ("early", "middle", "late")}  # fmt: skip
    figure = history(drawn(values=flat, anchor={"seed 0": 0.5}, importance=many))
    path = save(figure, tmp_path / "search.png")
    assert Image.open(path).size[1] > 900  # 24 bars need room


def test_who_did_not_search_is_refused(command, smoke):
    said = command("plot", "search", "--methods", "ties", "--out", smoke).error
    assert said == "no method here searched on val; choose a sweep with one, e.g. bmm"


def test_two_lines_that_searched_are_not_mixed(reports, command, smoke):
    rows = Store(smoke).read()
    for run in rows["run_id"].unique():
        reports[run] = searched()
    said = command("plot", "search", "--methods", "ties", "average", "--out", smoke).error
    assert "2 methods searched on val (average, ties); choose one" in said


def test_the_command_writes_a_picture(reports, command, smoke, tmp_path):
    reports.update({run: searched() for run in Store(smoke).read()["run_id"].unique()})
    path = tmp_path / "search.png"
    done = command("plot", "search", "--methods", "ties", "--out", smoke, "-o", path)
    assert done.code == 0
    assert Image.open(path).size[0] > 1000


def test_curves_for_the_mirror_hold_the_search():
    lesson = {"shift": "", "curves": {"loss": [1.0]}, "report": json.loads(json.dumps(searched()))}
    found = learning_curves([lesson])
    values = [trial["value"] for trial in searched()["trials"]]
    assert found["search"] == values
    assert found["search_best"][-1] == max(values)
    assert found["loss"] == [1.0]
    assert "search" not in learning_curves([{"shift": "", "curves": {}, "report": {}}])
