"""What was chosen on val: its score there, on test, and the difference; who chose, at what cost."""

import csv
import io
import json
import math
import shutil
import subprocess
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
import torch

from bench.reporting.tuning_history import choices_of
from bench.stages import artifacts
from mergeshift import UserError
from results.render.text import render, write_latex
from results.statistics import mean_interval, wilson
from results.store import Store
from results.tables.comparison import compare
from results.tables.tuning import Choice, Tuning, gap_of, tuning, written
from tests.helpers.result_frames import TASKS, hits_of, make_rows

CLEAN = [("clean", 0)]
ALPHAS = {"alpha.qkv": 1234.5, "alpha.out": 0.01, "scale.qkv": 1.25, "scale.out": 0.5}


def choice(share: float, budget: int = 32, **constants: object) -> Choice:
    return Choice(
        constants=constants or {"keep": 0.2, "zero_sign": "zero"},
        budget=budget,
        val={task: share + 0.01 * number for number, task in enumerate(TASKS)},
        counts=dict.fromkeys(TASKS, 80),
    )


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    static = make_rows(["pretrained", "ties"], shifts=CLEAN).assign(seeded=False)
    learning = make_rows(["adamerging"], shifts=CLEAN, seeds=(0, 1))
    return pd.concat([static, learning], ignore_index=True)


def runs_of(rows: pd.DataFrame, method: str) -> list[str]:
    return list(rows[rows["method"] == method]["run_id"].unique())


@pytest.fixture(scope="module")
def table(rows: pd.DataFrame) -> Tuning:
    (ties,), (first, second) = (runs_of(rows, name) for name in ("ties", "adamerging"))
    return tuning(
        rows,
        {ties: choice(0.7), first: choice(0.8, 100, **ALPHAS), second: choice(0.9, 100, **ALPHAS)},
    )


def test_a_line_by_hand(table: Tuning) -> None:
    found = table.lines["ties", "seed 0"]
    # val: .70 .71 .72 .73 of 80 images each
    assert found.val.value == pytest.approx(0.715)
    limits = np.array([wilson(80 * p, 80) for p in (0.7, 0.71, 0.72, 0.73)])
    below = np.sqrt(((np.array([0.7, 0.71, 0.72, 0.73]) - limits[:, 0]) ** 2).sum()) / 4
    assert found.val.low == pytest.approx(0.715 - below)
    test = np.mean([hits_of("ties", task, ("clean", 0), 0, 120).mean() for task in TASKS])
    assert found.test.value == pytest.approx(test)
    assert found.gap.value == pytest.approx(0.715 - test)
    assert found.budget == 32


def test_the_interval_of_a_difference_is_that_of_independent_normals_where_samples_are_large():
    # Two splits of 10,000 images at .6 and .5: z sqrt(.24 / 1e4 + .25 / 1e4) = 1.96 * .007
    gap = gap_of(mean_interval([0.6], [10_000]), mean_interval([0.5], [10_000]))
    half = NormalDist().inv_cdf(0.975) * math.sqrt(0.24e-4 + 0.25e-4)
    assert gap.value == pytest.approx(0.1)
    assert gap.high - 0.1 == pytest.approx(half, rel=5e-3)
    assert 0.1 - gap.low == pytest.approx(half, rel=5e-3)


def test_seeds_stand_apart_and_together(rows: pd.DataFrame, table: Tuning) -> None:
    names = [name for key, name in table.lines if key == "adamerging"]
    assert names == ["seed 0", "seed 1", "all seeds"]
    together = table.lines["adamerging", "all seeds"]
    assert together.val.value == pytest.approx(0.865)  # of .815 and .915
    expected = compare(rows, by="shift").cells["adamerging", "clean"]
    assert together.test == pytest.approx((expected.value, expected.low, expected.high))
    assert together.constants == {}
    single = table.lines["adamerging", "seed 1"].val
    assert together.val.margin == pytest.approx(single.margin, rel=0.2)  # not by sqrt(2) smaller


def test_who_chose_nothing_is_named(table: Tuning) -> None:
    assert [entry.key for entry in table.entries] == ["ties", "adamerging"]
    assert table.notes["others"] == "Methods that choose nothing on validation data: Pretrained."


def test_unseen_tasks_and_shifted_images_are_left_out(rows: pd.DataFrame) -> None:
    (ties,) = runs_of(rows, "ties")
    shifted = make_rows(["ties"], shifts=[("contrast", 5)]).assign(seeded=False)
    more = pd.concat([rows[rows["method"] == "ties"], shifted], ignore_index=True)
    more["seen"] = more["task"] != TASKS[0]
    val = Choice(
        constants={"keep": 0.2},
        budget=32,
        val=dict.fromkeys(TASKS[1:], 0.7),
        counts=dict.fromkeys(TASKS[1:], 80),
    )
    found = tuning(more, {ties: val}).lines["ties", "seed 0"]
    hits = [hits_of("ties", task, ("clean", 0), 0, 120).mean() for task in TASKS[1:]]
    assert found.test.value == pytest.approx(np.mean(hits))


def test_what_is_missing_is_said(rows: pd.DataFrame) -> None:
    with pytest.raises(UserError, match="no method here chose anything on val"):
        tuning(rows, {})
    (ties,) = runs_of(rows, "ties")
    with pytest.raises(UserError, match="add the shift clean"):
        tuning(make_rows(["ties"], shifts=[("contrast", 5)]), {ties: choice(0.7)})


def test_a_choice_without_a_score_has_dashes(rows: pd.DataFrame) -> None:
    (ties,) = runs_of(rows, "ties")
    bare = Choice(constants={"kappa": 0.1}, budget=50, val={}, counts={})
    table = tuning(rows, {ties: bare})
    line = next(row for row in render(table, "md").splitlines() if "TIES" in row)
    assert line.split(" | ")[2:6] == ["50", "-", line.split(" | ")[4], "-"]


@pytest.mark.parametrize("form", ["text", "md", "latex"])
def test_every_format_tells_all_of_it(table: Tuning, form: str) -> None:
    text = render(table, form).replace("\\", "").replace("$", "").replace("{}", "")
    for part in ("32", "100", "71.5", "86.5", "seed 1", "all seeds", "qkv 1.23e+03"):
        assert part in " ".join(text.split()), part
    assert "zero_sign=zero" in text


def test_csv_has_every_number(table: Tuning) -> None:
    lines = list(csv.DictReader(io.StringIO(render(table, "csv"))))
    assert [(line["entry"], line["column"]) for line in lines] == list(table.lines)
    assert float(lines[0]["gap"]) == 100 * table.lines["ties", "seed 0"].gap.value
    assert lines[1]["chosen"] == written(ALPHAS)


def test_latex_compiles(table: Tuning, tmp_path) -> None:
    files = write_latex(table, tmp_path / "table.tex", standalone=True)
    assert "p{6cm}" in files[0].read_text()
    if shutil.which("pdflatex"):
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", files[0].name]
        assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0


# -- where choices come from ---------------------------------------------------------------------


def test_the_choice_of_a_tuned_run_is_read_from_what_is_stored(smoke) -> None:
    store = Store(smoke)
    found = choices_of(store, store.run_ids())
    assert {run.split("-")[1] for run in found} == {"task_arithmetic", "ties"}
    for run, chosen in found.items():
        facts = store.run(run)["tuning"]
        score = next(t["accuracy"] for t in facts["trials"] if t["config"] == facts["config"])
        assert chosen.val == score
        assert chosen.budget == len(facts["trials"])
        config = json.loads(facts["config"])
        assert chosen.constants == {name: config[name] for name in json.loads(facts["grid"])}
        assert set(chosen.counts.values()) == {24}


def told(store: Store, run: str, report: dict, shift: str = "") -> None:
    """Keep what a run tells of its learning."""
    file = store.folder / "cells" / run / f"learned{'-' * bool(shift)}{shift}.safetensors"
    artifacts.save(file, {"w": torch.ones(1)}, {"shift": shift, "report": report})


def test_the_choice_of_a_method_that_searches_is_what_it_tells(tmp_path) -> None:
    store, val = Store(tmp_path), {"toy_two": 0.8, "toy_three": 0.7}
    report = {"budget": 50, "constants": {"scale.out": 1.5}, "val": val}
    store.write_run("a", {"config": json.dumps({"val_images": 16, "trials": 50})})
    told(store, "a", report)
    store.write_run("b", {"config": json.dumps({"val_images": 0})})  # all: 24 of each
    told(store, "b", report | {"budget": 9}, "clean")
    told(store, "b", report | {"budget": 7}, "contrast@5-cifar10-c-input-v1")
    store.write_run("c", {"config": "{}"})
    told(store, "c", {"problems": []})  # it learned, but chose nothing
    found = choices_of(store, ["a", "b", "c"])
    assert list(found) == ["a", "b"]
    assert found["a"] == Choice(
        constants={"scale.out": 1.5}, budget=50, val=val, counts=dict.fromkeys(val, 16)
    )
    assert found["b"].budget == 9
    assert found["b"].counts == dict.fromkeys(val, 24)


def test_a_search_inside_a_tuned_method_costs_their_product(tmp_path) -> None:
    store, config = Store(tmp_path), json.dumps({"keep": 0.1, "trials": 5})
    trial = {"config": config, "score": 0.9, "accuracy": {"toy_two": 0.6}}
    store.write_run(
        "a",
        {"config": config, "tuning": {"config": config, "grid": json.dumps({"keep": [0.1, 0.2]}),
                                      "budget": 2, "trials": [trial]}},
    )  # fmt: skip
    told(store, "a", {"budget": 5, "constants": {"scale.out": 1.5}, "val": {"toy_two": 0.8}})
    (found,) = choices_of(store, ["a"]).values()
    assert found.constants == {"keep": 0.1, "scale.out": 1.5}
    assert (found.budget, found.val) == (10, {"toy_two": 0.8})


def test_table_by_tuning(command, smoke) -> None:
    shown = command("table", "--by", "tuning", "--out", smoke)
    assert shown.code == 0
    assert "Methods that choose nothing on validation data: Pretrained, Average" in shown.out
    assert "scale=" in shown.out
    said = command("table", "--by", "tuning", "--metric", "ece", "--out", smoke).error
    assert "is about accuracy" in said
    lacking = command("table", "--by", "tuning", "--methods", "average", "--out", smoke).error
    assert "no method here chose anything on val" in lacking
