"""The command that times BMM: parts, how they are scaled up, and what it refuses."""

import pytest

from bench.profiling import bmm
from bench.profiling.bmm import CALIBRATION, TASKS, TRIALS, VAL, Case, measured, scaled
from methods.contract import VIT

SMALL = Case("small", VIT, tasks=2, images=8, trials=2)


def test_seconds_of_a_part_are_scaled_to_a_real_run():
    seconds = {"grams": 1.0, "eigh": 2.0, "solve": 0.5, "validation": 0.1, "sampler": 0.01}
    found = scaled(seconds, SMALL, data=True)
    assert found["Grams"] == pytest.approx(TASKS * CALIBRATION / 16)  # 2 x 8 images took 1 s
    assert found["eigendecompositions"] == 2  # as many as there are modules
    assert found["one trial: solve"] == 0.5
    assert found["one trial: validation pass"] == pytest.approx(0.1 * TASKS * VAL / 16)
    trial = 0.5 + 0.1 * TASKS * VAL / 16 + 0.01
    assert found[f"{TRIALS} trials"] == pytest.approx(TRIALS * trial)
    assert scaled(seconds, SMALL, data=False)["Grams"] == pytest.approx(TASKS / 2)  # by expert


@pytest.mark.parametrize("name", bmm.METHODS_TIMED)
def test_every_part_is_measured(name):
    found = measured(name, SMALL)
    assert {"grams", "eigh", "solve", "validation", "sampler"} <= found.keys()
    assert all(seconds > 0 for seconds in found.values())


def test_the_command(command, monkeypatch):
    monkeypatch.setitem(bmm.CASES, "small", SMALL)
    shown = command("time", "bmm", "--encoder", "small", "--layers", 1).out
    assert "small, 1 layers" in shown
    for part in ("Grams", "one trial: solve", "solve over validation pass", "bmm_datafree", " %"):
        assert part in shown
    assert "got 'ViT-X'" in command("time", "bmm", "--encoder", "ViT-X").error
    said = command("time", "bmm", "--encoder", "small", "--layers", 3).error
    assert said == "small has 2 layers; got --layers 3"
