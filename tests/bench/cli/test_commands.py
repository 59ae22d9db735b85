"""Commands, as a user runs them: what they print, write and leave alone."""

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bench.cli.app import spread_lists
from bench.sweeps import SWEEPS
from bench.zoo.experts import experts_of
from corruptions import contract as of_corruptions
from corruptions.base import CORRUPTIONS, SHIFT_SETS
from methods import METHODS
from methods.contract import all_checks
from results.store import Store
from tasks import SUITES, TASKS, suite
from tasks import contract as of_tasks
from tasks.domains import DOMAINS
from tests.helpers.toy_sweep import everything, measured, run_ids

SMOKE = SWEEPS["smoke"]
QUICK = ("--jobs", 1, "--wandb", "off")


@pytest.fixture
def out(smoke, tmp_path) -> Path:
    """A finished sweep of one's own."""
    return Path(shutil.copytree(smoke, tmp_path / "out"))


@pytest.fixture
def accuracy(smoke) -> pd.DataFrame:
    """Mean accuracy over tasks, in percent: method x shift, computed from the stored hits."""
    rows = measured(smoke).xs("acc", level="metric").reset_index()
    bits = [np.unpackbits(np.frombuffer(b, np.uint8), count=24).mean() for b in rows["hits"]]
    rows["percent"] = 100 * np.array(bits)
    names = {"clean": "clean", "contrast": "contrast@5"}
    return rows.pivot_table("percent", "method", rows["corruption"].map(names))


# -- list ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("what", "names", "keys"), [
    ("methods", METHODS, {"paper", "needs", "stores"}),
    ("tasks", TASKS, {"licence", "may be used by", "read in", "classes", "reserved"}),
    ("suites", SUITES, {"tasks", "download MB"}),
    ("shifts", [*CORRUPTIONS, "L1", "L2", "L3", *SHIFT_SETS, "prior",
                *(f"domain:{name}" for name in DOMAINS)], {"source", "family"}),
])  # fmt: skip
def test_list_shows_what_is_there(what, names, keys, command):
    rows = json.loads(command("list", what, "--json").out)
    assert sorted(row["name"] for row in rows) == sorted(names)
    assert all(keys <= set(row) for row in rows)
    shown = command("list", what)
    assert shown.code == 0
    assert all(name in shown.out for name in names)
    assert command("list", what, "--markdown").out.count("\n") == len(rows) + 2


def test_list_gives_paper_needs_and_licence(command):
    methods = {row["name"]: row for row in json.loads(command("list", "methods", "--json").out)}
    assert "2306.01708" in methods["ties"]["paper"]
    assert methods["ties"]["needs"] == "weights only"
    assert methods["individual"]["knows task"] is True
    tasks = {row["name"]: row for row in json.loads(command("list", "tasks", "--json").out)}
    assert tasks["kanji"]["licence"].startswith("CC-BY-SA-3.0")
    assert tasks["kanji"]["may be used by"].startswith("anyone who names the authors and shares")
    assert tasks["kanji"]["read in"] == "kanjivg-20260714.dist-info/licenses/COPYING"
    assert all(row["licence"] and row["may be used by"] for row in tasks.values())
    assert tasks["kanji"]["train/adapt/val/test"] == "1497/250/251/333"
    assert tasks["kanji"]["reserved"] == 166


# -- sweep ---------------------------------------------------------------------------------------


def test_list_options_take_several_words():
    words = ["sweep", "--seeds", "0", "1", "--shifts", "clean", "L1", "--force", "--methods", "a,b"]
    assert spread_lists(words) == ["sweep", "--seeds", "0", "--seeds", "1", "--shifts", "clean",
                             "--shifts", "L1", "--force", "--methods", "a,b"]  # fmt: skip
    assert spread_lists(["table", "--paired", "a", "b", "-o", "x"]) == [
        "table", "--paired", "a", "--paired", "b", "-o", "x"]  # fmt: skip


def test_a_dry_run_prints_the_plan_and_writes_nothing(command, tmp_path, monkeypatch):
    monkeypatch.setenv("MERGESHIFT_HOME", str(tmp_path / "home"))
    words = ("sweep", "smoke", "--dry-run", "--methods", "average,ties", "--seeds", 0, 1,
             "--shifts", "clean", "L1", "--out", tmp_path / "out")  # fmt: skip
    shown = command(*words)
    assert shown.code == 0
    # 2 methods, whose seed changes nothing; clean and the seven of L1 = 8 shifts
    assert "2 runs x 8 shifts = 16 cells: 0 done, 16 to do" in shown.out
    assert "3 experts to fine-tune, 1 methods to tune" in shown.out
    assert "trainings" not in shown.out  # nobody learns
    assert everything(tmp_path) == {}


@pytest.mark.parametrize(("adapt_on", "said"), [
    ("adapt", "from the adapt split, once for all shifts: 2 trainings to do (8 steps)"),
    ("shifted", "from the test images, under each shift: 4 trainings to do (16 steps)"),
])  # fmt: skip
def test_a_dry_run_says_how_much_there_is_to_learn(adapt_on, said, command, tmp_path):
    words = ("sweep", "smoke", "--dry-run", "--methods", "average", "adamerging", "--seeds", 0, 1,
             "--set", "adamerging.steps=4", "--adapt-on", adapt_on, "--out", tmp_path)  # fmt: skip
    shown = command(*words)
    assert f"1 methods learn {said}" in shown.out
    assert everything(tmp_path) == {}
    assert "adapt_on of a sweep is one of" in command(*words, "--adapt-on", "train").error


def test_a_dry_run_with_force_deletes_nothing(command, out):
    Store(out).path(run_ids(SMOKE)["ties"], "clean").write_bytes(b"damaged")
    before = everything(out)
    assert command("sweep", "smoke", "--dry-run", "--force", "--out", out).code == 0
    assert everything(out) == before


def test_a_sweep_from_a_file_ends_in_a_leaderboard(command, out, tmp_path, accuracy):
    path = tmp_path / "mine.toml"
    path.write_text('suite = "toy"\nlimit = 24\nmethods = ["ties", "individual"]\n'
                    'shifts = ["contrast@5", "clean"]\n')  # fmt: skip
    shown = command("sweep", path, *QUICK, "--out", out)
    assert shown.code == 0
    assert "4 cells: 4 done, 0 to do" in shown.out  # they are those of the smoke sweep
    for method, title in (("ties", "TIES"), ("individual", "Individual")):
        (line,) = [line for line in shown.out.splitlines() if line.startswith(title)]
        assert f"{accuracy.loc[method, 'clean']:.1f}" in line
        assert f"{accuracy.loc[method, 'contrast@5']:.1f}" in line
    assert command("table", "--sweep", "mine", "--out", out).code == 0


def test_runs_are_mirrored_once(command, tmp_path):
    words = ("sweep", "smoke", "--methods", "average", "--shifts", "clean", "--jobs", 1,
             "--wandb", "offline", "--out", tmp_path)  # fmt: skip
    assert command(*words).code == 0
    first = sorted((tmp_path / "wandb").glob("offline-run-*"))
    assert len(first) == 2  # the run and the comparison
    assert command(*words).code == 0
    assert sorted((tmp_path / "wandb").glob("offline-run-*")) == first


# -- table, plot, sanity -------------------------------------------------------------------------


def test_a_table_in_four_formats_shows_the_same_numbers(command, smoke, accuracy):
    text, md, made, latex = (
        command("table", "--format", format, "--out", smoke).out
        for format in ("text", "md", "csv", "latex")
    )
    frame = pd.read_csv(io.StringIO(made)).set_index(["method", "column"])
    for method in SMOKE.methods:
        title, clean = METHODS[method].title, accuracy.loc[method, "clean"]
        for shift in ("clean", "contrast@5"):
            value = accuracy.loc[method, shift]
            assert frame.loc[(method, shift), "value"] == pytest.approx(value)
            for shown in (text, md, latex):
                lines = [line for line in shown.splitlines() if title in line]
                assert any(f"{value:.1f}" in line for line in lines)
        drop = 100 * (clean - accuracy.loc[method, "contrast@5"]) / clean
        assert frame.loc[(method, "contrast@5"), "drop"] == pytest.approx(-drop)
    header, rule, *rows = [line for line in md.splitlines() if line.startswith("|")]
    assert set(rule) <= set("|-: ")
    assert {line.count("|") for line in (header, *rows)} == {header.count("|")}
    assert all(word in latex for word in (r"\toprule", r"\bottomrule", r"\cite{yadav2023ties}"))
    assert latex.count("{") == latex.count("}")


def test_tables_by_task_severity_and_pair(command, smoke):
    shown = command("table", "--by", "task", "--shift", "contrast@5", "--format", "csv",
                    "--out", smoke)  # fmt: skip
    frame = pd.read_csv(io.StringIO(shown.out)).set_index(["method", "column"])["value"]
    stored = measured(smoke)["value"].xs("acc", level="metric").xs("contrast", level="corruption")
    for method in SMOKE.methods:
        for task in suite("toy"):
            expected = stored.loc[(method, 0, task.name)].item()
            assert frame[method, task.name] == pytest.approx(100 * expected)
    assert command("table", "--by", "severity", "--metric", "nll", "--out", smoke).code == 0
    pair = command("table", "--paired", "ties", "average", "--out", smoke)
    assert pair.code == 0
    assert "ties - average (points)" in pair.out
    assert command("table", "--paired", "ties,average", "--out", smoke).out == pair.out


def test_a_table_over_unequal_cells_is_refused(command, out):
    lost = Store(out).path(run_ids(SMOKE)["ties"], "clean")
    lost.unlink()
    error = command("table", "--out", out).error
    assert "ties" in error.lower()
    assert "clean" in error
    assert command("table", "--methods", "average", "individual", "--out", out).code == 0


def test_a_table_in_a_file(command, smoke, tmp_path):
    shown = command("table", "--format", "csv", "--out", smoke).out
    path = tmp_path / "deep" / "table.csv"
    assert command("table", "--format", "csv", "--out", smoke, "-o", path).code == 0
    assert path.read_text(encoding="utf-8") == shown
    words = ("table", "--format", "latex", "--standalone", "--out", smoke, "-o")
    assert command(*words, tmp_path / "t.tex").code == 0
    assert r"\begin{document}" in (tmp_path / "t.tex").read_text(encoding="utf-8")
    assert "yadav2023ties" in next(tmp_path.glob("*.bib")).read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["severity", "heatmap"])
def test_a_plot_is_a_picture(kind, command, smoke, tmp_path):
    assert command("plot", kind, "--out", smoke, "-o", tmp_path / "plot.png").code == 0
    with Image.open(tmp_path / "plot.png") as picture:
        assert min(picture.size) > 200
        assert len(np.unique(np.asarray(picture.convert("L")))) > 10  # something is drawn
    assert command("plot", kind, "--out", smoke, "-o", tmp_path / "plot.pdf").code == 0
    assert (tmp_path / "plot.pdf").read_bytes().startswith(b"%PDF-")
    assert "png, pdf, svg" in command("plot", kind, "--out", smoke, "-o", "plot.txt").error


def test_sanity_says_what_holds(command, smoke, out, accuracy):
    shown = command("sanity", "--out", smoke)
    for method in ("pretrained", "average", "individual"):
        assert f"{method} {accuracy.loc[method, 'clean']:.1f}" in shown.out
    assert shown.code == ("DOES NOT HOLD" in shown.out)
    words = ("sweep", "smoke", "--methods", "pretrained", "average", *QUICK, "--out", out)
    assert command(*words).code == 0
    assert "no merge was measured" in command("sanity", "--out", out).error


@pytest.mark.parametrize("name", ["average", "gaussian_noise", "toy_two"])
def test_check_runs_the_contract(command, name):
    """Of a method, of a corruption (with both sets of constants) and of a task."""
    shown = command("check", name)
    assert shown.code == 0
    contracts = {
        "average": all_checks(),
        "gaussian_noise": 2 * of_corruptions.CHECKS,
        "toy_two": of_tasks.CHECKS,
    }
    assert shown.out.count(" ok") == len(contracts[name])


def test_check_says_what_does_not_hold(command, monkeypatch):
    broken = replace(TASKS["toy_two"], noun="", title="")
    monkeypatch.setitem(TASKS._items, "toy_two", broken)
    shown = command("check", "toy_two")
    assert shown.code == 1
    assert shown.out.count(" ok") == len(of_tasks.CHECKS) - 1
    assert "its_entry_is_complete" in shown.out
    assert "it has no title" in shown.out


def test_the_zoo_shows_its_experts(command, smoke):
    shown = command("zoo", "build", "--suite", "toy", "--jobs", 1)
    assert shown.code == 0
    for expert in experts_of("toy-vit", suite("toy"), 0):
        (line,) = [line for line in shown.out.splitlines() if line.split()[:1] == [expert.task]]
        assert f"{100 * expert.facts()['val_accuracy']:.1f}" in line
    assert command("zoo", "list", "--suite", "toy", "--expert-seed", 9).out.count("not made") == 3
