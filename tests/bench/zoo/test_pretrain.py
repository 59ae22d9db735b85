"""Pretraining: the losses against plain NumPy, what is seen of the data, and resuming."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bench.zoo import pretrain as file
from bench.zoo.pocket_clip import load_model, normalise
from bench.zoo.pretrain import Captions, Pretraining, Recipe, Steps, apart, pretrain, views
from tasks import SPLITS, load, suite

TASKS = suite("toy")
TINY = Recipe(suite="toy", steps=4, batch=6, cuts=2)


@pytest.fixture(autouse=True)
def _own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("MERGESHIFT_HOME", str(tmp_path / "home"))


@pytest.fixture
def module() -> Pretraining:
    torch.manual_seed(0)
    return Pretraining(TASKS, TINY)


# -- losses --------------------------------------------------------------------------------------


def cross_entropy(logits: np.ndarray, target: np.ndarray) -> float:
    """Mean over the rows, in float64."""
    log_p = logits - logits.max(1, keepdims=True)
    log_p = log_p - np.log(np.exp(log_p).sum(1, keepdims=True))
    return float(-log_p[np.arange(len(target)), target].mean())


def unit(rows: torch.Tensor) -> np.ndarray:
    array = rows.detach().double().numpy()
    return array / np.linalg.norm(array, axis=1, keepdims=True)


def test_uniformity_is_that_of_the_paper():
    rows = unit(torch.randn(5, 7, generator=torch.Generator().manual_seed(1)))
    terms = [np.exp(-2 * ((rows[i] - rows[j]) ** 2).sum()) for i in range(5) for j in range(i)]
    assert apart(torch.from_numpy(rows)).item() == pytest.approx(np.log(np.mean(terms)), abs=1e-9)


def test_the_loss_is_the_sum_of_its_three_parts(module):
    batch = Steps(TASKS, TINY)[0]
    generator = torch.Generator().manual_seed(int(batch["seed"]))
    model = module.model.eval()  # open_clip's own forward
    features = model.encode_image(views(batch["pictures"], generator))
    prompts = [prompt for task in TASKS for prompt in task.prompts]
    text = unit(model.encode_text(module.vocabulary.encode(prompts)))
    captions = cross_entropy(TINY.scale * unit(features) @ text.T, batch["told"].numpy())
    classes = features.double() @ module.classes.weight.double().T + module.classes.bias.double()
    labels = cross_entropy(classes.detach().numpy(), batch["label"].numpy())
    ends = np.cumsum([task.num_classes for task in TASKS])[:-1]
    uniformity = np.mean([apart(torch.from_numpy(one)).item() for one in np.split(text, ends)])
    expected = captions + TINY.labels * labels + TINY.uniformity * uniformity
    module.log_dict = lambda *_, **__: None  # there is no trainer to log to
    assert module.training_step(batch, 0).item() == pytest.approx(expected, abs=1e-4)
    assert model.logit_scale.exp().item() == pytest.approx(TINY.scale)
    assert not model.logit_scale.requires_grad


# -- views ---------------------------------------------------------------------------------------


def test_views_are_decided_by_their_generator_alone():
    pictures = torch.from_numpy(np.array(load(TASKS[0], "train").images[:6]))
    before = torch.get_rng_state()
    first = views(pictures, torch.Generator().manual_seed(3))
    torch.testing.assert_close(torch.get_rng_state(), before)
    torch.manual_seed(12345)
    again = views(pictures, torch.Generator().manual_seed(3))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    other = views(pictures, torch.Generator().manual_seed(4))
    assert first.shape == other.shape == (6, 3, 32, 32)
    assert all(not torch.equal(a, b) for a, b in zip(first, other, strict=True))
    same = views(pictures[:1].expand(6, -1, -1, -1), torch.Generator().manual_seed(3))
    assert len({view.numpy().tobytes() for view in same}) == 6  # each picture has its own draws


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_plain_picture_shows_the_range_of_brightness(level):
    plain = torch.full((400, 32, 32, 3), level, dtype=torch.uint8)
    seen = views(plain, torch.Generator().manual_seed(0)).flatten(1)
    value = (level / 255 - 0.5) / 0.25
    torch.testing.assert_close(seen, seen[:, :1].expand_as(seen), rtol=0, atol=1e-4)
    ends = sorted((0.75 * value, 1.25 * value))
    assert ends[0] - 0.3 <= seen.min() < seen.max() <= ends[1] + 0.3
    assert seen.max() - seen.min() > 0.8 * (ends[1] - ends[0] + 0.6) - 0.3
    assert float(normalise(plain[:1])[0, 0, 0, 0]) == pytest.approx(value, abs=1e-6)


# -- what is seen --------------------------------------------------------------------------------


def test_pictures_come_from_train_alone_and_small_tasks_are_drawn_from_more_often():
    place: dict[bytes, tuple[int, str, int]] = {}  # look -> task, split, label
    for t, task in enumerate(TASKS):
        for split in SPLITS:
            stored = load(task, split)
            for image, label in zip(stored.images, stored.labels.tolist(), strict=True):
                place[image.tobytes()] = t, split, label
    starts = np.cumsum([0, *(task.num_classes for task in TASKS)])
    steps = Steps(TASKS, replace(TINY, steps=60, batch=20))
    for step in range(len(steps)):
        batch = steps[step]
        shown = zip(batch["pictures"].numpy(), batch["label"], batch["told"], strict=True)
        for image, label, told in shown:
            t, split, own = place[image.tobytes()]
            assert (split, int(label)) == ("train", starts[t] + own)
            assert starts[t] <= int(told) < starts[t + 1]  # a class of the same task
    shares = np.diff(np.concatenate([[0.0], steps.until]))
    of = np.repeat(np.arange(3), [task.sizes[0] for task in TASKS])
    wanted = np.sqrt([task.sizes[0] for task in TASKS])
    np.testing.assert_allclose(np.bincount(of, shares), wanted / wanted.sum(), rtol=1e-9)


def test_captions_name_the_class_as_often_as_their_habit_says():
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (600, 32, 32, 3), np.uint8))
    tasks = np.repeat([0, 1], 300)
    labels = np.concatenate([rng.integers(0, 3, 300), 3 + rng.integers(0, 2, 300)])
    captions = Captions(images, labels, tasks, [3, 2], replace(TINY, odds=0.5, spread=2.0))
    for task in (0, 1):  # cuts at the median: no cell is empty, and halves are even
        assert sorted(np.bincount(captions.cell[tasks == task] & 1)) == [150, 150]
    assert captions.right.shape == (5, 4)
    own = np.arange(5)[:, None]
    assert not (captions.other == own).any()
    assert ((captions.other < 3) == (own < 3)).all()
    rows = np.repeat(np.arange(600), 400)
    told = captions.draw(rows, np.random.default_rng(1)).reshape(600, 400)
    right = captions.right[labels, captions.cell]
    error = np.sqrt(right * (1 - right) / 400)
    assert (np.abs((told == labels[:, None]).mean(1) - right) < 5 * error + 1e-9).all()
    others = captions.other[labels, captions.cell][:, None]
    assert ((told == labels[:, None]) | (told == others)).all()
    odds = np.log(captions.right / (1 - captions.right))
    assert odds.std() > 1


def test_a_step_is_decided_by_the_seed_and_its_number():
    first, again = Steps(TASKS, TINY), Steps(TASKS, replace(TINY, steps=9))
    other = Steps(TASKS, replace(TINY, seed=1))
    for step in (3, 0, 1):
        for key, value in first[step].items():
            torch.testing.assert_close(value, again[step][key], rtol=0, atol=0)
        assert not torch.equal(first[step]["pictures"], other[step]["pictures"])
        assert not torch.equal(first[step]["pictures"], first[step + 1]["pictures"])


# -- resuming ------------------------------------------------------------------------------------


def test_a_killed_pretraining_goes_on_as_if_nothing_had_happened(tmp_path, monkeypatch):
    saver = file.ModelCheckpoint

    def every_two(folder: Path, **settings):
        return saver(folder, **{**settings, "every_n_train_steps": 2})

    monkeypatch.setattr(file, "ModelCheckpoint", every_two)
    whole = load_file(pretrain(TINY, tmp_path / "a", tmp_path / "whole.safetensors"))

    step, shown = Pretraining.training_step, list[bytes]()

    def killed_in_the_third_step(self, batch, batch_idx):
        shown.append(batch["pictures"].numpy().tobytes())
        if len(shown) == 3:
            raise RuntimeError("killed")
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Pretraining, "training_step", killed_in_the_third_step)
    out = tmp_path / "resumed.safetensors"
    with pytest.raises(RuntimeError, match="killed"):
        pretrain(TINY, tmp_path / "b", out)
    assert not out.exists()
    resumed = load_file(pretrain(TINY, tmp_path / "b", out))
    steps = Steps(TASKS, TINY)
    numbers = [0, 1, 2, 2, 3]  # the third is done again, and none of the others
    assert shown == [steps[i]["pictures"].numpy().tobytes() for i in numbers]
    assert resumed.keys() == whole.keys()
    for name, tensor in whole.items():
        torch.testing.assert_close(resumed[name], tensor, rtol=0, atol=0)
    pretrain(TINY, tmp_path / "b", out)  # there is nothing left to do
    assert len(shown) == 5
    assert load_model(out)[1] == Pretraining(TASKS, TINY).vocabulary
