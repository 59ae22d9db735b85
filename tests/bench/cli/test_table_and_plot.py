"""The commands that show what routed and learning methods did, on results written by hand."""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.special import expit, logit

from bench.reporting.wandb import learning_curves, protocol
from bench.stages import artifacts
from results.store import Store
from tests.helpers.result_frames import make_rows
from tests.helpers.routed_frames import routed_rows

TASKS = ("mnist", "letters")
SHIFTS = (("clean", 0), ("contrast", 1))
KEYS = ("clean", "contrast@1-cifar10-c-input-v1")


def record(out: Path, rows: pd.DataFrame) -> None:
    """Write rows as a sweep would have."""
    store = Store(out)
    for (run, severity), part in rows.groupby(["run_id", "severity"]):
        store.write(str(run), KEYS[int(severity)], part)
    sweep = {
        "kind": "sweep", "name": "hand", "sweep": {}, "shifts": list(KEYS), "seconds": {},
        "runs": dict(rows[["run_id", "method"]].drop_duplicates().values.tolist()),
        "started": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip
    (out / "sweeps").mkdir(exist_ok=True)
    (out / "sweeps" / "hand.json").write_text(json.dumps(sweep))


def teach(out: Path, run: str, coefficients: dict, shift: str = "") -> None:
    """Keep what a run learned."""
    name = f"learned-{shift}" if shift else "learned"
    facts = {"seconds": 2.0, "peak_mb": 9.0, "steps": 3, "shift": shift,
             "adapt_on": "shifted" if shift else "adapt", "curves": {"loss": [3.0, 2.0, 1.0]},
             "coefficients": coefficients}  # fmt: skip
    file = out / "cells" / run / f"{name}.safetensors"
    artifacts.save(file, {"coef": torch.tensor([0.3])}, facts)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Two seeds of methods that learn or route, one of those that do neither."""
    fixed = make_rows(["average", "individual"], TASKS, SHIFTS, seeded=False)
    ada = make_rows(["adamerging"], TASKS, SHIFTS, seeds=(0, 1))
    rows = pd.concat([fixed, ada, routed_rows(tasks=TASKS, shifts=SHIFTS, seeds=(0, 1))])
    record(tmp_path, rows)
    for seed in (0, 1):
        layers = {"proj": {"mnist": 0.3 + seed, "letters": 0.1}}
        teach(tmp_path, f"pocket8-adamerging-{seed}", layers)
        teach(tmp_path, f"pocket8-twin_merging-{seed}", {})  # a router is no coefficient
    return tmp_path


def test_table_by_routing(command, out):
    shown = command("table", "--by", "routing", "--out", out)
    assert shown.code == 0
    assert "Centroid Router" in shown.out
    frame = pd.read_csv(io.StringIO(command("table", "--by", "routing", "--format", "csv",
                                            "--out", out).out))  # fmt: skip
    assert frame["method"].unique().tolist() == ["twin_merging", "centroid_router"]  # by year
    assert frame["column"].unique().tolist() == ["clean", "contrast@1"]
    total = frame["expert"] + frame["compression"] + frame["routing"]
    np.testing.assert_allclose(frame["error"], total)
    assert np.isfinite(frame["route_acc"]).all()


def test_table_by_routing_of_one_method_finds_the_experts_itself(command, out, tmp_path):
    shown = command("table", "--by", "routing", "--methods", "twin_merging", "--out", out)
    assert shown.code == 0
    assert "Twin-Merging" in shown.out
    assert "Centroid" not in shown.out
    path = tmp_path / "split.tex"
    words = ("table", "--by", "routing", "--format", "latex", "--out", out, "-o", path)
    assert command(*words, "--standalone").code == 0
    assert r"\begin{document}" in path.read_text()
    assert path.with_suffix(".bib").exists()
    assert "label{tab:acc-routing}" in path.read_text()


def test_table_by_routing_says_what_it_lacks(command, tmp_path):
    record(tmp_path, make_rows(["average", "individual"], TASKS, SHIFTS))
    words = ("table", "--by", "routing", "--out", tmp_path)
    assert "no routed method here" in command(*words).error
    assert "leave out --metric nll" in command(*words, "--metric", "nll").error
    record(tmp_path, routed_rows(tasks=TASKS, shifts=SHIFTS))
    assert "individual, which was not measured" in command(*words).error
    error = command(*words, "--methods", "twin_merging").error
    assert "no results of individual" in error


def test_metrics_of_routed_methods_alone(command, out):
    shown = command("table", "--metric", "route_acc", "--out", out)
    assert shown.code == 0
    assert "Twin-Merging" in shown.out
    assert "Average" not in shown.out
    assert command("table", "--metric", "route:mnist", "--by", "task", "--out", out).code == 0
    assert "(there: acc, " in command("table", "--metric", "route:mnst", "--out", out).error


def test_plot_routing_is_of_one_method(command, out, tmp_path):
    words = ("plot", "routing", "--out", out, "-o", tmp_path / "routing.png")
    assert "2 methods route (centroid_router, twin_merging)" in command(*words).error
    assert command(*words, "--methods", "twin_merging").code == 0
    with Image.open(tmp_path / "routing.png") as image:
        assert min(image.size) > 200
    assert "no method here routes" in command(*words, "--methods", "average").error


def test_plot_coefficients_is_of_one_method_and_its_first_seed(command, out, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("results.plots.learned.coefficients", lambda *values: drawn.append(values))
    monkeypatch.setattr("results.plots.style.save", lambda figure, path: path)
    assert command("plot", "coefficients", "--out", out).code == 0
    values, title, tasks = drawn.pop()
    assert tasks == list(TASKS)
    assert values == {"proj": {"mnist": 0.3, "letters": 0.1}}
    setting = "pocket (small ViT, 32 px; not CLIP)"
    assert title == f"AdaMerging: coefficients on pocket8; setting: {setting}; seed 0"
    error = command("plot", "coefficients", "--methods", "average", "--out", out).error
    assert "no method here learned coefficients" in error
    teach(out, "pocket8-twin_merging-0", {"all": {"mnist": 1.0}})
    error = command("plot", "coefficients", "--out", out).error
    assert "2 methods learned coefficients (adamerging, twin_merging)" in error
    assert command("plot", "coefficients", "--methods", "twin_merging", "--out", out).code == 0


def test_plot_coefficients_writes_a_picture_and_names_its_shift(command, out, tmp_path):
    (out / "cells" / "pocket8-adamerging-0" / "learned.safetensors").unlink()
    teach(out, "pocket8-adamerging-0", {"proj": {"mnist": 0.5}}, KEYS[1])
    path = tmp_path / "map.svg"
    words = ("plot", "coefficients", "--methods", "adamerging", "--out", out, "-o", path)
    assert command(*words).code == 0
    assert path.read_text().lstrip().startswith("<?xml")


def test_sanity_leaves_routed_methods_out_of_the_order_of_merges(command, out):
    fixed = make_rows(["pretrained", "average", "individual"], TASKS, SHIFTS, seeded=False)
    routed = routed_rows(["twin_merging"], TASKS, SHIFTS, stores="two models, a router")
    record(out, pd.concat([fixed, make_rows(["ties"], TASKS, SHIFTS), routed]))
    shown = command("sanity", "--out", out)
    assert "average" in shown.out
    assert "< ties" in shown.out
    assert "twin_merging" not in shown.out


# -- what W&B is told of learning


def test_the_protocol_of_a_run():
    assert protocol([]) == {}
    lesson = {"adapt_on": "shifted", "steps": 5, "seconds": 2.0, "peak_mb": 7.0}
    assert protocol([lesson, {**lesson, "seconds": 3.0, "peak_mb": 8.0}]) == {
        "adaptation": {"adapt_on": "shifted", "trainings": 2, "steps": 5, "seconds": 5.0,
                       "peak_mb": 8.0}
    }  # fmt: skip


def test_curves_under_several_shifts_are_told_apart():
    lessons = [
        {"shift": key, "curves": {"loss": [1.0], "mean/mnist": [2.0]}} for key in ("", *KEYS)
    ]
    assert list(learning_curves(lessons)) == [
        "loss", "mean/mnist", "clean/loss", "clean/mean/mnist", "contrast@1/loss",
        "contrast@1/mean/mnist",
    ]  # fmt: skip


def test_results_that_name_a_former_task_are_still_shown(command, tmp_path):
    methods = ["average", "individual", "ties"]
    record(tmp_path, make_rows(methods, ("mnist", "games"), SHIFTS, seeded=False))
    shown = command("table", "--by", "task", "--out", tmp_path)
    assert shown.code == 0
    assert "games" in shown.out
    paper = command("table", "--format", "latex", "--preset", "per-task", "--out", tmp_path)
    assert paper.code == 0
    assert "Games" in paper.out


def test_corruption_errors_are_a_table_of_the_command(command, smoke):
    """One corruption at one severity: CE is a ratio of two errors."""
    text = command("table", "--by", "mce", "--reference", "average", "--format", "csv",
                   "--out", smoke).out  # fmt: skip
    found = pd.read_csv(io.StringIO(text)).set_index(["method", "column"])
    for method in ("pretrained", "ties", "average"):
        ours, theirs = (found.loc[(one, "contrast"), "error"] for one in (method, "average"))
        assert found.loc[(method, "contrast"), "ce"] == pytest.approx(100 * ours / theirs)
    assert set(found["reference"]) == {"average"}
    said = command("table", "--by", "mce", "--reference", "nobody", "--out", smoke).error
    assert "'nobody' is not one line of these results" in said
    said = command("table", "--reference", "average", "--out", smoke).error
    assert "--by mce" in said
    assert "leave out --metric" in command("table", "--by", "mce", "--metric", "nll",
                                           "--out", smoke).error  # fmt: skip


def test_metrics_over_all_lines_of_a_table(command, smoke, tmp_path):
    """Effective robustness and normalised accuracy above chance, from the accuracies by hand."""

    def shown(*words: str) -> pd.Series:
        text = command("table", *words, "--format", "csv", "--out", smoke).out
        return pd.read_csv(io.StringIO(text)).set_index(["method", "column"])["value"] / 100

    acc = shown().unstack()
    static = acc.loc[["average", "task_arithmetic", "ties"]]
    slope, intercept = np.polyfit(logit(static["clean"]), logit(static["contrast@5"]), 1)
    expected = acc["contrast@5"] - expit(intercept + slope * logit(acc["clean"]))
    found = shown("--metric", "robustness").unstack()
    assert found["contrast@5"].to_dict() == pytest.approx(expected.to_dict())
    by_task = shown("--by", "task").unstack().drop(columns="mean")
    above = by_task - pd.Series({"toy_two": 1 / 2, "toy_three": 1 / 3, "toy_four": 1 / 4})
    ratios = (above / above.loc["individual"]).mean(axis=1)
    found = shown("--metric", "norm_chance").unstack()
    assert found["clean"].to_dict() == pytest.approx(ratios.to_dict())
    figure = tmp_path / "line.svg"
    drawn = command("plot", "effective-robustness", "-o", figure, "--out", smoke)
    assert (drawn.code, figure.exists()) == (0, True)
    few = ("--methods", "ties,average", "--out", smoke)
    for words in (("plot", "effective-robustness"), ("table", "--metric", "robustness")):
        assert "have 2 (average, ties): measure more" in command(*words, *few).error
    assert (
        "leave out --metric nll"
        in command("plot", "effective-robustness", "--metric", "nll", "--out", smoke).error
    )
    for metric in ("brier", "aece", "dece", "aurc", "bacc", "worst_acc", "floor:ece"):
        assert command("table", "--metric", metric, "--out", smoke).code == 0, metric
