"""``report`` on folders that lack something: the page or one line says what, and what to do."""

import json
import re
import shutil
from dataclasses import replace

import pytest

from bench.stages import artifacts
from bench.sweeps import SWEEPS
from methods import METHODS
from results.store import Store
from tests.helpers.toy_sweep import run_ids, sweep_into

SWEEP = replace(SWEEPS["smoke"], methods=("average", "centroid_router"))


@pytest.fixture(scope="module")
def router(tmp_path_factory):
    """A sweep with a method that learns. Read-only."""
    out = tmp_path_factory.mktemp("router")
    sweep_into(out, SWEEP)
    return out


def data_of(path) -> dict:
    return json.loads(re.search(r'id="data">(.*?)</script>', path.read_text(), re.DOTALL)[1])


def test_the_page_says_what_was_kept_of_no_image(command, smoke, tmp_path):
    out, page = shutil.copytree(smoke, tmp_path / "out"), tmp_path / "page.html"
    assert command("report", "-o", page, "--out", out).code == 0
    why = data_of(page)["reliability"]["why"]
    assert re.match(r"nothing is kept of single images for 10 of 10 cells, e\.g\. ", why)
    sweep_into(out, replace(SWEEPS["smoke"], uncertainty=True))
    assert command("report", "-o", page, "--out", out).code == 0
    assert "why" not in data_of(page)["reliability"]
    store, (average, *_) = Store(out), run_ids(SWEEP).values()
    store.images_path(average, "clean").unlink()
    assert command("report", "-o", page, "--out", out).code == 0
    why = data_of(page)["reliability"]["why"]
    assert f"for 1 of 10 cells, e.g. {average} under clean; run the sweep" in why


def test_examples_need_what_was_learned_by_this_version(command, router, tmp_path):
    out, page = shutil.copytree(router, tmp_path / "out"), tmp_path / "page.html"
    words = ("report", "-o", page, "--out", out)
    assert command(*words, "--examples", 1).code == 0
    file = artifacts.path(Store(out), run_ids(SWEEP)["centroid_router"])
    tensors, facts = artifacts.load(file)
    del facts["config"]
    artifacts.save(file, tensors, facts)
    assert command(*words, "--examples", 1).error == (
        f"{file} is of an earlier version, which did not keep its config; "
        "run again with --force; --force is an option of `sweep`"
    )
    assert command(*words).code == 0  # nothing is built
    assert command(*words, "--examples", 1, "--methods", "average").code == 0


def test_examples_are_not_those_of_another_version(command, smoke, tmp_path, monkeypatch):
    monkeypatch.setattr(METHODS["ties"], "version", 7)
    words = ("report", "-o", tmp_path / "page.html", "--out", smoke, "--examples", 1)
    said = command(*words).error
    assert "was measured with version 1 of ties, this is version 7" in said
    assert said.endswith("run the sweep again, or leave it out (--methods)")
    assert command(*words, "--methods", "average").code == 0
