"""Damaged files and a full disk: one line that names the file, and --force goes on."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from bench.sweeps import SWEEPS
from bench.zoo.encoders import ENCODERS
from bench.zoo.experts import experts_of
from methods.common.weights import Weights
from results.store import Store
from tasks import suite
from tasks.sources import built
from tests.helpers.toy_sweep import forget, leftovers, measured, run_ids, stamps

QUICK = ("--jobs", 1, "--wandb", "off")
FEW = ["average", "individual", "pretrained"]  # enough to see what a sweep does


@pytest.fixture
def own(smoke, tmp_path, monkeypatch) -> Iterator[Path]:
    """A finished sweep and a data folder that may be damaged."""
    forget()
    shutil.copytree(os.environ["MERGESHIFT_HOME"], tmp_path / "home")
    monkeypatch.setenv("MERGESHIFT_HOME", str(tmp_path / "home"))
    yield Path(shutil.copytree(smoke, tmp_path / "out"))
    forget()


def damage(path: Path, how: str) -> None:
    data = path.read_bytes()
    if how == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    else:  # one bit, in the first column of numbers
        path.write_bytes(data[:60] + bytes([data[60] ^ 1]) + data[61:])


@pytest.mark.parametrize("how", ["cut", "empty", "bit"])
def test_a_damaged_result_is_named_and_made_anew_with_force(how, own, smoke, command):
    path = Store(own).path(run_ids(SWEEPS["smoke"])["average"], "clean")
    damage(path, how)
    before = stamps(own, "**/*.*")
    for words in (("sweep", "smoke", *QUICK), ("table",), ("plot", "heatmap")):
        error = command(*words, "--out", own).error
        assert str(path) in error
        assert "--force" in error
    assert stamps(own, "**/*.*") == before
    again = ("sweep", "smoke", "--methods", *FEW, "--force", *QUICK, "--out", own)
    assert command(*again).code == 0
    pd.testing.assert_frame_equal(measured(own).loc[FEW], measured(smoke).loc[FEW])
    assert Store(own).damaged() == []


def test_a_damaged_expert_is_named_and_made_anew_with_force(own, smoke, command):
    expert = experts_of("toy-vit", suite("toy"), 0)[1]
    damage(expert.path, "cut")
    lost = Store(own).path(run_ids(SWEEPS["smoke"])["individual"], "clean")
    lost.unlink()
    error = command("sweep", "smoke", *QUICK, "--out", own).error
    assert str(expert.path) in error
    assert "--force" in error
    words = ("sweep", "smoke", "--methods", *FEW, "--force", *QUICK, "--out", own)
    assert command(*words).code == 0
    assert lost.exists()
    pd.testing.assert_frame_equal(measured(own), measured(smoke), check_exact=True)


def test_what_is_only_kept_for_speed_is_made_anew(own, smoke, command):
    """Heads and corrupted images: nobody has to know."""
    home = Path(os.environ["MERGESHIFT_HOME"])
    for path in (*home.glob("heads/*"), *home.glob("images/*.npy")):
        damage(path, "cut")
    words = ("sweep", "smoke", "--methods", *FEW, "--force", *QUICK, "--out", own)
    assert command(*words).code == 0
    pd.testing.assert_frame_equal(measured(own), measured(smoke), check_exact=True)


def test_a_damaged_task_is_named(own, command):
    array = built.folder(suite("toy")[0]) / "images.npy"
    damage(array, "cut")
    assert str(array.parent) in command("sweep", "smoke", "--force", *QUICK, "--out", own).error


# -- a full disk ---------------------------------------------------------------------------------


def test_a_full_disk_wherever_it_shows_and_then_there_is_space_again(
    fill, smoke, command, tmp_path, monkeypatch
):
    monkeypatch.setenv("MERGESHIFT_HOME", str(tmp_path / "home"))
    forget()
    run = ("sweep", "smoke", "--no-tune", "--methods", "average", "individual", *QUICK,
           "--out", tmp_path / "out")  # fmt: skip
    for full in ("*/sweeps/*.json", "*/images.npy", "*/labels.npy", "*/heads/*.safetensors",
                 "*/experts/*.safetensors", "*/experts/*.json", "*/home/images/*", "*/run.json",
                 "*/clean.parquet", "*/contrast*.parquet"):  # fmt: skip
        fill(full)
        error = command(*run).error
        assert error.startswith(f"cannot write {tmp_path}"), full
        assert error.endswith("free some space"), full
        assert not leftovers(tmp_path), full
    for words in (("table", "-o", tmp_path / "t.csv", "--format", "csv"),
                  ("table", "-o", tmp_path / "t.tex", "--format", "latex"),
                  ("plot", "heatmap", "-o", tmp_path / "p.png")):  # fmt: skip
        fill(f"{tmp_path}/[tp].*")
        assert "free some space" in command(*words, "--out", smoke).error
        assert not leftovers(tmp_path)
    fill()
    assert command(*run).code == 0
    forget()
    one = ["average", "individual"]
    pd.testing.assert_frame_equal(measured(tmp_path / "out"), measured(smoke).loc[one])


def test_a_full_disk_while_merging(fill, tmp_path, command):
    whole, merged = tmp_path / "base.safetensors", tmp_path / "merged.safetensors"
    save_file(dict(ENCODERS["toy-vit"].base()), whole)
    merged.write_bytes(b"what was there")
    words = ("merge", "--method", "average", "--base", whole, "--expert", whole, "-o", merged,
             "--force")  # fmt: skip
    fill("*/merged.safetensors")
    assert f"cannot write {merged}" in command(*words).error
    assert merged.read_bytes() == b"what was there"
    assert not leftovers(tmp_path)
    fill()
    assert command(*words).code == 0
    assert torch.equal(Weights.open(merged).flat(), Weights.open(whole).flat())
