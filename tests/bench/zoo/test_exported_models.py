"""Models as other programs read them: transformers and open_clip compute our features."""

import json

import open_clip
import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import save_file
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from bench.zoo.encoders import ENCODERS
from methods import merge
from methods.common.vit import PlainOps, encode
from tests.helpers import tiny_vision_suite as tiny

NAMES = [data.name for data in tiny.DATA[:2]]
IMAGES = torch.randn(3, 3, 48, 48, generator=torch.Generator().manual_seed(0))


def features(weights: dict[str, torch.Tensor]) -> torch.Tensor:
    return encode(IMAGES, PlainOps(weights), tiny.VIT)


@pytest.fixture
def files(tmp_path):
    """A base and two experts, as files of open_clip's names."""
    paths = {name: tmp_path / f"{name or 'base'}.safetensors" for name in ("", *NAMES)}
    for name, path in paths.items():
        save_file(tiny.tower(name), path)
    words = ["merge", "--method", "task_arithmetic", "--base", paths[""], "--set", "scale=0.7"]
    return [*words, *(word for name in NAMES for word in ("--expert", paths[name]))]


@torch.inference_mode()
def test_transformers_and_open_clip_read_what_was_merged(tiny_hub, files, command, tmp_path):
    towers = [tiny.tower(name) for name in ("", *NAMES)]
    expected = features(merge("task_arithmetic", towers[0], towers[1:], scale=0.7))
    for form in ("hf", "open_clip"):
        done = command(*files, "--format", form, "--encoder", tiny.NAME, "-o", tmp_path / form)
        assert done.code == 0, done.err
    theirs = CLIPVisionModelWithProjection.from_pretrained(tmp_path / "hf").eval()
    torch.testing.assert_close(theirs(IMAGES).image_embeds, expected, rtol=1e-5, atol=1e-5)
    encoder = ENCODERS[tiny.NAME]
    prepared = CLIPImageProcessor.from_pretrained(tmp_path / "hf")
    assert prepared.image_mean == pytest.approx(encoder.mean)
    assert prepared.crop_size == {"height": 48, "width": 48}
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'open_clip'}")
    model.eval()
    torch.testing.assert_close(model.encode_image(IMAGES), expected, rtol=1e-5, atol=1e-5)
    words = open_clip.SimpleTokenizer()(["a cat"])
    torch.testing.assert_close(model.encode_text(words), tiny.clip().encode_text(words))
    assert model.visual.preprocess_cfg["mean"] == pytest.approx(encoder.mean)
    for form, library in (("hf", "transformers"), ("open_clip", "open_clip")):
        card = ModelCard.load(tmp_path / form / "README.md")
        assert card.data.base_model == tiny.CLIP
        assert card.data.library_name == library
        assert {"mergeshift", "merge"} <= set(card.data.tags)
        told = card.text.replace("\\", "")
        for said in (f"| experts | {NAMES[0]}.safetensors, {NAMES[1]}.safetensors |",
                     "scale=0.7", "| what it saw | weights only |", "Nothing yet"):  # fmt: skip
            assert said in told
    back = ["zoo", "export", "--weights", tmp_path / "hf", "--encoder", tiny.NAME]
    assert command(*back, "-o", tmp_path / "again").code == 0  # and it is merged weights as any
    for name in ("model.safetensors", "config.json", "preprocessor_config.json"):
        one, other = (tmp_path / folder / name for folder in ("hf", "again"))
        assert one.read_bytes() == other.read_bytes()


def test_the_card_has_the_table_of_what_was_evaluated(command, tmp_path):
    base = ENCODERS["toy-vit"].base()
    save_file({name: 0.9 * tensor for name, tensor in base.items()}, tmp_path / "mine.safetensors")
    cells = ("--sweep", "smoke", "--shifts", "clean", "--jobs", 1, "--out", tmp_path / "out")
    weights = ("--weights", tmp_path / "mine.safetensors")
    assert command("evaluate", *weights, *cells).code == 0
    words = ("zoo", "export", *weights, "--encoder", "toy-vit", "--out", tmp_path / "out")
    assert command(*words, "-o", tmp_path / "model").code == 0
    card = (tmp_path / "model" / "README.md").read_text()
    shown = command("table", "--format", "md", "--out", tmp_path / "out").out.strip()
    assert shown.startswith("**Accuracy on toy")
    assert shown in card
    assert "| method | not known |" in card
    assert json.loads((tmp_path / "model" / "config.json").read_text())["hidden_act"] == "gelu"


def test_mistakes_are_one_line_and_write_nothing(command, tmp_path):
    save_file(dict(ENCODERS["toy-vit"].base()), tmp_path / "base.safetensors")
    merged = ("merge", "--method", "average", "--base", tmp_path / "base.safetensors",
              "--expert", tmp_path / "base.safetensors", "-o", tmp_path / "new")  # fmt: skip
    for words, said in (
        (("--format", "hf"), "--format hf needs --encoder NAME"),
        (("--encoder", "toy-vit"), "--encoder is for --format hf | open_clip"),
        (("--format", "gguf", "--encoder", "toy-vit"), "--format is hf or open_clip; got 'gguf'"),
        (("--format", "open_clip", "--encoder", "toy-vit"), "toy-vit has none of open_clip's"),
        (("--format", "hf", "--encoder", "pocket-vit"), "what was merged does not fit"),
        ((), "the merged weights are written as safetensors; got 'new'"),
    ):
        assert said in command(*merged, *words).error
        assert not (tmp_path / "new").exists()
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "README.md").write_text("mine")
    words = (*merged, "--format", "hf", "--encoder", "toy-vit")
    assert "README.md is there already; replace it with --force" in command(*words).error
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["README.md"]
    assert command(*words, "--force").code == 0
