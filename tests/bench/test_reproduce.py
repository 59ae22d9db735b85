"""Published rows run again: what is run, against which row, and the verdict."""

import json
from dataclasses import replace

import pandas as pd
import pytest

from bench import reproduce
from bench.config import Sweep
from bench.reproduce import REPRODUCTIONS, Finding, Reproduction, compared, summary
from bench.variants import parse
from bench.zoo.encoders import ENCODERS
from corruptions.base import PROTOCOL
from mergeshift import UserError
from methods import METHODS
from results.published import sources
from results.schema import check
from results.store import Store
from tasks import SUITES, suite
from tests.helpers.published import line, publish
from tests.helpers.result_frames import make_rows
from tests.helpers.toy_sweep import everything, sweep_into

TASKS = SUITES["toy"].names
CLEAN = (("clean", 0),)


def config_of(text: str) -> str:
    parsed = parse(text)
    config = METHODS[parsed.method].Config.make(parsed.fields)
    return json.dumps(config.as_dict(), sort_keys=True)


def rows_of(wanted: Reproduction, sweep: Sweep) -> pd.DataFrame:
    """Rows as the sweep would write them."""
    parts = [
        make_rows(["average"], SUITES[sweep.suite].names, CLEAN, n=40).assign(
            method=parse(text).method, title=text, config=config_of(text), suite=sweep.suite,
            encoder=wanted.encoder, world="vision",
        )
        for text in wanted.methods
    ]  # fmt: skip
    return check(pd.concat(parts))


def test_the_rows_of_the_acceptance_test_are_there():
    assert {"average-b32", "task-arithmetic-b32", "zero-shot-b32", "robustness4"} <= set(
        REPRODUCTIONS
    )
    assert REPRODUCTIONS["average-b32"].source == "fusionbench_exact"


@pytest.mark.parametrize("name", REPRODUCTIONS)
def test_every_task_and_mean_of_a_reproduction_was_published(name):
    wanted = REPRODUCTIONS[name]
    assert wanted.encoder in ENCODERS
    for sweep in wanted.sweeps:
        assert sweep.suite.partition("@")[2] in ("published", *PROTOCOL)
        assert (sweep.tune, sweep.adapt_on, sweep.limit) == (False, "test", None)
        found = compared(wanted, rows_of(wanted, sweep))
        tasks = [task.name.partition("@")[0] for task in suite(sweep.suite)]
        assert [one.task for one in found] == [*tasks, "mean"] * len(wanted.methods)


def test_what_robustness4_reads():
    """FusionBench's copies of four tasks, whose published means we know."""
    wanted = REPRODUCTIONS["robustness4"]
    sweeps = list(wanted.sweeps)
    assert [sweep.suite for sweep in sweeps] == [
        f"vision4_robustness@{part}" for part in ("published", *PROTOCOL)
    ]
    means = {}
    for sweep in sweeps:
        for one in compared(wanted, rows_of(wanted, sweep)):
            if one.task == "mean":
                means[one.title.partition("[")[0], one.images] = round(100 * one.published, 1)
    clean = {"task_arithmetic": 77.9, "ties": 73.5}
    pixelate = {"task_arithmetic": 30.0, "ties": 27.9}
    jpeg = {"task_arithmetic": 67.8, "ties": 63.9}
    for part, stated in {"published": clean, "pixelate": pixelate,
                         "jpeg_compression": jpeg}.items():  # fmt: skip
        assert {name: means[name, part] for name in stated} == stated


def test_published_means_of_the_anchors():
    for name, mean in (("average-b32", 66.53), ("task-arithmetic-b32", 68.01),
                       ("zero-shot-b32", 48.2), ("zero-shot-20-b32", 55.65)):  # fmt: skip
        wanted = REPRODUCTIONS[name]
        (sweep,) = wanted.sweeps
        found = compared(wanted, rows_of(wanted, sweep))
        assert 100 * found[-1].published == pytest.approx(mean, abs=0.006)


def test_the_row_with_our_constants_is_taken():
    wanted = REPRODUCTIONS["task-arithmetic-b32"]
    (sweep,) = wanted.sweeps
    rows = rows_of(wanted, sweep)
    rows["config"] = '{"scale": 0.4}'
    with pytest.raises(UserError, match="nothing is published of task_arithmetic there"):
        compared(wanted, rows)


def finding(ours: float, theirs: float, task: str = "mean") -> Finding:
    return Finding(title="Average", images="clean", task=task, ours=ours, published=theirs,
                   tolerance=0.002)  # fmt: skip


def test_the_verdict():
    wanted = REPRODUCTIONS["average-b32"]
    good = [finding(0.6650, 0.6653), finding(0.648, 0.6494, "svhn")]
    assert all(one.agrees for one in good)
    assert summary(wanted, good) == (
        "average-b32 agrees: means within 0.03, tasks within 0.14 points of what was published"
    )
    bad = finding(0.66, 0.6653)
    assert not bad.agrees
    assert "DOES NOT AGREE (1 of 3 numbers): means within 0.53" in summary(wanted, [*good, bad])


# -- a toy reproduction, run


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Averages published on the toy suite: register what was measured, moved by some points."""
    sweep = Sweep(name="before", suite="toy", methods=("average",), shifts=("clean",), tune=False)
    sweep_into(tmp_path / "before", sweep)
    rows = Store(tmp_path / "before").read()
    rows = rows[rows["metric"] == "acc"].set_index("task")["value"]
    wanted = Reproduction(name="toy-average", source="fake", methods=("average",), suite="toy",
                          encoder="toy-vit", mean=0.1, task=0.5)  # fmt: skip
    registry = type(REPRODUCTIONS)("reproduction")
    registry.add(wanted.name, wanted)
    monkeypatch.setattr("bench.reproduce.REPRODUCTIONS", registry)
    monkeypatch.setattr(sources, "FOLDER", tmp_path / "published")

    def publish_with(*moved: float) -> None:
        values = {task: rows[task] + by for task, by in zip(TASKS, moved, strict=True)}
        publish(tmp_path / "published", line("average", values), "toy", "toy-vit")

    return publish_with


def test_reproduce_agrees(command, toy, tmp_path):
    toy(0.004, -0.004, 0)  # 0.4 points; one is allowed 0.5 and rounding, 0.05; the mean 0
    out = tmp_path / "out"
    words = ("reproduce", "toy-average", "--out", out, "--jobs", 1)
    assert command(*words, "--dry-run").code == 0
    assert everything(out) == {}
    shown = command(*words)
    assert shown.code == 0
    assert "toy-average, against Fake & Co" in shown.out
    assert shown.out.count("agrees") == 5  # three tasks, the mean, the sentence
    assert "toy-average agrees: means within 0.0" in shown.out
    again = command(*words)
    assert "1 done, 0 to do" in again.out  # nothing is measured twice


@pytest.mark.parametrize("moved", [(0.03, -0.03, 0), (0.003, 0.003, 0.003)])
def test_reproduce_differs(moved, command, toy, tmp_path):
    toy(*moved)  # a task by 3 points; or the mean by 0.3
    shown = command("reproduce", "toy-average", "--out", tmp_path / "out", "--jobs", 1)
    assert shown.code == 1
    assert "DIFFERS" in shown.out
    assert "toy-average DOES NOT AGREE" in shown.out


def test_on_fewer_images_the_interval_adds_to_the_tolerance(command, toy, tmp_path):
    """But not where the limit leaves all images there are: then nothing is left to chance."""
    toy(0.03, -0.03, 0)
    words = ("reproduce", "toy-average", "--out", tmp_path / "out", "--jobs", 1)
    shown = command(*words, "--limit", 24)
    assert shown.code == 0
    assert "toy-average agrees" in shown.out
    made = "Tolerance: 0.1 points of a mean, 0.5 of a task, 0.05 for rounding"
    assert f"{made}, and our 95 % interval, as these are not all test images." in " ".join(
        shown.out.split()
    )
    whole = command(*words, "--limit", 48)
    assert whole.code == 1
    assert f"{made}." in " ".join(whole.out.split())
    assert "got '-3'" in command(*words, "--limit", -3).error
    assert "there is no cuda:99 here" in command(*words, "--device", "cuda:99").error


def test_the_tolerance_of_a_sample_is_its_interval(toy, monkeypatch):
    """Of 24 images Wilson's: 0.5 of a task, half a digit of rounding, and the longer side."""
    toy(0, 0, 0)
    rows = make_rows(["average"], TASKS, CLEAN, n=24, suite="toy", encoder="toy-vit", world="toy")
    wanted = Reproduction(name="x", source="fake", methods=("average",), suite="toy",
                          encoder="toy-vit")  # fmt: skip
    found = {one.task: one for one in compared(wanted, rows)}
    share, n, z = found["toy_two"].ours, 24, 1.959964
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    margin = max(middle + half - share, share - middle + half)
    assert found["toy_two"].tolerance == pytest.approx(0.005 + 0.0005 + margin, abs=1e-6)


def test_names(command, toy):
    assert "toy-average" in command("reproduce").out
    assert "no reproduction named 'toy-averag'; did" in command("reproduce", "toy-averag").error


def test_reproductions_are_listed_with_their_source(command):
    rows = json.loads(command("list", "published", "--json").out)
    told = [name for row in rows for name in row["reproduce"].split(", ") if name]
    assert sorted(told) == sorted(REPRODUCTIONS)


def test_of_many_copies_means_and_what_differs_are_shown(command, toy, monkeypatch, tmp_path):
    from bench.cli.reproduce import comparison

    toy(0, 0, 0)
    wanted = replace(REPRODUCTIONS["robustness4"], source="fake")
    shown = comparison(wanted, [finding(0.5, 0.5), finding(0.5, 0.5, "gtsrb"),
                                finding(0.5, 0.6, "eurosat")])  # fmt: skip
    (names,) = [list(column.cells) for column in shown.columns[:1]]
    assert names == ["clean, mean", "clean, eurosat"]
    assert reproduce.POINT == 0.01
