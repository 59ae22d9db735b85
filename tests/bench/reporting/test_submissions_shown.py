"""A user's way with external predictions: template, add, and what shows them then."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from bench.sweeps import SWEEPS
from results.store import Store
from tasks import SUITES, TASKS
from tests.helpers.toy_sweep import stamps, sweep_into
from tests.helpers.wandb_file import log_out
from tests.helpers.wandb_server import served

SMOKE = SWEEPS["smoke"]


@pytest.fixture
def out(smoke, tmp_path):
    return shutil.copytree(smoke, tmp_path / "out")


@pytest.fixture
def fill(command, out, tmp_path):
    """What another program does: read the template, answer every row, write it down."""

    def run(sure: float = 0.6, **columns: object) -> pd.DataFrame:
        path = tmp_path / f"template{len(list(tmp_path.iterdir()))}.parquet"
        assert command("results", "template", "-o", path, "--out", out).code == 0
        frame = pd.read_parquet(path)
        counts = frame["task"].map({name: len(task.classes) for name, task in TASKS.items()})
        frame["prediction"] = frame["image"] % counts
        return frame.assign(confidence=sure, **columns)

    return run


@pytest.fixture
def service(monkeypatch, tmp_path):
    log_out(monkeypatch, tmp_path)
    yield from served(monkeypatch)


def test_the_template_filled_in_is_in_every_table(command, out, fill, add):
    frame = fill()
    assert add(frame, "--knows-task").code == 0
    rows = Store(out).read()
    rows = rows[(rows["method"] == "mine") & (rows["metric"] == "acc")]
    for task, part in rows.groupby("task"):  # by hand, from the labels
        labels = SUITES["toy"].datamodule([], limit=SMOKE.limit).labels(TASKS[task], "test")
        right = np.arange(len(labels)) % len(TASKS[task].classes) == labels
        assert part["value"].tolist() == [right.mean()] * 2
    for words in (("table",), ("table", "--by", "task"), ("table", "--by", "severity"),
                  ("table", "--metric", "ece"), ("table", "--by", "tuning"),
                  ("table", "--methods", "mine", "ties")):  # fmt: skip
        assert re.search(r"\bmine\b", command(*words, "--out", out).out), words


def test_it_stays_when_the_sweep_is_run_again(command, out, fill, add):
    add(fill())
    before = command("table", "--format", "csv", "--out", out).out
    sweep_into(out, SMOKE)
    assert command("table", "--format", "csv", "--out", out).out == before
    sweep_into(out, SMOKE, force=True)
    assert command("table", "--format", "csv", "--out", out).out == before


def test_a_sweep_that_gains_a_shift_says_what_it_leaves_out(command, out, fill, add):
    add(fill())
    assert not command("table", "--out", out).err
    sweep_into(out, replace(SMOKE, shifts=(*SMOKE.shifts, "contrast@1")))
    shown = command("table", "--out", out)
    assert not re.search(r"\bmine\b", shown.out)
    assert "has shifts or data that they did not see: mine; `evaluate` or" in shown.err
    assert add(fill()).code == 0
    assert re.search(r"\bmine\b", command("table", "--out", out).out)


def test_the_newest_of_a_name_stands_whatever_else_the_file_holds(command, out, fill, add):
    one = fill()
    both = pd.concat([one, one.assign(method=" theirs ")])  # spaces around a name mean nothing
    assert "added mine, theirs to sweep smoke" in add(both).out
    other = one.assign(prediction=0)
    assert "'mine' stands in the tables of sweep smoke already" in add(other).error
    assert add(other, "--force").code == 0
    table = pd.read_csv(
        pd.io.common.StringIO(command("table", "--format", "csv", "--out", out).out)
    ).set_index(["entry", "column"])
    first = SUITES["toy"].datamodule([], tasks=one["task"].unique(), limit=SMOKE.limit)
    zero = [np.mean(first.labels(task, "test") == 0) for task in first.tasks]
    assert table.loc[("mine", "clean"), "value"] == pytest.approx(100 * np.mean(zero))
    assert ("theirs", "clean") in table.index
    files = stamps(out).keys()
    assert add(other, "--needs", "test stream").code == 0  # said otherwise, measured the same
    assert stamps(out).keys() == files
    assert "mine (external) (transductive)" in command("table", "--out", out).out


def test_examples_are_asked_of_methods_alone(command, out, fill, add, tmp_path):
    add(fill())
    words = ("report", "-o", tmp_path / "page.html", "--out", out, "--examples", 1)
    said = command(*words, "--methods", "mine").error
    assert said.startswith("examples are asked of methods, and here are external predictions")
    assert command(*words, "--methods", "mine", "average").code == 0


def test_uncertainty_asks_for_confidence(command, out, fill, add):
    sweep_into(out, replace(SMOKE, uncertainty=True))
    assert add(fill().drop(columns="confidence")).code == 0
    told = " ".join(command("table", "--by", "uncertainty", "--out", out).out.split())
    assert (
        "because no per-image results are stored: mine; run `python -m bench evaluate` again"
        in told
    )
    assert "or `results add` with confidence or probabilities" in told
    frame = fill()
    frame["confidence"] = np.where(frame["image"] % 2, 0.9, 0.6)
    assert add(frame, "--force").code == 0
    shown = command("table", "--by", "uncertainty", "--format", "csv", "--out", out).out
    table = pd.read_csv(pd.io.common.StringIO(shown))
    assert set(table.loc[table["entry"] == "mine", "score"]) == {"max_prob"}


def test_a_csv_holds_no_lists(command, out, fill, tmp_path):
    path = tmp_path / "predictions.CSV"
    fill().to_csv(path, index=False)
    assert command("results", "add", path, "--out", out).code == 0
    fill(probabilities="[1, 0]").to_csv(path, index=False)
    said = command("results", "add", path, "--out", out).error
    assert said == f"{path} cannot hold lists of probabilities; write it as .parquet"


def test_the_leaderboard_has_it(command, out, fill, add, service):
    add(fill())
    words = ("leaderboard", "--project", "P", "--out", out, "--methods", "average", "mine")
    assert command(*words).code == 0
    board = service.run("smoke-leaderboard", "P").table("leaderboard").set_index("method")
    rows = Store(out).read()
    mine = rows[(rows["method"] == "mine") & (rows["metric"] == "acc")]
    clean = mine[mine["corruption"] == "clean"]["value"].mean()
    assert board.loc["mine (external)", "clean"] == pytest.approx(100 * clean)
    assert board.loc["Average", "parameters"] > 0
    assert not board.loc["mine (external)", "parameters"] > 0  # nothing is known of its costs
    run = service.run(f"smoke-{mine['run_id'].iloc[0]}", "P")
    assert run.config["method"] == "mine"
    assert "cost/merge_s" not in run.summary
    assert "mine" in json.dumps(next(iter(service.views.values())))
    assert command(*words).code == 0
    assert service.unknown == []
