"""Pretraining: the losses against plain NumPy, what is seen of the data, and resuming."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bench.zoo import pretrain as file
from bench.zoo.pocket_clip import load_model, normalise
from bench.zoo.pretrain import Pretraining, Recipe, Steps, pretrain, views
from tasks import SPLITS, load, suite

TASKS = suite("toy")
TINY = Recipe(suite="toy", steps=4, pairs=5, captions=6, share=0.25)


@pytest.fixture(autouse=True)
def _own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("MERGESHIFT_HOME", str(tmp_path / "home"))


@pytest.fixture
def module() -> Pretraining:
    torch.manual_seed(0)
    return Pretraining(TASKS, TINY)


# -- losses --------------------------------------------------------------------------------------


def cross_entropy(logits: np.ndarray, target: np.ndarray, smoothing: float = 0) -> float:
    """Mean over the rows, in float64."""
    log_p = logits - logits.max(1, keepdims=True)
    log_p = log_p - np.log(np.exp(log_p).sum(1, keepdims=True))
    truth = np.eye(logits.shape[1])[target] * (1 - smoothing) + smoothing / logits.shape[1]
    return float(-(truth * log_p).sum(1).mean())


def unit(rows: torch.Tensor) -> np.ndarray:
    array = rows.detach().double().numpy()
    return array / np.linalg.norm(array, axis=1, keepdims=True)


def test_simclr_is_equation_1_of_the_paper(module):
    features = torch.randn(14, 128, generator=torch.Generator().manual_seed(1))
    z = unit(module.projector(features))
    terms = []
    for i in range(14):
        j = (i + 7) % 14  # the other view of the same picture
        others = [np.exp(z[i] @ z[k] / TINY.temperature) for k in range(14) if k != i]
        terms.append(-np.log(np.exp(z[i] @ z[j] / TINY.temperature) / sum(others)))
    assert module.simclr(features).item() == pytest.approx(np.mean(terms), abs=1e-5)


def test_the_loss_is_the_sum_of_its_three_parts(module):
    batch = Steps(TASKS, TINY)[0]
    generator = torch.Generator().manual_seed(int(batch["seed"]))
    x = [views(batch[key], generator) for key in ("pictures", "pictures", "captioned")]
    model = module.model.eval()  # open_clip's own forward
    features = model.encode_image(torch.cat(x))
    prompts = [prompt for task in TASKS for prompt in task.prompts]
    nouns = [task.noun for task in TASKS]
    text = unit(model.encode_text(module.vocabulary.encode(prompts + nouns)))
    logits = model.logit_scale.exp().item() * unit(features) @ text.T
    precise = cross_entropy(logits[10:, : len(prompts)], batch["label"].numpy(), TINY.smoothing)
    coarse = cross_entropy(logits[:5, len(prompts) :], batch["task"].numpy(), TINY.smoothing)
    expected = module.simclr(features[:10]).item() + precise + TINY.coarse * coarse
    module.log_dict = lambda *_, **__: None  # there is no trainer to log to
    assert module.training_step(batch, 0).item() == pytest.approx(expected, abs=1e-4)


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
    ends = sorted((0.7 * value, 1.3 * value))
    assert ends[0] - 0.4 <= seen.min() < seen.max() <= ends[1] + 0.4
    assert seen.max() - seen.min() > 0.8 * (ends[1] - ends[0] + 0.8) - 0.3
    assert float(normalise(plain[:1])[0, 0, 0, 0]) == pytest.approx(value, abs=1e-6)


# -- what is seen --------------------------------------------------------------------------------


def test_captions_come_from_the_first_share_of_train_and_nothing_from_elsewhere():
    place: dict[bytes, tuple[int, str, int, int]] = {}  # look -> task, split, row, label
    for t, task in enumerate(TASKS):
        for split in SPLITS:
            stored = load(task, split)
            for row, image in enumerate(stored.images):
                place[image.tobytes()] = t, split, row, int(stored.labels[row])
    assert len(place) == 3 * 192
    steps = Steps(TASKS, replace(TINY, steps=60, pairs=20, captions=20))
    prompts = [(t, label) for t, task in enumerate(TASKS) for label in range(task.num_classes)]
    seen, told = set(), set()
    for step in range(len(steps)):
        batch = steps[step]
        for image, task_index in zip(
            batch["pictures"].numpy(), batch["task"].tolist(), strict=True
        ):
            t, split, row, _ = place[image.tobytes()]
            assert (t, split) == (task_index, "train")
            seen.add((t, row))
        for image, caption in zip(batch["captioned"].numpy(), batch["label"].tolist(), strict=True):
            t, split, row, label = place[image.tobytes()]
            assert ((t, label), split) == (prompts[caption], "train")
            told.add((t, row))
    assert told == {(t, row) for t in range(3) for row in range(24)}  # a quarter of 96
    assert len(seen) > 0.9 * 3 * 96


def test_a_share_is_one_picture_at_least():
    assert Steps(TASKS, replace(TINY, share=1e-6)).captioned.tolist() == [0, 96, 192]


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
