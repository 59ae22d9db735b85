"""A CLIP of open_clip's, fetched once and kept; its heads."""

import json
from dataclasses import replace

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save, save_file

from bench.zoo import open_clip_models
from bench.zoo.encoders import ENCODERS
from bench.zoo.open_clip_models import OpenClip, by_tag, vit_of
from mergeshift import DamagedFileError, UserError, home, sha256_of
from methods.common.vit import PlainOps, ViT, encode
from tasks import TASKS
from tests.helpers import tiny_vision_suite as tiny

SOURCE = OpenClip(f"hf-hub:{tiny.CLIP}", "", tiny.VIT)


def test_a_clip_is_fetched_once_and_kept(tiny_hub, go_offline):
    assert not SOURCE.is_ready()
    base = SOURCE.base()
    assert SOURCE.identity() == sha256_of(SOURCE.path)[:16]
    expected = dict(tiny.clip().visual.named_parameters())
    assert set(base) == set(expected)
    assert all(torch.equal(base[name], tensor) for name, tensor in expected.items())
    facts = json.loads(SOURCE.manifest.read_text())
    assert facts["source"] == {
        "repository": tiny.CLIP, "file": "open_clip_model.safetensors", "revision": "main"
    }  # fmt: skip
    assert facts["commit"] == tiny_hub.heads["models", tiny.CLIP]
    tiny_hub.asked.clear()
    go_offline()
    stamp = SOURCE.path.stat().st_mtime_ns
    SOURCE.heads([TASKS["tiny_pets"]])
    assert (SOURCE.path.stat().st_mtime_ns, tiny_hub.asked) == (stamp, [])


def test_the_kept_tower_gives_open_clip_s_features(tiny_hub):
    model, _ = SOURCE.load()
    images = torch.randn(4, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = tiny.clip().encode_image(images)
        found = encode(images, PlainOps(SOURCE.base()), tiny.VIT)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(model.encode_image(images), expected)


def test_a_head_is_the_mean_of_unit_features_made_a_unit_vector(tiny_hub):
    task = TASKS["tiny_lights"]
    assert len(task.templates) == 2
    model, tokens = tiny.clip(), open_clip.SimpleTokenizer()
    rows = []
    for name in task.classes:  # one prompt at a time
        parts = [model.encode_text(tokens([t.format(name)]))[0] for t in task.templates]
        mean = sum(part / part.norm() for part in parts) / 2
        rows.append(mean / mean.norm() * 30.0)
    found = SOURCE.heads([TASKS["tiny_pets"], task])
    assert list(found) == ["tiny_pets", "tiny_lights"]
    torch.testing.assert_close(found["tiny_lights"], torch.stack(rows), rtol=1e-4, atol=1e-4)


def test_heads_are_cached_by_classes_and_templates(tiny_hub, monkeypatch):
    encoder, task = ENCODERS[tiny.NAME], TASKS["tiny_lights"]
    made: list[list[str]] = []
    watched = replace(encoder, make_heads=lambda tasks: made.append([t.name for t in tasks]) or
                      encoder.make_heads(tasks))  # fmt: skip
    first = watched.heads([task])
    twin = replace(task, name="tiny_lights@published")
    again = watched.heads([task, TASKS["tiny_pets"], twin])
    assert made == [["tiny_lights"], ["tiny_pets"]]
    assert torch.equal(first["tiny_lights"], again["tiny_lights@published"])
    watched.heads([replace(task, templates=task.templates[:1])])
    watched.heads([replace(task, classes=("a", "b", "c"))])
    assert made[2:] == [["tiny_lights"]] * 2
    for path in (home() / "heads").iterdir():  # a cache: what is damaged is made anew
        path.write_bytes(path.read_bytes()[:100])
    assert torch.equal(watched.heads([task])["tiny_lights"], first["tiny_lights"])
    assert len(made) == 5


def test_the_older_name_of_a_file_is_known(tiny_hub, tmp_path):
    files = tiny_hub.repos["models", tiny.CLIP][tiny_hub.heads["models", tiny.CLIP]]
    path = tmp_path / "old.bin"
    (tmp_path / "new.safetensors").write_bytes(files["open_clip_model.safetensors"])
    torch.save(load_file(tmp_path / "new.safetensors"), path)
    old = {"open_clip_config.json": files["open_clip_config.json"],
           "open_clip_pytorch_model.bin": path.read_bytes()}  # fmt: skip
    tiny_hub.add("models", tiny.CLIP, old)
    expected = dict(tiny.clip().visual.named_parameters())
    base = SOURCE.base()
    assert all(torch.equal(base[name], tensor) for name, tensor in expected.items())
    assert json.loads(SOURCE.manifest.read_text())["source"]["file"].endswith(".bin")


def test_a_pickle_that_runs_code_is_not_run(tiny_hub, tmp_path):
    files = tiny_hub.repos["models", tiny.CLIP][tiny_hub.heads["models", tiny.CLIP]]
    torch.save({"w": Trap(str(tmp_path / "ran"))}, tmp_path / "trap.bin")
    trap = {"open_clip_config.json": files["open_clip_config.json"],
            "open_clip_pytorch_model.bin": (tmp_path / "trap.bin").read_bytes()}  # fmt: skip
    tiny_hub.add("models", tiny.CLIP, trap)
    with pytest.raises(DamagedFileError) as caught:
        SOURCE.base()
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()
    assert not SOURCE.is_ready()


class Trap:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: str):
        self.path = path

    def __reduce__(self) -> tuple:
        return open, (self.path, "w")


def refitted(hub, **changes: bytes) -> None:
    files = hub.repos["models", tiny.CLIP][hub.heads["models", tiny.CLIP]]
    hub.add("models", tiny.CLIP, {**files, **changes})


def test_another_model_than_the_entry_says_is_refused(tiny_hub):
    wrong = {
        "expected": {"quick_gelu": False},  # the weights do not tell
        "does not fit its configuration: other shapes": {"embed_dim": 24},
        "names": {"vision_cfg": {**tiny.CONFIG["vision_cfg"], "layers": 3}},
        "no plain CLIP": {"custom_text": True},
    }
    for said, change in wrong.items():
        config = json.dumps({"model_cfg": {**tiny.CONFIG, **change}}).encode()
        refitted(tiny_hub, **{"open_clip_config.json": config})
        with pytest.raises(UserError, match=said) as caught:
            SOURCE.base()
        assert "\n" not in str(caught.value)
        assert not SOURCE.is_ready()
    with pytest.raises(UserError, match="open_clip has no plain CLIP 'ViT-B-33', 'openai'"):
        OpenClip("ViT-B-33", "openai", tiny.VIT).base()


def test_a_damaged_download_is_named(tiny_hub):
    whole = save({"w": torch.zeros(100)})
    refitted(tiny_hub, **{"open_clip_model.safetensors": whole[:-40]})
    with pytest.raises(DamagedFileError, match=r"open_clip_model.safetensors is damaged") as caught:
        SOURCE.base()
    assert "\n" not in str(caught.value)


def test_another_revision_is_another_copy():
    assert replace(SOURCE, revision="v2").path != SOURCE.path
    assert OpenClip("ViT-B-32-quickgelu", "openai", open_clip_models.B32).path.name.startswith(
        "ViT-B-32-quickgelu-openai-"
    )


# -- any tag of open_clip's ------------------------------------------------------------------------

SMALL = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
TEXT = {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1}


def config_of(vision: dict, **facts: object) -> dict:
    return {"embed_dim": 12, "vision_cfg": {**SMALL, **vision}, "text_cfg": TEXT, **facts}


@pytest.mark.parametrize("config", [
    config_of({}),
    config_of({}, quick_gelu=True),
    config_of({"width": 48, "head_width": 12, "patch_size": 16}),
    config_of({"mlp_ratio": 3.0, "image_size": 24, "layers": 3, "patch_dropout": 0.5}),
    config_of({"pool_type": "tok", "output_tokens": False, "ls_init_value": None}),
])  # fmt: skip
def test_a_configuration_of_open_clip_says_what_is_computed(config):
    vit = vit_of(config, "tiny")
    torch.manual_seed(0)
    model = open_clip.model.CLIP(**config).eval()
    assert ViT.of(model.visual) == vit
    images = torch.randn(3, 3, vit.image_size, vit.image_size)
    weights = dict(model.visual.named_parameters())
    with torch.inference_mode():
        found = encode(images, PlainOps(weights), vit)
        torch.testing.assert_close(found, model.encode_image(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("config", "part"), [
    (config_of({"layers": [3, 4, 6, 3]}), "layers"),
    (config_of({"attentional_pool": True}), "attentional_pool"),
    (config_of({"pool_type": "avg"}), "pool_type"),
    (config_of({"no_ln_pre": True}), "no_ln_pre"),
    (config_of({"ls_init_value": 1e-4}), "ls_init_value"),
    (config_of({"pos_embed_type": "sin_cos_2d"}), "pos_embed_type"),
    (config_of({"timm_model_name": "convnext_base"}), "timm_model_name"),
    (config_of({}, custom_text=True), "custom_text"),
    ({**config_of({}), "text_cfg": {**TEXT, "hf_model_name": "roberta"}}, "hf_model_name"),
])  # fmt: skip
def test_another_tower_is_refused_by_the_name_of_its_part(config, part):
    with pytest.raises(UserError, match=f"tiny is no plain CLIP .*: it has {part}") as caught:
        vit_of(config, "tiny")
    assert "\n" not in str(caught.value)


def test_every_model_of_open_clip_is_known_or_refused():
    """A third of them are plain; OpenAI's are those that are registered by name."""
    known, refused = {}, []
    for name in open_clip.list_models():
        try:
            known[name] = vit_of(open_clip.get_model_config(name), name)
        except UserError:
            refused.append(name)
    assert known["ViT-B-32-quickgelu"] == open_clip_models.B32
    assert known["ViT-B-16-quickgelu"] == open_clip_models.B16
    assert known["ViT-L-14-quickgelu"] == open_clip_models.L14
    assert {"RN50", "ViT-B-16-SigLIP", "convnext_base", "coca_ViT-B-32", "EVA02-B-16"} <= set(
        refused
    )


@pytest.fixture
def tiny_tag(tiny_hub, monkeypatch):
    """A model of open_clip's with weights on the local hub, by tag."""
    configs = {"Tiny-quickgelu": dict(tiny.CONFIG), "Tiny": tiny.CONFIG | {"quick_gelu": False}}
    for name, config in configs.items():
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, name, config)
    facts = {"hf_hub": f"{tiny.CLIP}/", "quick_gelu": True, "mean": (0.5, 0.4, 0.3),
             "std": (0.2, 0.3, 0.4), "interpolation": "bicubic",
             "resize_mode": "shortest"}  # fmt: skip
    tags = {"random_s1": facts, "squashed": facts | {"resize_mode": "squash"},
            "elsewhere": facts | {"hf_hub": ""}}  # fmt: skip
    for name in ("Tiny-quickgelu", "Tiny"):
        monkeypatch.setitem(open_clip.pretrained._PRETRAINED, name, tags)
    monkeypatch.setattr(ENCODERS, "_items", dict(ENCODERS._items))
    return "Tiny-quickgelu:random_s1"


def test_a_tag_is_an_encoder_with_experts_of_its_own(tiny_tag, command, tmp_path):
    """Also in a worker, which knows no more than the name; files have names for any system."""
    encoder = ENCODERS[tiny_tag]
    assert (encoder.vit, encoder.mean, encoder.std) == (tiny.VIT, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    images = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = encode(images, PlainOps(encoder.base()), encoder.vit)
        torch.testing.assert_close(found, tiny.clip().encode_image(images), rtol=1e-5, atol=1e-5)
    imported = ENCODERS[f"{tiny_tag}-imported"]
    assert imported.of("finetuned") is encoder
    save_file(tiny.tower("tiny_pets"), tmp_path / "pets.safetensors")
    done = command("zoo", "import", tmp_path / "pets.safetensors", "--task", "tiny_pets",
                   "--encoder", tiny_tag)  # fmt: skip
    assert done.code == 0, done.err
    shown = command("zoo", "list", "--suite", tiny.SUITE, "--encoder", tiny_tag, "--experts",
                    "imported")  # fmt: skip
    assert "tiny_pets-0.safetensors" in shown.out
    encoder.heads([TASKS["tiny_pets"]])
    assert not [path for path in home().rglob("*") if ":" in path.name]


def test_what_open_clip_lacks_or_we_do_not_compute_is_one_line(tiny_tag, command):
    for name, said in {
        "Tiny:random_s1": "Tiny computes with another GELU than random_s1 was trained with; write "
        "Tiny-quickgelu:random_s1",
        "Tiny-quickgelu:random_s2": "open_clip has no weights of Tiny-quickgelu named 'random_s2'; "
        "it has random_s1",
        "ViT-B-33:openai": "open_clip has no model named 'ViT-B-33'; it has ViT-B-32",
        "Tiny-quickgelu:squashed": "was trained on pictures with resize_mode 'squash'",
        "Tiny-quickgelu:elsewhere": "does not lie on the hub",
        "ViT-B-16-SigLIP:webli": "ViT-B-16-SigLIP:webli is no plain CLIP",
    }.items():
        assert said in command("zoo", "list", "--suite", tiny.SUITE, "--encoder", name).error
    assert by_tag("ViT-B-32-quickgelu", "openai")[0].vit == open_clip_models.B32
