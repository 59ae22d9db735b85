"""Image towers in the names of transformers and of open_clip: the same features, both ways."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bench.zoo import conversion
from bench.zoo.conversion import config_of, fitted, from_transformers, image_tower, to_transformers
from bench.zoo.encoders import ENCODERS
from mergeshift import UserError
from methods.common.vit import PlainOps, ViT, encode

SMALL = ViT(32, 8, width=24, layers=3, heads=4, output_dim=10, mlp_ratio=2, quick_gelu=True)
OTHER = ViT(28, 14, width=32, layers=1, heads=2, output_dim=32, quick_gelu=False)
SHAPES = pytest.mark.parametrize("vit", [SMALL, OTHER], ids=["quick_gelu", "gelu"])


def theirs(vit: ViT, kind: str = "CLIPVisionModelWithProjection", seed: int = 0) -> Any:
    """A model of transformers with random weights, none of them 0 or 1."""
    import transformers

    torch.manual_seed(seed)
    config = transformers.CLIPVisionConfig(
        hidden_size=vit.width, intermediate_size=int(vit.width * vit.mlp_ratio),
        projection_dim=vit.output_dim, num_hidden_layers=vit.layers, image_size=vit.image_size,
        num_attention_heads=vit.heads, patch_size=vit.patch_size,
        hidden_act="quick_gelu" if vit.quick_gelu else "gelu",
    )  # fmt: skip
    model = getattr(transformers, kind)(config).eval().requires_grad_(False)
    for tensor in model.parameters():
        tensor.add_(0.2 * torch.randn_like(tensor))
    return model


def images(vit: ViT) -> Tensor:
    shape = (5, 3, vit.image_size, vit.image_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def features(tower: dict[str, Tensor], vit: ViT) -> Tensor:
    with torch.inference_mode():
        return encode(images(vit), PlainOps(tower), vit)


# -- theirs to ours ------------------------------------------------------------------------------


@SHAPES
def test_a_converted_tower_has_the_features_of_the_model(vit):
    model = theirs(vit)
    with torch.inference_mode():
        expected = model(pixel_values=images(vit)).image_embeds
    tower = fitted(model.state_dict(), vit, "it")
    assert {name: tuple(t.shape) for name, t in tower.items()} == vit.shapes()
    assert expected.abs().max() > 0.5
    torch.testing.assert_close(features(tower, vit), expected, rtol=1e-5, atol=1e-5)


@SHAPES
def test_a_model_without_a_projection_takes_the_base_s(vit):
    model, projection = theirs(vit, "CLIPVisionModel"), torch.randn(vit.width, vit.output_dim)
    with torch.inference_mode():
        expected = model(pixel_values=images(vit)).pooler_output @ projection
    tower = image_tower(model.state_dict(), "it", projection)
    torch.testing.assert_close(features(tower, vit), expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(UserError, match=r"^it has no visual_projection.weight; give"):
        image_tower(model.state_dict(), "it")


def test_q_k_and_v_are_joined_in_this_order():
    state = {name: torch.full((1,), float(i)) for i, name in enumerate(published_names())}
    first = "encoder.layers.0.self_attn."
    for part, value in (("q", 1.0), ("k", 2.0), ("v", 3.0)):
        state[f"{first}{part}_proj.weight"] = torch.full((2, 2), value)
        state[f"{first}{part}_proj.bias"] = torch.full((2,), 10 * value)
    found = from_transformers(state, torch.zeros(1, 1))
    assert found["transformer.resblocks.0.attn.in_proj_weight"].tolist() == [
        [1, 1], [1, 1], [2, 2], [2, 2], [3, 3], [3, 3]
    ]  # fmt: skip
    assert found["transformer.resblocks.0.attn.in_proj_bias"].tolist() == [10, 10, 20, 20, 30, 30]


def published_names() -> list[str]:
    """Every name of a one-block model, written out as in a file of the hub, without the wrapper."""
    block = "encoder.layers.0."
    layers = ["self_attn.k_proj", "self_attn.v_proj", "self_attn.q_proj", "self_attn.out_proj",
              "layer_norm1", "mlp.fc1", "mlp.fc2", "layer_norm2"]  # fmt: skip
    linear = [*(block + layer for layer in layers), "pre_layrnorm", "post_layernorm"]
    return [
        "embeddings.class_embedding", "embeddings.patch_embedding.weight",
        "embeddings.position_embedding.weight",
        *(f"{name}.{kind}" for name in linear for kind in ("weight", "bias")),
    ]  # fmt: skip


def test_the_names_are_those_of_the_hub():
    theirs = [name for group in conversion.names(1).values() for name in group]
    assert sorted(theirs) == sorted(published_names())
    assert {*conversion.names(3), "proj"} == set(SMALL.shapes())
    assert {*conversion.names(24), "proj"} == set(ENCODERS["ViT-L-14"].vit.shapes())


# -- where it may be found -----------------------------------------------------------------------


def wrapped(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


def test_a_tower_is_found_in_whatever_stands_around_it():
    model = theirs(SMALL)
    expected = image_tower(model.state_dict(), "it")
    hub = to_transformers(expected)
    bare = {name.removeprefix("vision_model."): tensor for name, tensor in hub.items()}
    text = {
        "text_model.encoder.layers.0.layer_norm1.weight": torch.ones(7),
        "text_projection.weight": torch.ones(7, 7),
        "logit_scale": torch.tensor(4.6),
    }
    whole = {"positional_embedding": torch.ones(9), "token_embedding.weight": torch.ones(9, 9),
             "transformer.resblocks.0.ln_1.weight": torch.ones(9),
             "logit_scale": torch.tensor(4.6)}  # fmt: skip
    position = {"vision_model.embeddings.position_ids": torch.arange(17)[None]}
    forms = {
        "as on the hub": hub,
        "with the positions that older files have": {**hub, **position},
        "as transformers 5 writes it": bare,
        "a whole CLIP of transformers": {**hub, **text},
        "in somebody's wrapper": wrapped("clip_model.", {**hub, **text}),
        "a tower of open_clip": expected,
        "a whole CLIP of open_clip": {**wrapped("visual.", expected), **whole},
        "as tall_masks saves it": {
            **wrapped("model.visual.", expected),
            **wrapped("model.", whole),
        },
        "half precision": {name: tensor.half() for name, tensor in hub.items()},
        "a tower and a counter": {**expected, "steps": torch.tensor(7)},
    }
    for form, state in forms.items():
        found = fitted(state, SMALL, form)
        assert found.keys() == expected.keys(), form
        tolerance = 1e-3 if form == "half precision" else 0
        for name, tensor in expected.items():
            assert found[name].dtype == torch.float32
            torch.testing.assert_close(found[name], tensor, rtol=tolerance, atol=tolerance)


def test_what_is_no_such_tower_is_refused_in_one_line():
    state = to_transformers(image_tower(theirs(SMALL).state_dict(), "it"))
    broken = {name: tensor for name, tensor in state.items() if "pre_layrnorm" not in name}
    other = {**state, "vision_model.embeddings.patch_embedding.bias": torch.zeros(24)}
    nan = {**state, "vision_model.post_layernorm.bias": torch.full((24,), torch.nan)}
    for wrong, said in (
        (broken, r"is not a CLIPVisionModel: 2 names are missing or foreign, e.g. pre_layrnorm"),
        (other, r"1 names are missing or foreign, e.g. embeddings.patch_embedding.bias"),
        ({"layer1.0.conv1.weight": torch.ones(1)}, "holds no image tower of CLIP.*it has e.g."),
        ({}, "it has no tensor"),
        (nan, r"holds NaN in ln_post.bias"),
    ):
        with pytest.raises(UserError, match=said) as caught:
            fitted(wrong, SMALL, "FILE")
        assert str(caught.value).startswith("FILE ")
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="FILE does not fit"):
        fitted(state, OTHER, "FILE")


# -- ours to theirs ------------------------------------------------------------------------------


@SHAPES
@pytest.mark.parametrize("kind", ["CLIPVisionModel", "CLIPVisionModelWithProjection"])
def test_transformers_reads_what_is_written(vit, kind, tmp_path):
    import transformers

    tower = image_tower(theirs(vit).state_dict(), "it")
    save_file(to_transformers(tower), tmp_path / "model.safetensors", {"format": "pt"})
    (tmp_path / "config.json").write_text(json.dumps(config_of(vit)))
    model = getattr(transformers, kind).from_pretrained(tmp_path).eval()
    expected = features(tower, vit)
    with torch.inference_mode():
        found = model(pixel_values=images(vit))
        if kind == "CLIPVisionModel":
            torch.testing.assert_close(
                found.pooler_output @ tower["proj"], expected, rtol=1e-5, atol=1e-5
            )
        else:
            torch.testing.assert_close(found.image_embeds, expected, rtol=1e-5, atol=1e-5)


@SHAPES
def test_there_and_back_is_the_same_to_the_bit(vit, tmp_path):
    tower = image_tower(theirs(vit).state_dict(), "it")
    path = Path(tmp_path, "model.safetensors")
    save_file(to_transformers(tower), path)
    again = image_tower(load_file(path), "it")
    assert again.keys() == tower.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in tower.items())
