"""Weights that do not say what they are: which tower, which activation, a model or a change."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bench.zoo.conversion import config_of, fitted, to_transformers, towers_in
from bench.zoo.encoders import ENCODERS
from bench.zoo.experts import Expert
from mergeshift import UserError
from methods.common.vit import ViT, init_weights
from results.store import Store
from tests.helpers.toy_sweep import Outcome, everything

TOY = ENCODERS["toy-vit"]
LARGER = ViT(image_size=32, patch_size=8, width=32, layers=2, heads=2, output_dim=16)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch) -> None:
    """A data folder for each test."""
    monkeypatch.setenv("MERGESHIFT_HOME", str(tmp_path / "home"))


def tower(seed: int, vit: ViT = TOY.vit) -> dict[str, Tensor]:
    return dict(init_weights(vit, torch.Generator().manual_seed(seed)))


def named(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


STUDENT, TEACHER = tower(1), tower(2)


@pytest.fixture
def bring_in(command, tmp_path) -> Callable[..., Outcome]:
    def run(path: Path, *words: object) -> Outcome:
        return command("zoo", "import", path, "--task", "toy_two", "--encoder", "toy-vit", *words)

    return run


@pytest.fixture
def refused(command, bring_in, tmp_path) -> Callable[..., str]:
    """What ``zoo import`` and ``evaluate`` say, which is the same; nothing is kept or written."""

    def run(path: Path, *words: object) -> str:
        before = everything(tmp_path)
        error = bring_in(path, *words).error
        assert error == command("evaluate", "--weights", path, "--suite", "toy", "--shifts",
                                "clean", "--jobs", 1, "--out", tmp_path / "out", *words).error  # fmt: skip # noqa: E501
        assert everything(tmp_path) == before
        return error

    return run


# -- several towers ------------------------------------------------------------------------------

SEVERAL = {
    "student and teacher": {**named("student.visual.", STUDENT),
                            **named("teacher.visual.", TEACHER)},
    "a model and its average": {**named("visual.", STUDENT),
                                **named("ema.module.visual.", TEACHER)},
    "of transformers": {**named("student.", to_transformers(STUDENT)),
                        **named("teacher.", to_transformers(TEACHER))},
    "in two namings": {**named("student.visual.", STUDENT),
                       **named("teacher.", to_transformers(TEACHER))},
    "bare, and one beside it": {**STUDENT, **named("momentum_encoder.", TEACHER)},
    "compiled, and before that": {**named("visual.", STUDENT),
                                  **named("_orig_mod.visual.", TEACHER)},
    "wrapped, in a file of torch": {"epoch": 3, "model": named("visual.", STUDENT),
                                    "model_ema": named("visual.", TEACHER),
                                    "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}},
    "of Lightning, with its average": {"state_dict": {**named("model.visual.", STUDENT),
                                                      **named("ema_model.visual.", TEACHER)}},
}  # fmt: skip


def saved(content: dict, path: Path) -> Path:
    if all(isinstance(value, Tensor) for value in content.values()):
        save_file(content, path.with_suffix(".safetensors"))
        return path.with_suffix(".safetensors")
    torch.save(content, path.with_suffix(".pt"))
    return path.with_suffix(".pt")


@pytest.mark.parametrize("kind", SEVERAL)
def test_one_of_several_towers_is_asked_for(kind, refused, tmp_path):
    """As files of DINO, MoCo and of trainings with a moving average hold them."""
    error = refused(saved(SEVERAL[kind], tmp_path / "two"))
    assert "holds 2 image towers, " in error
    assert error.endswith("which? --tower PREFIX takes one")


@pytest.mark.parametrize(("kind", "asked"), [
    ("student and teacher", "teacher"),
    ("student and teacher", "teacher."),
    ("student and teacher", "teacher.visual."),
    ("a model and its average", "ema"),
    ("of transformers", "teacher"),
    ("of transformers", "teacher.vision_model"),
    ("in two namings", "teacher"),
    ("bare, and one beside it", "momentum_encoder"),
    ("compiled, and before that", "_orig_mod"),
    ("wrapped, in a file of torch", "model_ema"),
    ("of Lightning, with its average", "ema_model"),
])  # fmt: skip
def test_the_tower_that_is_named_is_taken(kind, asked, bring_in, tmp_path):
    done = bring_in(saved(SEVERAL[kind], tmp_path / "two"), "--tower", asked)
    assert done.code == 0, done.err
    expert = Expert("toy-vit-imported", "toy_two", 0)
    found = load_file(expert.path)
    assert all(torch.equal(found[name], tensor) for name, tensor in TEACHER.items())
    assert expert.facts()["tower"] == asked


def test_a_tower_that_is_not_there_is_refused_with_those_that_are(refused, tmp_path):
    path = saved(SEVERAL["student and teacher"], tmp_path / "two")
    assert refused(path, "--tower", "pupil") == (
        f"{path} has no image tower under 'pupil'; it has student.visual. and teacher.visual."
    )


def test_an_evaluation_keeps_the_tower_that_was_named(command, tmp_path):
    """It is measured as the same tower in a file of its own; and both are other runs."""
    two = saved(SEVERAL["student and teacher"], tmp_path / "two")
    alone = saved(TEACHER, tmp_path / "alone")
    measure = ("--suite", "toy", "--shifts", "clean", "--jobs", 1, "--limit", 24, "--out",
               tmp_path / "out")  # fmt: skip
    for path, words in ((alone, ()), (two, ("--tower", "teacher", "--name", "teacher")),
                        (two, ("--tower", "student", "--name", "student"))):  # fmt: skip
        done = command("evaluate", "--weights", path, *words, *measure)
        assert done.code == 0, done.err
    rows = Store(tmp_path / "out").read()
    nll = rows[rows["metric"] == "nll"].pivot(index="task", columns="method", values="value")
    assert (nll["teacher"] == nll["alone"]).all()
    assert (nll["student"] != nll["alone"]).all()


def test_what_is_no_question_is_not_asked():
    same = {**named("student.visual.", TEACHER), **named("teacher.visual.", TEACHER)}
    other = {**named("student.visual.", TEACHER), **named("teacher.visual.", tower(3, LARGER))}
    text = {"text.transformer.resblocks.0.ln_1.weight": torch.ones(3),
            "stem.conv1.weight": torch.ones(3)}  # fmt: skip
    for state in (same, other, {**named("visual.", TEACHER), **text}):
        found = fitted(state, TOY.vit, "it")
        assert all(torch.equal(found[name], tensor) for name, tensor in TEACHER.items())


def test_towers_are_found_by_their_names():
    assert towers_in([]) == []
    assert towers_in(["conv1.weight"]) == []  # of a ResNet
    assert towers_in(["conv1.weight", "class_embedding"]) == [""]
    assert towers_in(["aconv1.weight", "aclass_embedding"]) == []
    mark = "embeddings.patch_embedding.weight"
    assert towers_in([mark, f"b.vision_model.{mark}"]) == ["", "b.vision_model."]


# -- the configuration beside them ---------------------------------------------------------------

ACTIVATION = "quick_gelu" if TOY.vit.quick_gelu else "gelu"
OTHER = "gelu" if TOY.vit.quick_gelu else "quick_gelu"
VISION = config_of(TOY.vit)
OPEN_CLIP = {"vision_cfg": {"layers": 2, "width": 32, "head_width": 16}, "quick_gelu": False}


@pytest.mark.parametrize(("name", "config", "said"), [
    ("config.json", VISION | {"hidden_act": OTHER}, f"computes with {OTHER}, this encoder with "),
    ("config.json", VISION | {"hidden_act": "gelu_new"}, "computes with gelu_new"),
    ("config.json", {"model_type": "clip", "vision_config": VISION | {"hidden_act": OTHER}},
     f"computes with {OTHER}"),
    ("config.json", {"model_type": "clip_vision_model"}, "computes with quick_gelu"),  # its default
    ("config.json", VISION | {"num_attention_heads": 4},
     "computes with 4 heads of attention, this encoder with 2"),
    ("config.json", VISION | {"layer_norm_eps": 1e-12}, "an epsilon of 1e-12 in its layer norms"),
    ("open_clip_config.json", {"model_cfg": OPEN_CLIP | {"quick_gelu": True}},
     "computes with quick_gelu"),
    ("open_clip_config.json",
     {"model_cfg": OPEN_CLIP | {"vision_cfg": {"layers": 2, "width": 32, "head_width": 8}}},
     "computes with 4 heads"),
    ("open_clip_config.json", {"model_cfg": OPEN_CLIP, "preprocess_cfg": {"mean": [0.4] * 3}},
     "takes pixels of the mean [0.4, 0.4, 0.4]"),
    ("preprocessor_config.json", {"image_std": [1.0, 1.0, 1.0]}, "takes pixels of the standard"),
])  # fmt: skip
def test_another_configuration_is_refused(name, config, said, refused, tmp_path):
    """The weights fit, and would be a little off: github.com/mlfoundations/open_clip/issues/771."""
    folder = tmp_path / "model"
    folder.mkdir()
    path = saved(to_transformers(TEACHER), folder / "model")
    (folder / name).write_text(json.dumps(config))
    error = refused(path)
    assert error.startswith(f"{path}, by the {name} beside it, ")
    assert said in error
    assert error.endswith(": not the same")
    assert said in refused(folder)  # the folder stands for the file in it


@pytest.mark.parametrize(("name", "config"), [
    ("config.json", VISION),
    ("config.json", {"model_type": "clip", "vision_config": VISION, "text_config": {}}),
    ("config.json", {"lr": 0.1, "batch": 32}),  # of a training, not of a model
    ("config.json", ["a", "list"]),
    ("config.json", {"vision_config": None, "hidden_act": ACTIVATION}),
    ("config.json", VISION | {"num_attention_heads": None, "layer_norm_eps": 0.00001}),
    ("open_clip_config.json", {"model_cfg": OPEN_CLIP,
                               "preprocess_cfg": {"mean": list(TOY.mean), "std": list(TOY.std)}}),
    ("open_clip_config.json", {"model_cfg": {"vision_cfg": {"timm_model_name": "x"}}}),
    ("preprocessor_config.json", {"image_mean": list(TOY.mean), "size": 32}),
])  # fmt: skip
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_its_own_configuration_is_no_hindrance(name, config, encoding, bring_in, tmp_path):
    path = saved(to_transformers(TEACHER), tmp_path / "model")
    (tmp_path / name).write_text(json.dumps(config), encoding=encoding)
    done = bring_in(path)
    assert (done.code, done.err) == (0, "")


def test_a_configuration_that_cannot_be_read_is_refused(refused, tmp_path):
    path = saved(TEACHER, tmp_path / "model")
    for content in (b"", b"{", b"<html>", b"\xff\xfe{", b"\x80"):
        (tmp_path / "config.json").write_bytes(content)
        assert f"{tmp_path}/config.json is no JSON" in refused(path)


def test_a_merge_is_of_one_model(command, tmp_path):
    """Not of LAION's and OpenAI's, whose shapes are the same."""
    for name, activation in (("base", "gelu"), ("same", "gelu"), ("other", "quick_gelu")):
        (tmp_path / name).mkdir()
        save_file(to_transformers(TEACHER), tmp_path / name / "model.safetensors")
        (tmp_path / name / "config.json").write_text(
            json.dumps(VISION | {"hidden_act": activation})
        )
    words = ("merge", "--method", "average", "--base", tmp_path / "base", "-o",
             tmp_path / "out.safetensors", "--expert", tmp_path / "same")  # fmt: skip
    assert "computes with quick_gelu, the base with gelu: not the same" in command(
        *words, "--expert", tmp_path / "other"
    ).error  # fmt: skip
    assert command(*words).code == 0


# -- changes instead of a model ------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1, -1, 0.1])
def test_a_task_vector_is_noted(scale, bring_in, tmp_path):
    base = TOY.base()
    tau = {k: scale * 0.05 * torch.randn(base.shape(k)) for k in base}
    done = bring_in(saved(tau, tmp_path / "tau"))
    assert done.code == 0
    assert done.err.count("\n") == 1
    assert "times as large as the base: is it a task vector?" in done.err


def test_the_encoder_itself_is_noted(bring_in, tmp_path):
    done = bring_in(saved(dict(TOY.base()), tmp_path / "base"))
    assert done.code == 0
    assert "base.safetensors holds the weights of toy-vit itself: it is no expert" in done.err


def test_a_tower_of_another_size_is_refused(refused, tmp_path):
    path = saved(tower(0, LARGER), tmp_path / "other")
    assert "does not fit ViT(image_size=32, patch_size=16" in refused(path)


def test_an_adapter_or_a_quantised_tower_is_refused(refused, tmp_path):
    adapter = {"base_model.model.visual.conv1.lora_A.weight": torch.ones(2, 3)}
    assert "is an adapter (LoRA or the like, " in refused(saved(adapter, tmp_path / "adapter"))
    whole = {k: (20 * v).to(torch.int8) for k, v in TEACHER.items()}
    assert "holds quantised weights" in refused(saved(whole, tmp_path / "int8"))


def test_a_missing_projection_is_the_encoder_s(bring_in, tmp_path):
    bare = {k: v for k, v in TEACHER.items() if k != "proj"}
    with pytest.raises(UserError, match="does not fit"):
        fitted(bare, TOY.vit, "it")
    assert bring_in(saved(bare, tmp_path / "bare")).code == 0
    found = load_file(Expert("toy-vit-imported", "toy_two", 0).path)
    assert torch.equal(found["proj"], TOY.base()["proj"])
