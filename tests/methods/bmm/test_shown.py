"""What BMM chose on val, as tables, figures and pages show it."""

import csv
import io
from dataclasses import replace

import pytest

from bench.stages import artifacts
from bench.sweeps import SWEEPS
from bench.zoo import experts
from results.store import Store
from results.tables.tuning import written
from tests.helpers.toy_sweep import run_ids, sweep_into

SWEEP = replace(
    SWEEPS["smoke"],
    methods=("average", "bmm_sampled"),
    settings=("bmm_sampled.trials=6", "bmm_sampled.startup=3", "bmm_sampled.samples=2",
              "bmm_sampled.anchor=ta", "bmm_sampled.calibration=8"),
)  # fmt: skip


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """A sweep with BMM's samples. Read-only."""
    folder = tmp_path_factory.mktemp("bmm")
    sweep_into(folder, SWEEP)
    return folder


@pytest.fixture
def report(out):
    """What the run tells of its learning."""
    (facts,) = artifacts.adaptation_records(Store(out), run_ids(SWEEP)["bmm_sampled"])
    return facts["report"]


def test_the_table_by_tuning_has_kappa_and_val_of_the_samples(command, out, report):
    text = command("table", "--by", "tuning", "--format", "csv", "--out", out).out
    (line,) = csv.DictReader(io.StringIO(text))
    assert line["entry"] == "bmm_sampled"
    assert f"kappa={report['constants']['kappa']:.3g}" in line["chosen"]
    assert line["chosen"] == written(report["constants"])
    assert line["budget"] == str(6 + 5 * 2)  # trials, then five sizes of two samples
    mean = sum(report["val"].values()) / len(report["val"])
    assert float(line["val"]) == pytest.approx(100 * mean)
    assert "kappa" in command("table", "--by", "tuning", "--out", out).out


def test_pages_and_figures_read_facts_alone(command, out, tmp_path, monkeypatch):
    def refuse(tensors):
        raise AssertionError("tensors were read")

    monkeypatch.setattr(experts, "hash_of", refuse)
    for words in (("table", "--by", "tuning"), ("report", "-o", tmp_path / "page.html"),
                  ("plot", "search", "-o", tmp_path / "search.png")):  # fmt: skip
        assert command(*words, "--out", out).code == 0, words
