"""External predictions: in the tables they are as if made here, or refused."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.reporting import submissions
from bench.sweeps import SWEEPS
from mergeshift import UserError
from results import predictions
from results.predictions import Answers, Truth
from results.store import Store
from tasks import SUITES, TASKS
from tests.helpers.toy_sweep import KEYS, stamps, sweep_into

SMOKE = SWEEPS["smoke"]


@pytest.fixture
def out(smoke, tmp_path) -> Path:
    return Path(shutil.copytree(smoke, tmp_path / "out"))


def labels(task: str) -> np.ndarray:
    return SUITES[SMOKE.suite].datamodule([], limit=SMOKE.limit).labels(TASKS[task], "test")


@pytest.fixture
def frame(out) -> pd.DataFrame:
    """Predictions that are right where ``average`` is right, with probabilities by hand."""
    rows = Store(out).read()
    rows = rows[(rows["method"] == "average") & (rows["metric"] == "acc")]
    parts = []
    for row in rows.itertuples():
        right = np.unpackbits(np.frombuffer(row.hits, np.uint8), count=row.n).astype(bool)
        truth, classes = labels(row.task), len(TASKS[row.task].classes)
        predicted = np.where(right, truth, (truth + 1) % classes)
        p = np.full((row.n, classes), 0.4 / (classes - 1))
        p[np.arange(row.n), predicted] = 0.6
        shift = "clean" if row.severity == 0 else f"{row.corruption}@{row.severity}"
        cell = {"method": "theirs & 100%", "task": row.task, "shift": shift, "seed": 0}
        parts.append(pd.DataFrame(
            {**cell, "image": np.arange(row.n), "prediction": predicted, "probabilities": list(p)}
        ))  # fmt: skip
    return pd.concat(parts, ignore_index=True).sample(frac=1, random_state=0)  # in any order


def test_what_was_predicted_elsewhere_stands_in_the_tables(add, command, out, frame):
    shown = add(frame, "--needs", "unlabelled images", "--stores", "two models", "--cite", "a2030")
    assert shown.code == 0
    assert "added theirs & 100% to sweep smoke: 2 cells" in " ".join(shown.out.split())
    rows = Store(out).read().set_index(KEYS).sort_index()
    theirs, ours = rows.loc["theirs & 100%"], rows.loc["average"]
    mine = theirs[theirs.index.get_level_values("metric") == "acc"]
    same = ours.loc[mine.index, mine.columns]
    pd.testing.assert_frame_equal(mine[["value", "hits", "n"]], same[["value", "hits", "n"]])
    assert set(theirs["needs"]) == {"unlabelled images"}
    for form in ("text", "md", "csv", "latex"):
        assert re.search(
            r"theirs .{0,2}& 100", command("table", "--format", form, "--out", out).out
        )
    table = pd.read_csv(
        pd.io.common.StringIO(command("table", "--format", "csv", "--out", out).out)
    )
    table = table.set_index(["entry", "column"])
    assert (
        table.loc[("theirs & 100%", "clean"), "value"] == table.loc[("average", "clean"), "value"]
    )
    assert table.loc[("theirs & 100%", "clean"), "allowance"] == (
        "data used: unlabelled images; storage: two models"
    )
    for words in (("--by", "task"), ("--metric", "ece"), ("--metric", "nll"), ("--by", "tuning"),
                  ("--paired", "theirs & 100%", "average")):  # fmt: skip
        assert command("table", *words, "--out", out).code == 0, words
    page = out / "report.html"
    assert command("report", "--examples", 1, "-o", page, "--out", out).code == 0
    assert re.search(r"theirs (&|\\u0026|&amp;) 100%", page.read_text())
    assert command("plot", "heatmap", "-o", out / "map.svg", "--out", out).code == 0
    assert "theirs" not in command("table", "--metric", "eval_s", "--out", out).out
    paired = command("table", "--paired", "theirs & 100%", "average", "--out", out).out
    assert paired.count("no verdict") == 2


def test_metrics_by_hand(add, out, frame):
    """A class of 0.6: nll is -log 0.6 where right, -log(0.4 / (C - 1)) where wrong."""
    assert add(frame).code == 0
    rows = Store(out).read()
    cells = rows[rows["method"] == "theirs & 100%"].pivot_table(
        index=["task", "severity"], columns="metric", values="value"
    )
    for (task, _), cell in cells.iterrows():
        wrong = 0.4 / (len(TASKS[task].classes) - 1)
        expected = -cell["acc"] * np.log(0.6) - (1 - cell["acc"]) * np.log(wrong)
        assert cell["nll"] == pytest.approx(expected)
        assert cell["ece"] == pytest.approx(abs(cell["acc"] - 0.6))  # all in one bin
        others = (len(TASKS[task].classes) - 1) * (0.4 / (len(TASKS[task].classes) - 1)) ** 2
        right, rest = 0.16 + others, 0.36 + (1 - wrong) ** 2 + others - wrong**2
        assert cell["brier"] == pytest.approx(cell["acc"] * right + (1 - cell["acc"]) * rest)
        assert cell["aurc"] == pytest.approx(1 - cell["acc"])  # all equally sure


def test_names_of_classes_a_csv_and_the_same_twice(add, command, out, frame, tmp_path):
    names = [TASKS[t].classes[p] for t, p in zip(frame["task"], frame["prediction"], strict=True)]
    plain = frame.drop(columns=["probabilities", "seed"]).assign(prediction=names, confidence=0.6)
    plain.to_csv(tmp_path / "predictions.csv", index=False)
    assert command("results", "add", tmp_path / "predictions.csv", "--out", out).code == 0
    rows = Store(out).read()
    rows = rows[rows["method"] == "theirs & 100%"]
    of_classes, of_confidence = {"bacc", "worst_acc"}, {"ece", "aece", "dece", "aurc"}
    floors = {"floor:ece", "floor:aece"}
    assert set(rows["metric"]) == {"acc"} | of_classes | of_confidence | floors
    before = stamps(out, "**/*.parquet").keys()
    assert command("results", "add", tmp_path / "predictions.csv", "--out", out).code == 0
    assert stamps(out).keys() == before
    assert add(frame, "--force").code == 0  # anew: the newest of a name stands in the table
    assert command("table", "--out", out).out.count("theirs &") == 1


def test_seeds_are_averaged_and_have_to_be_those_of_the_sweep(command, frame, out, tmp_path):
    path = tmp_path / "predictions.parquet"
    pd.concat([frame, frame.assign(seed=1)]).to_parquet(path)
    error = command("results", "add", path, "--out", out).error
    assert "has seeds 0 1, sweep smoke has 0" in error
    sweep_into(out, replace(SMOKE, seeds=(0, 1)))
    assert command("results", "add", path, "--out", out).code == 0
    shown = command("table", "--format", "csv", "--out", out).out
    (line,) = [one for one in shown.splitlines() if "theirs & 100%" in one and ",clean," in one]
    assert re.search(r",0\.0,", line)  # spread over two seeds that are alike


def test_doubts_are_kept_where_the_sweep_keeps_them(command, frame, out, tmp_path):
    sweep_into(out, replace(SMOKE, uncertainty=True, methods=("average", "individual")))
    frame.to_parquet(tmp_path / "predictions.parquet")
    assert command("results", "add", tmp_path / "predictions.parquet", "--out", out).code == 0
    shown = command("table", "--by", "uncertainty", "--out", out)
    assert shown.code == 0
    assert "theirs & 100%" in shown.out


def test_the_template_asks_for_everything_once(command, frame, out, tmp_path):
    path = tmp_path / "template.parquet"
    assert command("results", "template", "-o", path, "--out", out).code == 0
    keys = ["task", "shift", "image"]
    asked = pd.read_parquet(path).sort_values(keys)[keys].reset_index(drop=True)
    pd.testing.assert_frame_equal(asked, frame.sort_values(keys)[keys].reset_index(drop=True))
    assert "is no class" in command("results", "add", path, "--out", out).error
    before = path.read_bytes()  # it may be filled in by now
    assert "is there already" in command("results", "template", "-o", path, "--out", out).err
    assert path.read_bytes() == before
    assert command("results", "template", "-o", tmp_path / "x.csv", "--out", out).code == 2


def wrong(frame: pd.DataFrame, column: str, value: object) -> pd.DataFrame:
    frame = frame.reset_index(drop=True)
    return frame.assign(**{column: [value, *frame[column][1:]]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="image"), "lacks image"),
        (lambda f: f.assign(logits=1), "has logits, which mean nothing here"),
        (lambda f: f[:0], "holds no predictions"),
        (lambda f: f.assign(method="ties"), "'ties' is a method here"),
        (lambda f: f.assign(method=""), "column 'method' has missing values"),
        (lambda f: f.assign(method=None), "column 'method' has missing values"),
        (lambda f: f.assign(method="a, b"), "no option could name 'a, b'; leave out commas"),
        (lambda f: f.assign(method="a\nb"), "no option could name 'a\\nb'"),
        (lambda f: f.assign(task="cars"), "no task 'cars' in this sweep"),
        (lambda f: f[f["shift"] == "clean"], "lacks 3 of 6 cells of this sweep, e.g. task="),
        (lambda f: f.assign(shift=f["shift"].replace("contrast@5", "contrst@5")),
         "shift=contrast@5; it has no shift contrst@5"),
        (lambda f: f[:-1], "one prediction for each of 24 images is needed; 1 are missing"),
        (lambda f: pd.concat([f, f[:1]]), "1 images stand there twice"),
        (lambda f: wrong(f, "image", 24), "image 24 does not exist; there are 24, 0 to 23"),
        (lambda f: wrong(f, "image", 0.5), "column 'image' holds whole numbers"),
        (lambda f: wrong(f, "prediction", 99), "prediction 99 is no class"),
        (lambda f: wrong(f, "prediction", np.nan), "column 'prediction' holds whole numbers"),
        (lambda f: f.assign(prediction="a\nb"), "no class 'a\\nb'; classes: "),
        (lambda f: f.assign(confidence=1.5), "every confidence is a number in [0, 1]"),
        (lambda f: wrong(f.assign(confidence=0.5), "confidence", np.nan), "every confidence is"),
        (lambda f: f.assign(probabilities=[[0.5, 0.5]] * len(f)), "probabilities are lists of"),
        (lambda f: f.assign(probabilities=[["a"] * len(p) for p in f["probabilities"]]),
         "probabilities are lists of"),
        (lambda f: f.assign(probabilities=[p * 2 for p in f["probabilities"]]), "add up to 1"),
        (lambda f: f.assign(probabilities=[p[::-1] for p in f["probabilities"]]),
         "not the class of its largest probability"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line_and_store_nothing(add, out, frame, change, message):
    before = stamps(out, "**/*.*")
    assert message in add(change(frame)).error
    assert stamps(out, "**/*.*") == before


def test_files_that_cannot_be_read(command, out, tmp_path):
    assert "no file" in command("results", "add", tmp_path / "none.parquet", "--out", out).error
    (tmp_path / "bad.parquet").write_text("no parquet\nat all")
    assert "cannot read" in command("results", "add", tmp_path / "bad.parquet", "--out", out).error
    assert "no sweep" in command("results", "add", "x", "--out", tmp_path / "empty").error


def test_shifts_that_the_sweep_does_not_have_are_left_out(add, frame):
    more = frame[frame["shift"] == "clean"].assign(shift="fog@3")
    shown = add(pd.concat([frame, more]))
    assert "left out, as the sweep does not have them: fog@3" in " ".join(shown.out.split())


def test_one_class_and_a_certain_mistake():
    """Nothing is infinite, and a task of one class is sure and right."""
    found, _ = predictions.measure(
        Answers(np.zeros(2, int), np.ones(2), np.ones((2, 1))), np.zeros(2, int)
    )
    assert {found.pop(name) for name in ("acc", "bacc", "worst_acc")} == {1.0}
    assert set(found) >= {"nll", "ece", "brier"}
    assert set(found.values()) == {0.0}
    sure = Answers(np.array([0]), np.array([1.0]), np.array([[1.0, 0.0]]))
    assert predictions.measure(sure, np.array([1]))[0]["nll"] == pytest.approx(87.34, abs=0.01)
    truth = {"t": Truth(np.array([0]), ("a",))}
    empty = pd.DataFrame({"method": ["m"], "task": ["t"], "shift": ["clean"], "image": [0],
                          "prediction": [0], "seed": [0]})  # fmt: skip
    assert list(predictions.answers(empty, truth, ["clean"])[0]) == [("m", 0)]
    with pytest.raises(UserError, match="no sweep 'x'"):
        submissions.plan_of(Path("/nowhere"), "x")
