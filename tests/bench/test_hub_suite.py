"""The whole path on a tiny vision suite of a local hub: list, download, convert, sweep, table."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load as load_tensors

from mergeshift import home
from methods.common.weights import Weights
from results.store import Store
from tasks import TASKS, load
from tests.helpers import tiny_vision_suite as tiny
from tests.helpers.open_clip_oracle import by_hand
from tests.helpers.tiny_vision_suite import METHODS, SHIFTS
from tests.helpers.toy_sweep import leftovers, measured

ROOT = Path(__file__).resolve().parents[2]
NAMES = [data.name for data in tiny.DATA]


def transferred(hub) -> list[str]:
    return [line for line in hub.asked if line.startswith("GET /store/")]


def test_from_an_empty_machine_to_a_table(tiny_sweep, command, local_hub, tmp_path):
    done = tiny_sweep()
    assert done.code == 0, done.err
    assert "3 experts to download" in done.out
    rows = Store(tmp_path / "out").read()
    assert set(rows["encoder"]) == {tiny.NAME}
    assert set(rows["world"]) == {"vision"}
    assert set(rows[rows["corruption"] != "clean"]["constants"]) == {"imagenet-c"}
    cells = rows[rows["metric"] == "acc"].groupby(["method", "task", "corruption"])["n"].sum()
    # 30 test pictures, of which a tenth is for adapting and a tenth for tuning
    assert cells.to_dict() == {
        (method, task, shift.split("@")[0]): 24
        for method in METHODS for task in NAMES for shift in SHIFTS
    }  # fmt: skip
    # the model, three experts, and of three data sets the part to test on
    assert len(transferred(local_hub)) == 1 + 3 + 3
    table = command("table", "--out", tmp_path / "out", "--format", "csv")
    assert table.code == 0, table.err
    assert all(method in table.out for method in METHODS)
    left = [*leftovers(home()), *leftovers(tmp_path / "out")]
    assert [path for path in left if path.suffix != ".lock"] == []


def test_what_was_downloaded_is_enough_without_the_hub(tiny_sweep, local_hub, go_offline, tmp_path):
    assert tiny_sweep().code == 0
    go_offline()
    local_hub.asked.clear()
    assert tiny_sweep(out="again").code == 0
    assert local_hub.asked == []
    first, again = measured(tmp_path / "out"), measured(tmp_path / "again")
    assert first.equals(again)
    # not even the hub's own cache is needed: experts are converted, data sets are tables
    kept = "3 experts" not in tiny_sweep("--dry-run", out="third").out
    assert kept


def test_by_the_environment_alone(local_hub, tmp_path):
    """Another process with an empty cache, and a download that is cut: not a word about it."""
    tiny.publish(local_hub)
    local_hub.interrupt("models", tiny.CLIP, "open_clip_model.safetensors", 1000)
    command = [
        sys.executable, "-m", "tests.helpers.fake_hub_run", "sweep", "smoke",
        "--suite", tiny.SUITE,
        "--encoder", tiny.NAME, "--methods", "average", "--shifts", "clean", "--no-tune",
        "--jobs", "1", "--wandb", "off", "--out", str(tmp_path / "out"),
    ]  # fmt: skip
    environment = local_hub.environment(tmp_path / "theirs") | {
        "MERGESHIFT_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(Store(tmp_path / "out").read()) > 0


def test_experts_are_exactly_what_was_published(tiny_sweep, local_hub):
    assert tiny_sweep(methods=("individual",), shifts=("clean",)).code == 0
    for name in NAMES:
        (path,) = (home() / "experts" / tiny.NAME).glob(f"{name}-*.safetensors")
        found, wanted = Weights.open(path), tiny.tower(name)
        assert set(found) == set(wanted)
        for key in wanted:
            torch.testing.assert_close(found[key], wanted[key], rtol=0, atol=0)
        facts = json.loads(path.with_suffix(".json").read_text())
        repository = tiny.expert_of(name)
        assert facts["source"]["repository"] == repository
        assert facts["commit"] == local_hub.heads["models", repository]
        assert len(facts["source_sha256"]) == 64


def test_the_numbers_are_those_of_open_clip(tiny_sweep, tmp_path):
    """As published, test is the whole part: preprocessing, heads, experts and encoder agree."""
    methods = ("pretrained", "individual")
    done = tiny_sweep("--val", "as-published", methods=methods, shifts=("clean",))
    assert done.code == 0, done.err
    rows = Store(tmp_path / "out").read().set_index(["method", "task", "metric"])["value"]
    for data in tiny.DATA:
        for method in methods:
            weights = tiny.tower(data.name if method == "individual" else "")
            accuracy, nll = by_hand(data, weights, *data.pictures("test"))
            cell = method, f"{data.name}@published"
            assert rows[*cell, "nll"] == pytest.approx(nll, abs=2e-4)
            assert rows[*cell, "acc"] == pytest.approx(accuracy, abs=1e-6)


def test_the_splits_hold_the_pictures_of_the_hub(tiny_hub):
    """Decoded, resized and cut; every test picture is in one of adapt, val and test."""
    for data in tiny.DATA:
        splits = [load(TASKS[data.name], split) for split in ("adapt", "val", "test")]
        assert [len(split) for split in splits] == [3, 3, 24]
        labels = np.concatenate([split.labels for split in splits])
        assert sorted(labels) == sorted(data.pictures("test")[1])
        light = np.concatenate([split.images[:].mean((1, 2, 3)) for split in splits])
        found = [light[labels == label].mean() for label in range(len(data.classes))]
        assert found == sorted(found)  # brighter with every class
        assert splits[0].images[:].shape == (3, 48, 48, 3)
        train = load(TASKS[data.name], "train")
        assert sorted(train.labels) == sorted(data.pictures("train")[1])


def test_an_expert_that_nobody_published_is_fine_tuned(tiny_sweep, local_hub):
    done = tiny_sweep("--experts", "finetuned", methods=("individual",), shifts=("clean",))
    assert done.code == 0, done.err
    assert "3 experts to fine-tune" in done.out
    assert not any("clip-vit-tiny" in line for line in local_hub.asked)
    paths = list((home() / "experts").rglob("*.safetensors"))
    assert len(paths) == 3
    base = tiny.tower()
    moved = Weights.open(paths[0])
    assert torch.equal(moved["proj"], base["proj"])
    assert not torch.equal(moved["conv1.weight"], base["conv1.weight"])


def test_a_repository_holds_what_was_put_there():
    """The published format: a CLIPVisionModel's names, and no projection."""
    tensors = load_tensors(tiny.expert_files("tiny_pets")["model.safetensors"])
    assert "vision_model.encoder.layers.1.self_attn.k_proj.bias" in tensors
    assert not any("projection" in name for name in tensors)
