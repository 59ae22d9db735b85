"""Experts of the toy tasks: the same every time, better than before, made once."""

import json
from collections import Counter
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch.nn import functional as F

from bench.runtime.workers import SerialExecutor
from bench.zoo import experts as file
from bench.zoo.encoders import ENCODERS, OF_WORLD
from bench.zoo.experts import Expert, build, checkpoints, damaged, experts_of, make
from bench.zoo.finetune import Batches
from bench.zoo.pocket_clip import POCKET
from bench.zoo.recipes import FineTune
from mergeshift import UserError
from methods.common.vit import PlainOps, encode
from tasks import SUITES, load, suite, world_of

TOY = suite("toy")
ENCODER = ENCODERS["toy-vit"]
FIRST = Expert("toy-vit", "toy_two", 0)
FACTS = {"base", "data", "encoder", "loss", "recipe", "seconds", "seed", "sha256", "task",
         "tensors",
         "val_accuracy", "val_accuracy_zero_shot"}  # fmt: skip


@pytest.fixture(scope="module")
def toy_home(tmp_path_factory) -> Path:
    """A data folder with the three experts of seed 0, made one after the other."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MERGESHIFT_HOME", str(home))
        torch.set_num_threads(1)
        build("toy-vit", TOY, 0, SerialExecutor())
    return home


@pytest.fixture
def made(toy_home, monkeypatch) -> list[Expert]:
    """The experts in that folder: not to be changed."""
    monkeypatch.setenv("MERGESHIFT_HOME", str(toy_home))
    return experts_of("toy-vit", TOY, 0)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch) -> Path:
    """An empty data folder."""
    monkeypatch.setenv("MERGESHIFT_HOME", str(tmp_path))
    return tmp_path


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0)


# -- encoders ------------------------------------------------------------------------------------


def test_every_suite_has_an_encoder_of_its_world():
    assert {OF_WORLD[world_of(name)] for name in SUITES} <= set(ENCODERS)
    for name, encoder in ENCODERS.items():
        assert encoder.name == name
        assert encoder.recipe.steps > 0
    assert (POCKET.image_size, POCKET.patch_size, POCKET.width, POCKET.layers) == (32, 8, 192, 4)
    assert "not CLIP" in ENCODERS["pocket-vit"].title


def test_all_that_decides_an_expert_is_in_its_key(monkeypatch):
    task = TOY[0]
    keys = [
        ENCODER.expert_key(task, 0),
        ENCODER.expert_key(task, 1),
        ENCODER.expert_key(replace(task, version=2), 0),
        ENCODER.expert_key(replace(task, pixels="0" * 16), 0),
        ENCODER.expert_key(TOY[1], 0),
        replace(ENCODER, recipe=replace(ENCODER.recipe, lr=1e-4)).expert_key(task, 0),
        replace(ENCODER, recipe=replace(ENCODER.recipe, version=2)).expert_key(task, 0),
    ]
    assert len(set(keys)) == 7
    assert ENCODER.expert_key(replace(task, title="Other", note="other"), 0) == keys[0]
    name = f"toy_two-0-{keys[0]}"
    assert (FIRST.path.name, FIRST.manifest.name) == (f"{name}.safetensors", f"{name}.json")


# -- what is made --------------------------------------------------------------------------------


def accuracy(tensors: dict[str, torch.Tensor], head: torch.Tensor, split: str, task) -> float:
    """By nearest class, one picture at a time."""
    right = []
    for image, label in zip(load(task, split).images, load(task, split).labels, strict=True):
        x = torch.from_numpy((image / 255 - 0.5) / 0.25).float().permute(2, 0, 1)[None]
        feature = F.normalize(encode(x, PlainOps(tensors), ENCODER.vit)[0], dim=0)
        right.append(int((head @ feature).argmax()) == label)
    return float(np.mean(right))


def test_an_expert_beats_the_encoder_it_came_from_and_says_by_how_much(made):
    before = dict(ENCODER.base())
    for expert, task in zip(made, TOY, strict=True):
        head, facts = ENCODER.heads([task])[task.name], expert.facts()
        with torch.inference_mode():
            after = load_file(expert.path)
            assert facts["val_accuracy"] == pytest.approx(accuracy(after, head, "val", task))
            assert facts["val_accuracy_zero_shot"] == pytest.approx(
                accuracy(before, head, "val", task)
            )
        assert facts["val_accuracy"] > facts["val_accuracy_zero_shot"] + 0.2
        assert np.mean(facts["loss"][-5:]) < np.mean(facts["loss"][:5])
        assert after.keys() == before.keys()
        assert all(not torch.equal(after[name], before[name]) for name in before)


def test_the_manifest_is_complete(made):
    for expert, task in zip(made, TOY, strict=True):
        facts = json.loads(expert.manifest.read_text())
        assert set(facts) == FACTS
        assert facts["recipe"] == asdict(ENCODER.recipe)
        assert facts["data"] == task.pixels
        assert facts["base"] == ENCODER.base_hash
        assert (facts["task"], facts["encoder"], facts["seed"]) == (task.name, "toy-vit", 0)
        assert facts["sha256"] == sha256(expert.path.read_bytes()).hexdigest()
        assert len(facts["loss"]) == ENCODER.recipe.steps
        with safe_open(expert.path, framework="pt") as stored:
            assert stored.metadata() == {"task": task.name, "encoder": "toy-vit"}


def test_checkpoints_are_in_the_order_of_the_suite(made):
    found = checkpoints("toy-vit", TOY, 0)
    assert list(found.experts) == list(found.heads) == list(SUITES["toy"].names)
    assert found.vit == ENCODER.vit
    for expert in made:
        assert_same(dict(found.experts[expert.task]), load_file(expert.path))


def test_an_expert_is_decided_by_its_seed(toy_home, elsewhere):
    torch.manual_seed(99)  # neither what was drawn before nor who came first matters
    build("toy-vit", TOY[::-1], 0, SerialExecutor())
    for expert in experts_of("toy-vit", TOY, 0):
        there = toy_home / expert.path.relative_to(elsewhere)
        assert_same(load_file(expert.path), load_file(there))
    second = replace(FIRST, seed=1)
    make(second)
    tensors, others = load_file(FIRST.path), load_file(second.path)
    assert all(not torch.equal(tensors[name], others[name]) for name in tensors)


# -- once ----------------------------------------------------------------------------------------


def test_what_is_there_is_not_made_again(made, monkeypatch):
    monkeypatch.setattr(file, "finetune", lambda *_: pytest.fail("made again"))
    told: list[float] = []
    build("toy-vit", TOY, 0, SerialExecutor(), told.append)
    make(made[0])
    assert told == []


def test_a_killed_build_loses_the_expert_in_flight_alone(elsewhere, monkeypatch):
    """Killed between the file and its manifest: the file counts as not made."""
    write, quick = file.write_json, replace(ENCODER, recipe=FineTune(steps=2, batch=4))
    monkeypatch.setattr(file, "ENCODERS", {"toy-vit": quick})
    written: list[Path] = []

    def killed_at_the_second(path: Path, facts: object) -> None:
        if len(written) == 1:
            raise KeyboardInterrupt
        written.append(path)
        write(path, facts)

    monkeypatch.setattr(file, "write_json", killed_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        build("toy-vit", TOY, 0, SerialExecutor())
    experts = experts_of("toy-vit", TOY, 0)
    assert [expert.exists for expert in experts] == [True, False, False]
    half = load_file(experts[1].path)
    first = experts[0].path.stat().st_mtime_ns

    monkeypatch.setattr(file, "write_json", write)
    told: list[float] = []
    build("toy-vit", TOY, 0, SerialExecutor(), told.append)
    assert all(expert.exists for expert in experts)
    assert experts[0].path.stat().st_mtime_ns == first
    assert_same(load_file(experts[1].path), half)  # the same expert, made from its beginning
    assert max(told) == 4  # two steps for each of the two


def test_a_damaged_expert_is_found(elsewhere, monkeypatch):
    quick = replace(ENCODER, recipe=FineTune(steps=1, batch=2))
    monkeypatch.setattr(file, "ENCODERS", {"toy-vit": quick})
    experts = experts_of("toy-vit", TOY, 0)
    build("toy-vit", TOY, 0, SerialExecutor())
    assert damaged(experts) == []
    experts[0].path.write_bytes(experts[0].path.read_bytes()[:-50])
    experts[2].manifest.write_text('{"task": ')
    assert damaged(experts) == [experts[0].path, experts[2].path]


# -- batches -------------------------------------------------------------------------------------


def test_a_batch_is_decided_by_task_seed_and_step():
    recipe = FineTune(steps=5, batch=16)
    first, again = Batches(TOY[0], recipe, 0), Batches(TOY[0], replace(recipe, steps=9), 0)
    assert (len(first), len(again)) == (5, 9)
    for step in (3, 0, 4):
        for a, b in zip(first[step], again[step], strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)
    others = [first[1], Batches(TOY[0], recipe, 1)[0], Batches(TOY[1], recipe, 0)[0]]
    looks = {batch[0].numpy().tobytes() for batch in [first[0], *others]}
    assert len(looks) == 4


@pytest.mark.parametrize("pad", [0, 2])
def test_a_batch_is_pictures_of_train_moved_by_at_most_the_pad(pad):
    train = load(TOY[2], "train")
    moved: dict[bytes, tuple[int, int, int]] = {}
    for row, image in enumerate(train.images):
        for down in range(-pad, pad + 1):
            for right in range(-pad, pad + 1):
                rows = (np.arange(32) + down).clip(0, 31)  # the border is repeated
                columns = (np.arange(32) + right).clip(0, 31)
                moved[image[rows][:, columns].tobytes()] = row, down, right
    assert len(moved) == 96 * (2 * pad + 1) ** 2
    batches = Batches(TOY[2], FineTune(steps=30, batch=32, pad=pad), 0)
    shown, shifts = Counter[int](), Counter[tuple[int, int]]()
    for images, labels in (batches[step] for step in range(30)):
        for image, label in zip(images.numpy(), labels.tolist(), strict=True):
            row, down, right = moved[image.tobytes()]
            assert train.labels[row] == label
            shown[row] += 1
            shifts[down, right] += 1
    assert len(shown) == 96
    assert max(shown.values()) < 10 + 5 * 10**0.5
    assert len(shifts) == (2 * pad + 1) ** 2


# -- with Adam's second moments ------------------------------------------------------------------


def test_second_moments_are_kept_beside_an_expert_that_stays_as_it_is(elsewhere, command):
    words = ("sweep", "smoke", "--methods", "ota_adam", "--shifts", "clean", "--jobs", 1,
             "--no-tune", "--out", elsewhere / "out")  # fmt: skip
    build("toy-vit", TOY[:1], 0, SerialExecutor())
    said = command(*words).error
    assert "ota_adam needs what Adam held when the experts' fine-tuning ended" in said
    assert "not kept of toy_two: python -m bench zoo build --keep-curvature; or take ota" in said
    before = FIRST.path.read_bytes(), FIRST.manifest.read_bytes()
    assert not FIRST.has_curvature
    assert command("zoo", "build", "--suite", "toy", "--keep-curvature", "--jobs", 1).code == 0
    assert (FIRST.path.read_bytes(), FIRST.manifest.read_bytes()) == before
    experts = experts_of("toy-vit", TOY, 0)
    assert all(expert.has_curvature for expert in experts)
    moments = load_file(FIRST.curvature)
    assert {name: t.shape for name, t in moments.items()} == {
        name: t.shape for name, t in load_file(FIRST.path).items()
    }
    assert sum(float(t.sum()) for t in moments.values()) > 0
    assert min(float(t.min()) for t in moments.values()) >= 0
    assert set(checkpoints("toy-vit", TOY, 0).curvature) == {task.name for task in TOY}
    assert "6 files, all as they were written" in command("zoo", "verify").out
    facts = json.loads(FIRST.manifest.read_text())
    FIRST.manifest.write_text(json.dumps(facts | {"tensors": "0" * 16}))
    assert not FIRST.has_curvature  # they are of another expert
    with pytest.raises(UserError, match="fine-tuned here once more, the expert of toy_two is not"):
        make(FIRST, curvature=True)
