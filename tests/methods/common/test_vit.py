"""The functional vision transformer against open_clip's own module."""

import pytest
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from torch import Tensor, nn
from torch.nn import functional as F

from mergeshift import UserError
from methods.common.vit import (
    TOKENS_AT_ONCE,
    GramOps,
    PlainOps,
    ViT,
    encode,
    encode_plain,
    init_weights,
    parameters_of,
    tokens,
)
from methods.common.weights import Weights

POCKET = {"layers": 6, "width": 128, "head_width": 32, "patch_size": 8, "image_size": 32}
OPENAI = {"layers": 3, "width": 96, "head_width": 48, "patch_size": 16, "image_size": 64}
SMALL = ViT(image_size=8, patch_size=4, width=8, layers=2, heads=2, output_dim=6)


def visual_tower(config: dict, quick_gelu: bool) -> nn.Module:
    text = CLIPTextCfg(context_length=4, vocab_size=10, width=16, heads=2, layers=1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tower = CLIP(24, CLIPVisionCfg(**config), text, quick_gelu=quick_gelu).visual.eval()
        for parameter in tower.parameters():  # biases and norms begin at 0 and 1: move them
            parameter.data += 0.05 * torch.randn_like(parameter)
    return tower


@pytest.fixture(
    scope="module",
    params=[(POCKET, False), (OPENAI, True)],
    ids=["pocket", "quick_gelu"],
)
def tower(request) -> nn.Module:
    return visual_tower(*request.param)


def random_images(vit: ViT, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randn(count, 3, vit.image_size, vit.image_size, generator=generator)


# -- equal to open_clip --------------------------------------------------------------------------


def test_features_equal_open_clip(tower):
    vit, weights = ViT.of(tower), Weights.of(tower)
    images = random_images(vit, 5)
    with torch.no_grad():
        want = tower(images)
        got = encode(images, PlainOps(weights), vit)
    assert got.shape == (5, 24)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-5)


def test_tokens_equal_open_clip(tower):
    vit, weights = ViT.of(tower), Weights.of(tower)
    images = random_images(vit, 3)
    with torch.no_grad():
        found, features = tokens(images, PlainOps(weights), vit)
        tower.output_tokens = True
        want_features, want = tower(images)  # after ln_post, without the class token
        tower.output_tokens = False
        normed = PlainOps(weights).norm("ln_post", found)[:, 1:]
    assert found.shape == (3, vit.num_tokens, vit.width)
    torch.testing.assert_close(normed, want, rtol=0, atol=1e-5)
    torch.testing.assert_close(features, want_features, rtol=0, atol=1e-5)


def test_gradients_equal_open_clip(tower):
    vit = ViT.of(tower)
    images = random_images(vit, 4)
    weights = {k: v.detach().clone().requires_grad_() for k, v in tower.named_parameters()}
    encode(images, PlainOps(weights), vit).square().sum().backward()
    tower.zero_grad()
    tower(images).square().sum().backward()
    for name, parameter in tower.named_parameters():
        scale = parameter.grad.abs().max().item()
        gap = (weights[name].grad - parameter.grad).abs().max().item()
        assert gap <= 1e-4 * scale, (name, gap, scale)


@pytest.mark.parametrize("count", [1, 32, 33, 70])
def test_the_fast_forward_equals_the_plain_one(count):
    vit = ViT.of(tower := visual_tower(POCKET, False))
    assert TOKENS_AT_ONCE // vit.num_tokens == 32  # so that these counts split unevenly
    weights, images = Weights.of(tower).materialise(), random_images(vit, count)
    with torch.inference_mode():
        fast = encode_plain(images, weights, vit)
        torch.testing.assert_close(fast, encode(images, PlainOps(weights), vit), rtol=0, atol=1e-5)
    assert encode_plain(images, weights, vit).shape == (count, 24)  # with gradients on: unsplit


# -- ops -----------------------------------------------------------------------------------------


def test_gram_matrices_equal_what_open_clips_layers_see():
    tower = visual_tower(POCKET, False)
    vit, weights = ViT.of(tower), Weights.of(tower)
    images, seen = random_images(vit, 5), {}

    def keep(name):
        return lambda module, inputs, output: seen.__setitem__(name, (inputs[0], output))

    for i, block in enumerate(tower.transformer.resblocks):
        for part in ("ln_1", "ln_2", "mlp.c_fc", "mlp.c_proj"):
            block.get_submodule(part).register_forward_hook(keep(f"{i}.{part}"))
        block.attn.register_forward_hook(
            lambda module, inputs, output, i=i: seen.__setitem__(f"{i}.attn", output[0])
        )
    with torch.no_grad():
        tower(images)
    ops = GramOps(weights)
    ops.observe(images[:2], vit)
    ops.observe(images[2:], vit)

    def gram(x: Tensor) -> Tensor:
        rows = x.flatten(0, -2).double()
        return rows.T @ rows

    for i, block in enumerate(vit.blocks):
        want = {
            "attn.in_proj": gram(seen[f"{i}.ln_1"][1]),
            "mlp.c_fc": gram(seen[f"{i}.mlp.c_fc"][0]),
            "mlp.c_proj": gram(seen[f"{i}.mlp.c_proj"][0]),
        }
        for part, matrix in want.items():
            torch.testing.assert_close(ops.grams[f"{block}.{part}"], matrix, rtol=1e-4, atol=1e-3)
        # out_proj is no module call, so its input is not seen: but y = W x + b, so that
        # W (X^T X) W^T = (Y - b)^T (Y - b)
        weight, bias = (weights[n].double() for n in parameters_of(f"{block}.attn.out_proj"))
        got = weight @ ops.grams[f"{block}.attn.out_proj"] @ weight.T
        want_out = gram(seen[f"{i}.attn"].double() - bias)
        torch.testing.assert_close(got, want_out, rtol=1e-4, atol=1e-3)


def test_grams_count_every_token_of_every_layer():
    weights = init_weights(SMALL, torch.Generator().manual_seed(0))
    ops = GramOps(weights)
    ops.observe(random_images(SMALL, 3), SMALL)
    per_block = ("attn.in_proj", "attn.out_proj", "mlp.c_fc", "mlp.c_proj")
    layers = [f"{block}.{part}" for block in SMALL.blocks for part in per_block]
    assert ops.counts == {**dict.fromkeys(layers, 3 * SMALL.num_tokens), "proj": 3}
    assert ops.grams["proj"].dtype == torch.float64


class PerImage:
    """Weights of its own for every image, ``[B, ...]``: what routed methods do."""

    def __init__(self, stacked: dict[str, Tensor]):
        self.stacked = stacked

    def linear(self, name: str, x: Tensor) -> Tensor:
        if name == "proj":
            return torch.einsum("bni,bio->bno", x, self.stacked[name])
        weight, bias = (self.stacked[n] for n in parameters_of(name))
        return torch.einsum("bni,boi->bno", x, weight) + bias[:, None]

    def norm(self, name: str, x: Tensor) -> Tensor:
        plain = F.layer_norm(x, x.shape[-1:])
        weight, bias = self.stacked[f"{name}.weight"], self.stacked[f"{name}.bias"]
        return plain * weight[:, None] + bias[:, None]

    def conv(self, name: str, x: Tensor) -> Tensor:
        return torch.einsum("bni,boi->bno", x, self.stacked[f"{name}.weight"].flatten(2))

    def tensor(self, name: str) -> Tensor:
        return self.stacked[name]


@pytest.mark.parametrize("quick_gelu", [False, True])
def test_ops_may_give_every_image_its_own_weights(quick_gelu):
    vit = ViT(**{**vars(SMALL), "quick_gelu": quick_gelu})
    models = [init_weights(vit, torch.Generator().manual_seed(seed)) for seed in range(3)]
    images = random_images(vit, 3)
    stacked = {name: torch.stack([model[name] for model in models]) for name in vit.shapes()}
    want = [encode(image[None], PlainOps(m), vit) for image, m in zip(images, models, strict=True)]
    got = encode(images, PerImage(stacked), vit)
    torch.testing.assert_close(got, torch.cat(want), rtol=0, atol=1e-5)


# -- the architecture ----------------------------------------------------------------------------


def test_the_architecture_is_read_from_open_clip():
    assert ViT.of(visual_tower(POCKET, False)) == ViT(32, 8, 128, 6, 4, 24)
    assert ViT.of(visual_tower(OPENAI, True)) == ViT(64, 16, 96, 3, 2, 24, quick_gelu=True)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"pool_type": "avg"}, "class token; got avg"),
        ({"ls_init_value": 0.1}, "6 names or shapes differ, e.g. transformer.resblocks.0.ls_1"),
        ({"no_ln_pre": True}, "2 names or shapes differ, e.g. ln_pre.bias"),
    ],
)
def test_what_it_does_not_compute_is_refused(option, message):
    with pytest.raises(UserError, match=message):
        ViT.of(visual_tower({**OPENAI, **option}, False))


def test_weights_of_another_architecture_are_refused():
    weights = init_weights(SMALL, torch.Generator())
    SMALL.require_fit(weights, "the base")
    wider = ViT(**{**vars(SMALL), "output_dim": 7})
    with pytest.raises(UserError, match=r"the base does not fit ViT\(.*1 names.*e\.g\. proj;"):
        wider.require_fit(weights, "the base")
    prefixed = Weights({f"visual.{name}": tensor for name, tensor in weights.items()})
    with pytest.raises(UserError, match=r"without a 'visual\.' in front"):
        SMALL.require_fit(prefixed, "the base")


def test_initial_weights_have_open_clips_scales():
    vit = ViT(image_size=64, patch_size=8, width=256, layers=2, heads=4, output_dim=128)
    config = {"layers": 2, "width": 256, "head_width": 64, "patch_size": 8, "image_size": 64}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        text = CLIPTextCfg(context_length=4, vocab_size=10, width=16, heads=2, layers=1)
        tower = CLIP(128, CLIPVisionCfg(**config), text).visual
    ours = init_weights(vit, torch.Generator().manual_seed(0))
    for name, theirs in Weights.of(tower).items():
        assert ours.shape(name) == theirs.shape
        torch.testing.assert_close(ours[name].std(), theirs.std(), rtol=0.15, atol=1e-6, msg=name)
        torch.testing.assert_close(ours[name].mean(), theirs.mean(), rtol=0, atol=0.02, msg=name)


def test_initial_weights_depend_on_the_generator_alone():
    first, again, other = (
        init_weights(SMALL, torch.Generator().manual_seed(seed)).flat() for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
