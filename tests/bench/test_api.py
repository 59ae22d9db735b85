"""``import mergeshift``: the door for a notebook."""

import subprocess
import sys

import pytest
import torch

import mergeshift
from bench.sweeps import SWEEPS
from mergeshift import UserError


def test_a_sweep_gives_its_rows_and_load_reads_them_again(tmp_path):
    rows = mergeshift.sweep(
        "smoke", out=tmp_path, jobs=1, quiet=True, methods=("average", "ties"), tune=False
    )
    assert set(rows["method"]) == {"average", "ties"}
    again = mergeshift.load(tmp_path)
    assert again["value"].tolist() == rows["value"].tolist()


def test_a_sweep_may_be_a_value(tmp_path):
    rows = mergeshift.sweep(
        SWEEPS["smoke"], out=tmp_path, jobs=1, quiet=True, methods=["average"], limit=6
    )
    assert set(rows["n"]) == {6}


def test_merging_is_that_of_the_methods():
    base, expert = {"w": torch.zeros(2)}, {"w": torch.tensor([2.0, 4.0])}
    merged = mergeshift.merge("task_arithmetic", base, [expert], scale=0.5)
    assert merged["w"].tolist() == [1.0, 2.0]


def test_the_contract_of_a_method():
    verdicts = mergeshift.check("average")
    assert len(verdicts) > 10
    assert not any(verdicts.values())


def test_what_is_not_offered_is_refused():
    with pytest.raises(AttributeError, match="no attribute 'swep'"):
        mergeshift.swep  # noqa: B018
    with pytest.raises(UserError, match="no sweep named 'swep'"):
        mergeshift.sweep("swep")


def test_the_door_is_light():
    code = "import sys, mergeshift; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
