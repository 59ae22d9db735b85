"""Weights of one's own: merged by command, measured beside the methods."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from bench.sweeps import SWEEPS
from bench.zoo.encoders import ENCODERS
from bench.zoo.experts import experts_of
from results.store import Store
from tasks import suite
from tests.helpers.toy_sweep import KEYS, measured, run_ids, stamps

SETTING = "task_arithmetic.scale=0.4"
SWEEP = replace(SWEEPS["smoke"], methods=("individual", "task_arithmetic"), settings=(SETTING,))


@pytest.fixture
def base(tmp_path, smoke) -> Path:
    """The toy encoder's weights and a buffer of whole numbers."""
    path = tmp_path / "base.safetensors"
    save_file({**ENCODERS["toy-vit"].base(), "steps": torch.tensor(7)}, path)
    return path


@pytest.fixture
def merge(command, base):
    """Run ``merge`` on the toy experts."""
    experts = [w for e in experts_of("toy-vit", suite("toy"), 0) for w in ("--expert", e.path)]

    def run(output: Path, method: str, setting: str) -> Path:
        words = ("merge", "--method", method, "--set", setting, "--base", base, *experts)
        assert command(*words, "-o", output).code == 0
        return output

    return run


@pytest.fixture
def out(command, smoke, tmp_path) -> Path:
    """Results of Task Arithmetic at a scale of 0.4, not tuned."""
    folder = Path(shutil.copytree(smoke, tmp_path / "out"))
    words = ("sweep", "smoke", "--methods", *SWEEP.methods, "--set", SETTING)
    assert command(*words, "--jobs", 1, "--wandb", "off", "--out", folder).code == 0
    return folder


def test_merged_and_evaluated_is_the_method_itself(command, merge, out, tmp_path):
    """merge -> evaluate gives the answers of the method in a sweep, image by image."""
    merged = merge(tmp_path / "mine.safetensors", "task_arithmetic", "scale=0.4")
    assert load_file(merged)["steps"] == 7  # it is that of the base
    tower = {k: v for k, v in load_file(merged).items() if k != "steps"}
    before = stamps(out)
    words = ("evaluate", "--sweep", "smoke", "--jobs", 1, "--out", out, "--weights")
    shown = command(*words, merged)
    assert shown.code == 0
    assert re.search(r"^mine .*\n", shown.out, re.MULTILINE)
    assert stamps(out).items() > before.items()

    run = Store(out).read([run_ids(SWEEP)["task_arithmetic"]]).set_index(KEYS).sort_index()
    ours, theirs = measured(out).loc["mine"], run.loc["task_arithmetic"]
    pd.testing.assert_frame_equal(ours, theirs.loc[ours.index, ours.columns], check_exact=True)
    assert "mine" in command("table", "--format", "csv", "--out", out).out

    # once more: nothing is measured again; a whole CLIP, and a torch file, hold the same tower
    before = stamps(out)
    assert command(*words, merged).code == 0
    assert stamps(out) == before
    whole = {f"visual.{name}": tensor for name, tensor in tower.items()}
    torch.save(whole | {"logit_scale": torch.ones(())}, tmp_path / "clip.pt")
    assert command(*words, tmp_path / "clip.pt", "--name", "my/whole clip").code == 0
    pd.testing.assert_frame_equal(measured(out).loc["my/whole clip"], ours)


def test_evaluating_needs_no_sweep_before_it(command, tmp_path, smoke, base):
    save_file(dict(ENCODERS["toy-vit"].base()), base)
    sweep = tmp_path / "mine.toml"
    sweep.write_text('suite = "toy"\nshifts = ["clean"]\nseeds = [0, 1]\nlimit = 24\n'
                     'settings = ["ties.keep=0.5"]\n')  # fmt: skip
    words = ("evaluate", "--weights", base, "--sweep", sweep, "--jobs", 1, "--out", tmp_path / "o")
    assert command(*words).code == 0
    assert "base" in command("table", "--format", "csv", "--out", tmp_path / "o").out
    alone = measured(tmp_path / "o").loc["base"]
    assert alone.index.get_level_values("seed").unique().tolist() == [0]
    pd.testing.assert_frame_equal(alone, measured(smoke).loc["pretrained"].loc[alone.index])


def test_weights_that_were_measured_without_uncertainty_are_left_out(command, base, tmp_path):
    """A note says how to have them in; then they are."""
    words = ("--sweep", "smoke", "--shifts", "clean", "--jobs", 1, "--out", tmp_path)
    evaluate = ("evaluate", "--weights", base, "--name", "mine", *words)
    sweep = ("sweep", "smoke", "--methods", "average,individual", "--wandb", "off", *words[2:])
    table = ("table", "--by", "uncertainty", "--out", tmp_path)
    remedy = (
        "run `python -m bench evaluate` again with --uncertainty, or `results add` with confidence "
        "or probabilities"
    )
    assert command(*evaluate).code == 0
    alone = command(*table).error
    assert alone == f"nothing is kept of single images for mine; {remedy}"

    assert command(*sweep, "--uncertainty").code == 0
    assert "mine" in command("table", "--out", tmp_path, "--format", "csv").out
    shown = " ".join(command(*table).out.split())
    assert f"no per-image results are stored: mine; {remedy}" in shown
    assert "mine" not in command(*table, "--format", "csv").out
    assert command(*table, "--methods", "mine").error == alone

    assert command(*evaluate, "--uncertainty").code == 0
    assert "mine" in command(*table, "--format", "csv").out
    assert "Not shown" not in command(*table).out


def test_weights_stand_beside_the_same_unseen_tasks(command, base, tmp_path):
    """In whatever order they are named; and nowhere else."""
    words = ("--shifts", "clean", "--jobs", 1, "--out", tmp_path)
    sweep = ("sweep", "smoke", "--methods", "average,individual", "--wandb", "off", *words)
    assert command(*sweep, "--unseen", "toy_four,toy_two").code == 0
    evaluate = ("evaluate", "--weights", base, "--sweep", "smoke", *words)
    assert command(*evaluate, "--name", "all").code == 0
    shown = command(*evaluate, "--name", "mine", "--unseen", "toy_two", "--unseen", "toy_four")
    assert "unseen" in shown.out
    assert re.search(r"^mine .*\n", shown.out, re.MULTILINE)
    rows = Store(tmp_path).read()
    mine = rows[(rows["method"] == "mine") & (rows["metric"] == "acc")]
    assert mine.set_index("task")["seen"].to_dict() == {
        "toy_two": False, "toy_three": True, "toy_four": False}  # fmt: skip
    shown = command("table", "--by", "seen", "--format", "csv", "--out", tmp_path)
    assert "mine" in shown.out
    assert "all," not in shown.out
    error = command(*evaluate, "--unseen", "toy_six").error
    assert "unseen tasks are tasks of the suite" in error


def test_merging_twice_writes_the_same_file(merge, tmp_path):
    files = [merge(tmp_path / f"{i}.safetensors", "ties", "keep=0.2") for i in range(4)]
    assert len({path.read_bytes() for path in files}) == 1
