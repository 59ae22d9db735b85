"""Data sets whose revision is not pinned: results keep the commit, and no sweep mixes two."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from bench.config import Sweep
from bench.plan import resolve
from bench.stages.build import bind
from mergeshift import home
from results.store import Store
from tests.helpers import tiny_vision_suite as tiny
from tests.helpers.fake_hub_run import parquet
from tests.helpers.tiny_vision_suite import DATA
from tests.helpers.toy_sweep import Outcome, forget, measured, stamps

PETS = DATA[2]
PARTS = {  # of each data set the part that is tested, by the names on the hub
    "tests/lights": "tests/lights/test",
    "tests/digits": "tests/digits/cropped/test",
    "tests/pets": "tests/pets/validation",
}
TINY = Sweep(suite=tiny.SUITE, encoder=tiny.NAME, methods=("average",), tune=False)


def notes(folder: Path) -> dict[str, dict]:
    """Method -> what belongs to its run."""
    found = [json.loads(path.read_text()) for path in folder.glob("cells/*/run.json")]
    return {facts["run"]["method"]: facts for facts in found}


def commits(hub) -> dict[str, str]:
    return {part: hub.heads["datasets", name] for name, part in PARTS.items()}


def change(hub) -> None:
    """Commit other pictures of pets, and let this machine have none of the old ones."""
    pictures, labels = PETS.pictures("test")
    other = [255 - picture for picture in pictures]
    file = parquet(other, labels.tolist(), PETS.classes, format=PETS.format)
    hub.add("datasets", PETS.repository, PETS.files(test=file))
    lose()


def lose() -> None:
    shutil.rmtree(home() / "hub")
    forget()


def test_results_keep_the_commits_of_what_they_were_measured_on(tiny_sweep, tiny_hub, tmp_path):
    tiny_sweep(methods=("average",), shifts=("clean",))
    tiny_sweep("--val", "as-published", methods=("average",), shifts=("clean",), out="published")
    assert notes(tmp_path / "out")["average"]["data"] == commits(tiny_hub)
    train = {f"{part.rpartition('/')[0]}/train": c for part, c in commits(tiny_hub).items()}
    assert notes(tmp_path / "published")["average"]["data"] == commits(tiny_hub) | train


def test_what_is_pinned_is_not_noted(tiny_sweep, tiny_hub, tmp_path):
    pinned = {data.name: tiny_hub.heads["datasets", data.repository] for data in DATA}
    with tiny.registered(**pinned):
        tiny_sweep(methods=("average",), shifts=("clean",))
        assert "data" not in notes(tmp_path / "out")["average"]
    with tiny.registered(**{"tiny_pets": pinned["tiny_pets"]}):
        tiny_sweep(methods=("average",), shifts=("clean",), out="other")
        assert PARTS["tests/pets"] not in notes(tmp_path / "other")["average"]["data"]


@pytest.fixture
def resumed(tiny_sweep, tiny_hub):
    """Measure a method, and then another after what happened in between."""

    def run(happens, *words: object, before: str = "average") -> Outcome:
        assert tiny_sweep(methods=(before,), shifts=("clean",)).code == 0
        happens()
        return tiny_sweep(*words, methods=(before, "pretrained"), shifts=("clean",))

    return run


def test_a_sweep_does_not_go_on_with_another_commit(resumed, tiny_sweep, tiny_hub, tmp_path):
    old = tiny_hub.heads["datasets", PETS.repository]
    done = resumed(lambda: change(tiny_hub))
    new = tiny_hub.heads["datasets", PETS.repository]
    assert f"data set tests/pets/validation is of commit {new[:12]} here, vision_tiny-average-" in (
        done.error
    )
    assert f"has seen {old[:12]}: run again with --force" in done.error
    before = stamps(tmp_path / "out", "cells/**/*.*")
    assert list(notes(tmp_path / "out")) == ["average"]
    methods = {"methods": ("average", "pretrained"), "shifts": ("clean",)}
    assert tiny_sweep(methods=("average",), shifts=("clean",)).code == 0  # nothing is to be done
    assert stamps(tmp_path / "out", "cells/**/*.*") == before
    assert tiny_sweep(**methods, out="elsewhere").code == 0
    assert tiny_sweep("--force", **methods).code == 0
    assert {m: n["data"] for m, n in notes(tmp_path / "out").items()} == {
        method: commits(tiny_hub) for method in methods["methods"]
    }
    assert measured(tmp_path / "out").equals(measured(tmp_path / "elsewhere"))


def test_force_over_some_shifts_leaves_nothing_of_another_commit(tiny_sweep, tiny_hub, tmp_path):
    both = {"methods": ("average",), "shifts": ("clean", "contrast@5")}
    tiny_sweep(**both)
    change(tiny_hub)
    assert tiny_sweep("--force", methods=("average",), shifts=("clean",)).code == 0
    assert tiny_sweep(**both).code == 0
    assert tiny_sweep(**both, out="elsewhere").code == 0
    assert measured(tmp_path / "out").equals(measured(tmp_path / "elsewhere"))


def test_predictions_on_another_commit_are_left_out(tiny_sweep, tiny_hub, command, tmp_path):
    tiny_sweep(methods=("average",), shifts=("clean",))
    out, path = tmp_path / "out", tmp_path / "mine.parquet"
    assert command("results", "template", "-o", path, "--out", out).code == 0
    frame = pd.read_parquet(path)
    frame.assign(prediction=0).to_parquet(path)
    assert command("results", "add", path, "--out", out).code == 0
    assert "mine" in command("table", "--out", out).out
    change(tiny_hub)
    assert tiny_sweep("--force", methods=("average",), shifts=("clean",)).code == 0
    shown = command("table", "--out", out)
    assert "mine" not in shown.out
    assert "has shifts or data that they did not see: mine" in shown.err


def test_what_is_downloaded_again_from_the_same_commit_goes_on(resumed, tmp_path):
    assert resumed(lose).code == 0
    assert set(notes(tmp_path / "out")) == {"average", "pretrained"}


def test_results_of_before_there_were_commits_go_on(resumed, tiny_hub, tmp_path):
    def unnote() -> None:
        change(tiny_hub)
        (path,) = (tmp_path / "out").glob("cells/*/run.json")
        facts = json.loads(path.read_text())
        del facts["data"]
        path.write_text(json.dumps(facts))

    assert resumed(unnote).code == 0


@pytest.mark.parametrize("kind", ["tuned", "learned"])
def test_nothing_is_measured_with_what_was_tuned_or_learned_on_another(
    tiny_sweep, tiny_hub, tmp_path, kind
):
    """A sweep that was killed after the tuning, or after the learning."""
    method, *words = {
        "tuned": ("task_arithmetic", "--tune"),
        "learned": ("adamerging_task", "--set", "adamerging_task.steps=2"),
    }[kind]
    run = {"methods": (method,), "shifts": ("clean",)}
    done = tiny_sweep(*words, **run)
    assert done.code == 0, done.err
    for path in (tmp_path / "out").glob("cells/*/*"):
        if path.suffix == ".parquet" or (path.name == "run.json" and kind == "learned"):
            path.unlink()
    change(tiny_hub)
    assert "tests/pets/validation is of commit" in tiny_sweep(*words, **run).error
    assert tiny_sweep("--force", *words, **run).code == 0


def test_a_journal_is_of_one_commit(tiny_sweep, tiny_hub, tmp_path):
    assert tiny_sweep(methods=("average",), shifts=("clean",)).code == 0
    (run,) = resolve(TINY).runs
    store = Store(tmp_path)
    first = bind(run).journal(run.config, None, store)
    change(tiny_hub)
    assert tiny_sweep(methods=("average",), shifts=("clean",), out="other").code == 0
    assert bind(run).journal(run.config, None, store) != first
