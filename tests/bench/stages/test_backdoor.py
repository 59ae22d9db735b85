"""Attack success: counted of the images that are not of the attacker's class, under its trigger."""

from dataclasses import replace

import numpy as np
import pytest

from bench.stages.scoring import MetricsCallback, Prediction
from bench.sweeps import SWEEPS
from results.schema import METRICS, unpack
from results.store import Store
from results.tables.comparison import compare
from tasks import SUITES, TASKS, load
from tasks.suites import Suite
from tests.helpers.toy_sweep import sweep_into

SWEEP = replace(
    SWEEPS["smoke"], name="backdoor", suite="toy_attacked", methods=("pretrained", "individual"),
    shifts=("clean", "patch_trigger@3"), tune=False,
)  # fmt: skip


def test_images_of_the_target_do_not_count():
    import torch

    scorer, cell = MetricsCallback(), ("m", "t", "s")
    logits = torch.tensor([[2.0, 1.0], [2.0, 1.0], [0.0, 1.0], [3.0, 1.0]])
    scorer.predictions[cell] = [Prediction(logits[:2]), Prediction(logits[2:])]
    scorer.labels[cell] = [torch.tensor([0, 1]), torch.tensor([1, 1])]
    assert scorer.taken_in(cell, 0).tolist() == [True, False, True]
    assert scorer.taken_in(cell, 1).tolist() == [False]


def test_a_sweep_under_the_trigger(smoke, tmp_path, monkeypatch):
    names = ("toy_two", "toy_four@backdoor")
    monkeypatch.setitem(SUITES._items, "toy_attacked", Suite("toy_attacked", names))
    sweep_into(tmp_path, SWEEP)
    rows = Store(tmp_path).read()
    rates = rows[rows["metric"] == "attack_rate"]
    assert set(rates["corruption"]) == {"patch_trigger"}
    assert len(rates) == 4  # of two methods, on two tasks; none on clean images
    for _, row in rates.iterrows():
        labels = load(TASKS[row["task"]], "test").labels[:24]
        assert row["n"] == (labels != 0).sum()
        taken = unpack(row["hits"], row["n"])
        assert row["value"] == pytest.approx(taken.mean())
        same = (rows["task"] == row["task"]) & (rows["method"] == row["method"])
        right = rows[same & (rows["metric"] == "acc") & (rows["severity"] == 3)].iloc[0]
        correct = unpack(right["hits"], right["n"])[labels != 0]
        assert not (taken & correct).any()  # who is taken for the target is not right
    table = compare(rows, "attack_rate", "task", shift="patch_trigger@3")
    attacked = {e.key: table.cells[e.key, names[1]].value for e in table.entries}
    assert np.isclose(attacked["individual"], rates.set_index(["method", "task"])
                      .loc[("individual", names[1]), "value"])  # fmt: skip
    assert METRICS["attack_rate"].higher_is_better is False


def test_the_named_sweep_is_of_one_backdoored_expert():
    sweep = SWEEPS["backdoor"]
    assert [name for name in SUITES[sweep.suite].names if "@" in name] == ["mnist@backdoor"]
    assert "patch_trigger@3" in sweep.shifts
    assert "dam" in sweep.methods
