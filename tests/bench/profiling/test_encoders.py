"""What `profile encoders` and `profile streaming` measure; at full size with `-m slow`."""

from dataclasses import replace

import pytest
import torch

from bench.profiling.encoders import CLASSES, LIKE, NAMES, timed, tower
from bench.profiling.streaming import METHODS_SHOWN, SHIFTS, folder_suite, measured
from bench.zoo.encoders import ENCODERS
from methods.common.vit import ViT

SMALL = ViT(32, 16, width=32, layers=2, heads=2, output_dim=16, quick_gelu=True)


def small_tower():
    from open_clip.model import CLIPVisionCfg, _build_vision_tower

    torch.manual_seed(0)
    config = CLIPVisionCfg(layers=2, width=32, head_width=16, patch_size=16, image_size=32)
    return _build_vision_tower(16, config, quick_gelu=True).eval().requires_grad_(False)


def test_an_encoder_is_compared_merged_and_run(tmp_path):
    facts = timed(small_tower(), SMALL, tmp_path, num_experts=3, batch=2, repeats=1)
    # 3 * 16 * 16 * 32 patches, 5 + 1 tokens of 32, ln_pre and ln_post 4 * 32, proj 32 * 16, and
    # twice: 4 * 32 in norms, 4 * 32 * 32 + 4 * 32 in the attention, 8 * 32 * 32 + 5 * 32 in the MLP
    assert facts.parameters == 24576 + 6 * 32 + 128 + 512 + 2 * (128 + 4096 + 128 + 8192 + 160)
    assert facts.difference < 1e-5
    assert facts.images_a_second > 0
    assert facts.corrupt > 0
    assert CLASSES > 1


def test_another_architecture_is_not_compared(tmp_path):
    gelu = replace(SMALL, quick_gelu=False)
    assert timed(small_tower(), gelu, tmp_path, 1, batch=2, repeats=1).difference > LIKE


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_functional_encoder_is_open_clips_at_full_size(name, tmp_path):
    visual, vit = tower(name)
    assert timed(visual, vit, tmp_path, num_experts=2, batch=2, repeats=1).difference < LIKE


def test_one_pass_decodes_and_corrupts_each_image_once():
    tiny = replace(
        ENCODERS["ViT-B-32"],
        vit=ViT(224, 32, width=32, layers=1, heads=2, output_dim=8, quick_gelu=True),
    )
    with folder_suite(images=2) as suite:
        images = sum(task.sizes[3] for task in suite.tasks)
        one, many = measured(tiny, suite)
    count, (clean, *shifts) = len(METHODS_SHOWN), SHIFTS
    assert clean == "clean"
    assert images > 0
    assert one.work == {"decoded": images * len(SHIFTS), "corrupted": images * len(shifts)}
    assert many.work == {name: count * number for name, number in one.work.items()}
    assert one.predicted == many.predicted == images * len(SHIFTS) * count


@pytest.mark.parametrize("what", ["encoders", "streaming"])
def test_another_encoder_is_refused(what, command):
    assert "ViT-B-32, ViT-B-16, ViT-L-14; got 'pocket-vit'" in (
        command("time", what, "--encoder", "pocket-vit").error
    )
