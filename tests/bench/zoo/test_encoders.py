"""The field's encoders: architectures, pixels, and the names of their checkpoints."""

import open_clip
import pytest
import torch

from bench.zoo import open_clip_models, pocket_clip
from bench.zoo.encoders import ENCODERS, FAMILIES, OF_WORLD
from bench.zoo.hub import Place, Published
from mergeshift import UserError
from tasks import SUITES, TASKS

FIELD = {"ViT-B-32": "base-patch32", "ViT-B-16": "base-patch16", "ViT-L-14": "large-patch14"}
FIELD_TASKS = [
    "sun397", "stanford-cars", "resisc45", "eurosat", "svhn", "gtsrb", "mnist", "dtd",
    "oxford_flowers102", "pcam", "fer2013", "oxford-iiit-pet", "stl10", "cifar100", "cifar10",
    "food101", "fashion_mnist", "emnist_letters", "kmnist", "rendered-sst2",
]  # fmt: skip
TALL_TASKS = [
    "Cars", "DTD", "EuroSAT", "GTSRB", "MNIST", "RESISC45", "SVHN", "SUN397", "STL10",
    "OxfordIIITPet", "Flowers102", "CIFAR100", "PCAM", "FER2013", "CIFAR10", "Food101",
    "FashionMNIST", "RenderedSST2", "EMNIST", "KMNIST",
]  # fmt: skip


# -- what they are -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FIELD)
def test_an_architecture_is_that_of_open_clip(name):
    """From open_clip's own configuration; quick_gelu is not in its plain entries."""
    config = open_clip.get_model_config(f"{name}-quickgelu")
    tower, vit = config["vision_cfg"], ENCODERS[name].vit
    assert (vit.image_size, vit.patch_size) == (tower["image_size"], tower["patch_size"])
    assert (vit.width, vit.layers, vit.output_dim) == (
        tower["width"], tower["layers"], config["embed_dim"]
    )  # fmt: skip
    assert vit.width / vit.heads == tower.get("head_width", 64)
    assert vit.mlp_ratio == tower.get("mlp_ratio", 4.0)
    assert vit.quick_gelu
    assert config["quick_gelu"]
    tag = open_clip.get_pretrained_cfg(f"{name}-quickgelu", "openai")
    assert tag["quick_gelu"]
    assert tag["hf_hub"].startswith("timm/")
    assert ENCODERS[name].title == f"CLIP {'/'.join(name.rsplit('-', 1))}"


def test_families_of_an_encoder_share_all_but_the_experts():
    assert OF_WORLD["vision"] == "ViT-B-32"
    for name in (*FIELD, "pocket-vit", "toy-vit"):
        encoder = ENCODERS[name]
        known = [family for family in FAMILIES if name in FIELD or family != "hub"]
        assert encoder.experts == known[0]
        for family in known:
            other = encoder.of(family)
            assert ENCODERS[other.name] is other
            assert other.of(encoder.experts) is encoder
            assert (other.plain, other.vit, other.base) == (name, encoder.vit, encoder.base)
            assert other.name == (name if family == known[0] else f"{name}-{family}")
    with pytest.raises(UserError, match="toy-vit has experts that are finetuned, imported; got"):
        ENCODERS["toy-vit"].of("hub")


def test_pixels_are_normalised_as_each_wants_them():
    from torchvision.transforms.v2.functional import normalize

    assert (open_clip_models.MEAN, open_clip_models.STD) == (
        open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
    )  # fmt: skip
    pixels = torch.randint(0, 256, (3, 8, 9, 3), generator=torch.Generator().manual_seed(0))
    floats = pixels.permute(0, 3, 1, 2) / 255
    for name in FIELD:
        found = ENCODERS[name].normalise(pixels.to(torch.uint8))
        expected = normalize(floats, list(open_clip_models.MEAN), list(open_clip_models.STD))
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    # what pocket results were measured with, to the bit
    expected = pixels.to(torch.uint8).permute(0, 3, 1, 2).float().div_(255).sub_(0.5).div_(0.25)
    for name in ("pocket-vit", "toy-vit"):
        assert torch.equal(ENCODERS[name].normalise(pixels.to(torch.uint8)), expected)
    assert torch.equal(pocket_clip.normalise(pixels.to(torch.uint8)), expected)


# -- where their experts are ---------------------------------------------------------------------


@pytest.mark.parametrize(("name", "size"), FIELD.items())
def test_checkpoints_are_found_by_the_names_of_both_families(name, size):
    place = ENCODERS[name].place
    found = [place(TASKS[task], 0) for task in SUITES["vision20"].names]
    assert [p.repository for p in found] == [f"tanganke/clip-vit-{size}_{t}" for t in FIELD_TASKS]
    assert {p.file for p in found} == {"model.safetensors"}
    tall = [place(TASKS[task], 0) for task in SUITES["vision20_tall"].names]
    assert {p.repository for p in tall} == {"nik-dim/tall_masks"}
    assert [p.file for p in tall] == [
        f"single_task/{name}/{task}Val/nonlinear_finetuned.pt" for task in TALL_TASKS
    ]


def test_what_nobody_published_is_said():
    encoder = ENCODERS["ViT-B-32"]
    with pytest.raises(UserError, match="nobody has published an expert of toy_two: make one"):
        encoder.place(TASKS["toy_two"], 0)
    with pytest.raises(UserError, match=r"one set of experts of ViT-B-32, 0; got expert seed 3"):
        encoder.place(TASKS[SUITES["vision8"].names[0]], 3)


def test_a_revision_is_part_of_a_place():
    field, tall = TASKS[SUITES["vision8"].names[0]], TASKS[SUITES["vision8_tall"].names[0]]
    pinned = Published("base-patch32", "ViT-B-32", "abc", "def")
    assert (pinned(field).revision, pinned(tall).revision) == ("abc", "def")
    assert str(pinned(field)) == "model.safetensors of tanganke/clip-vit-base-patch32_sun397 at abc"
    assert Published("base-patch32", "ViT-B-32")(field).revision == "main"
    assert Place("a/b", "c") != Place("a/b", "c", "v2")
