"""The pocket CLIP: few rows of a vocabulary, one file, and open_clip's own numbers."""

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from open_clip.tokenizer import SimpleTokenizer
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from bench.zoo import encoders
from bench.zoo.encoders import ENCODERS
from bench.zoo.pocket_clip import (
    FILE,
    POCKET,
    Vocabulary,
    load_model,
    new_model,
    normalise,
    save_model,
    text_features,
)
from bench.zoo.pretrain import Recipe
from mergeshift import DamagedFileError, UserError
from methods.common.vit import PlainOps, encode
from methods.common.weights import Weights
from tasks import suite

TEXTS = ["a handwritten digit two", "a zebra", "a word in tamil script", "brick", ""]
CLIP_WORDS = 49_408  # rows of the full table
WORDS = SimpleTokenizer(context_length=16)


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary.of(TEXTS)


@pytest.fixture(scope="module")
def model(vocabulary) -> CLIP:
    torch.manual_seed(0)
    return new_model(vocabulary).eval().requires_grad_(False)


@pytest.fixture
def saved(model, vocabulary, tmp_path) -> Path:
    path = tmp_path / "model.safetensors"
    save_model(model, vocabulary, path, {"steps": 3, "seed": 1})
    return path


# -- the text tower ------------------------------------------------------------------------------


def test_few_rows_give_the_features_of_the_full_vocabulary(model, vocabulary):
    vision = CLIPVisionCfg(layers=4, width=192, head_width=32, patch_size=8, image_size=32)
    text = CLIPTextCfg(context_length=16, vocab_size=CLIP_WORDS, width=64, heads=2, layers=2)
    full = CLIP(128, vision, text).eval()
    state = dict(model.state_dict())
    table = torch.randn(CLIP_WORDS, 64, generator=torch.Generator().manual_seed(1))
    table[list(vocabulary.ids)] = state["token_embedding.weight"]
    full.load_state_dict({**state, "token_embedding.weight": table})
    with torch.inference_mode():
        expected = F.normalize(full.encode_text(WORDS(TEXTS)), dim=-1)
    found = text_features(model, vocabulary, TEXTS)
    torch.testing.assert_close(found, expected)
    assert (found @ found.T - torch.eye(5)).abs().max() > 1e-3
    assert len({row.numpy().tobytes() for row in found}) == 5


def test_the_end_of_a_text_is_its_largest_row(vocabulary):
    rows = vocabulary.encode(TEXTS)
    ends = [1 + len(WORDS.encode(text)) for text in TEXTS]
    assert rows.argmax(1).tolist() == ends
    assert rows[0, ends[0]] == len(vocabulary.ids) - 1
    assert vocabulary.ids[-2:] == (CLIP_WORDS - 2, CLIP_WORDS - 1)  # start and end of a text
    assert list(vocabulary.ids) == sorted(set(vocabulary.ids))
    torch.testing.assert_close(torch.tensor(vocabulary.ids)[rows], WORDS(TEXTS))


@pytest.mark.parametrize(("text", "word"), [("a violin", "violin"), ("handwritten tuba", "tuba")])
def test_an_unknown_word_is_one_line_that_names_it(vocabulary, text, word):
    with pytest.raises(UserError) as caught:
        vocabulary.encode(["a zebra", text])
    message = str(caught.value)
    assert f"does not know '{word} ' in {text!r}" in message
    assert "\n" not in message
    assert "use a CLIP encoder" in message


# -- the file ------------------------------------------------------------------------------------


def test_a_model_comes_back_as_it_was_saved(model, vocabulary, saved):
    found, words = load_model(saved)
    assert words == vocabulary
    assert not found.training
    assert not any(parameter.requires_grad for parameter in found.parameters())
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], tensor, rtol=0, atol=0)
    with safe_open(saved, framework="pt") as file:
        assert file.metadata() == {"recipe": '{"seed": 1, "steps": 3}'}
    assert [path.name for path in saved.parent.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("size", [0, 4, 1000, -1])
def test_a_truncated_file_is_named(saved, size):
    saved.write_bytes(saved.read_bytes()[:size])
    with pytest.raises(DamagedFileError) as caught:
        load_model(saved)
    assert str(saved) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_of_something_else_is_refused(saved):
    tensors = load_file(saved)
    others = {
        "a name is missing": {k: v for k, v in tensors.items() if k != "visual.proj"},
        "a name is foreign": {**tensors, "foreign": torch.zeros(2)},
        "the words are missing": {k: v for k, v in tensors.items() if k != "token_ids"},
        "a shape is wrong": {**tensors, "visual.proj": torch.zeros(128, 64)},
        "nothing is right": {"w": torch.zeros(2)},
    }
    for what, wrong in others.items():
        save_file(wrong, saved)
        with pytest.raises(DamagedFileError, match="is not a pocket encoder") as caught:
            load_model(saved)
        assert "\n" not in str(caught.value), what


def test_the_committed_encoder_is_small_and_knows_every_caption():
    assert FILE.stat().st_size < 12e6
    _, words = load_model(FILE)
    for task in suite("pocket20"):
        assert words.encode(task.prompts).shape == (task.num_classes, 16)
    with safe_open(FILE, framework="pt") as file:
        recipe = json.loads(file.metadata()["recipe"])
    assert set(recipe) == {field.name for field in fields(Recipe)}
    assert recipe["suite"] == "pocket20"


# -- the image tower -----------------------------------------------------------------------------


def test_the_saved_image_tower_gives_the_features_of_open_clip(model, saved):
    pixels = torch.randint(0, 256, (6, 32, 32, 3), generator=torch.Generator().manual_seed(2))
    images = normalise(pixels.to(torch.uint8))
    expected = (pixels.double() / 255 - 0.5) / 0.25
    torch.testing.assert_close(images.double(), expected.permute(0, 3, 1, 2), rtol=0, atol=1e-6)
    tower = Weights.open(saved, prefix="visual.")
    assert 1.8e6 < tower.num_entries < 1.9e6
    with torch.inference_mode():
        found = encode(images, PlainOps(tower), POCKET)
        torch.testing.assert_close(found, model.encode_image(images), rtol=1e-5, atol=1e-5)


# -- heads ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("log_scale", "scale"), [(2.6592600, 14.285714), (9.0, 100.0)])
def test_a_pocket_head_is_unit_rows_times_the_scale(monkeypatch, log_scale, scale):
    eight = suite("pocket8")
    words = Vocabulary.of([prompt for task in eight for prompt in task.prompts])
    torch.manual_seed(3)
    model = new_model(words).eval()
    torch.nn.init.constant_(model.logit_scale, log_scale)
    monkeypatch.setattr(encoders, "load_model", lambda: (model, words))
    heads = ENCODERS["pocket-vit"].make_heads(eight)
    assert list(heads) == [task.name for task in eight]
    for task in eight:
        head = heads[task.name]
        assert head.shape == (task.num_classes, 128)
        torch.testing.assert_close(head.norm(dim=1), torch.full((task.num_classes,), scale))
        for row, prompt in zip(head, task.prompts, strict=True):  # one by one, no batch
            alone = model.encode_text(words.encode([prompt]))[0]
            torch.testing.assert_close(row, scale * alone / alone.norm(), rtol=1e-4, atol=1e-4)


def test_heads_are_kept_and_depend_on_the_prompts(tmp_path, monkeypatch):
    monkeypatch.setenv("MERGESHIFT_HOME", str(tmp_path))
    encoder, tasks = ENCODERS["toy-vit"], suite("toy")
    heads = encoder.heads(tasks)
    for task in tasks:
        norms = heads[task.name].norm(dim=1)
        torch.testing.assert_close(norms, torch.full((task.num_classes,), 20.0))
    again = encoder.heads(tasks)
    assert all(torch.equal(heads[name], again[name]) for name in heads)
    assert len(list((tmp_path / "heads").iterdir())) == len(tasks)  # a head serves all suites
    encoder.heads([replace(tasks[0], templates=("lines in {}",))])
    assert len(list((tmp_path / "heads").iterdir())) == len(tasks) + 1
