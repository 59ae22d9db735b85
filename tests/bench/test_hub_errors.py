"""What goes wrong with a hub is said in one line, and nothing half done is left."""

import io
import json

import numpy as np
import pytest

from bench.zoo.hub import Place, check_activation
from mergeshift import UserError, home
from tests.helpers import tiny_vision_suite as tiny
from tests.helpers.fake_hub_run import parquet, visit
from tests.helpers.tiny_vision_suite import DATA
from tests.helpers.toy_sweep import measured

LIGHTS, DIGITS, PETS = DATA
EXPERT = tiny.expert_of("tiny_pets")


@pytest.fixture
def refused(tiny_sweep):
    """The one line that a sweep says."""
    return lambda *words, **more: tiny_sweep(*words, methods=("average",), **more).error


@pytest.mark.parametrize(
    ("kind", "name", "what"),
    [
        ("models", tiny.CLIP, "cannot get open_clip_config.json of tests/tiny-clip at main: there "
         "is no such repository"),
        ("models", EXPERT, f"cannot get model.safetensors of {EXPERT} at main: there is no such "
         "repository"),
        ("datasets", PETS.repository, "data set tests/pets (revision main) is not on the hub"),
    ],
)  # fmt: skip
def test_a_missing_repository_is_named(refused, tiny_hub, kind, name, what):
    tiny_hub.remove(kind, name)
    assert what in refused()


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("clip", "of tests/tiny-clip at v9: there is no such revision"),
        ("experts", "at v9: there is no such revision"),
        ("tiny_pets", "Revision 'v9' doesn't exist for dataset 'tests/pets'"),
    ],
)
def test_a_wrong_revision_is_named(refused, tiny_hub, what, said):
    with tiny.registered(**{what: "v9"}):
        assert said in refused()


def test_a_pinned_revision_stays_what_it_was(tiny_sweep, tiny_hub):
    commit = tiny_hub.heads["datasets", PETS.repository]
    tiny_hub.add("datasets", PETS.repository, PETS.files(test=PETS.file("train")))
    with tiny.registered(tiny_pets=commit):
        assert tiny_sweep(methods=("average",), shifts=("clean",)).code == 0


@pytest.mark.parametrize(
    ("kind", "name", "path"),
    [
        ("models", tiny.CLIP, "open_clip_model.safetensors"),
        ("models", EXPERT, "model.safetensors"),
        ("datasets", PETS.repository, PETS.path("test")),
    ],
)
def test_a_broken_download_is_said_and_made_again(
    refused, tiny_sweep, tiny_hub, hub_home, tmp_path, kind, name, path
):
    tiny_hub.interrupt(kind, name, path, 500, *[0] * 9)  # libraries try again, but not for ever
    said = refused(shifts=("clean",))
    assert name in said
    assert "peer closed connection" in said
    assert "run again" in said
    assert not list(hub_home.rglob("*.incomplete"))
    assert not list(home().rglob("*.incomplete"))
    tiny_hub.interrupt(kind, name, path)
    assert tiny_sweep(methods=("average",), shifts=("clean",)).code == 0
    assert tiny_sweep(methods=("average",), shifts=("clean",), out="undisturbed").code == 0
    assert measured(tmp_path / "out").equals(measured(tmp_path / "undisturbed"))


def test_a_download_that_is_cut_once_goes_on(tiny_sweep, tiny_hub):
    tiny_hub.interrupt("models", EXPERT, "model.safetensors", 700)
    tiny_hub.interrupt("datasets", PETS.repository, PETS.path("test"), 900)
    assert tiny_sweep(methods=("average",), shifts=("clean",)).code == 0
    assert tiny_hub.starts("models", EXPERT, "model.safetensors") == [0, 2 * 256]
    assert tiny_hub.starts("datasets", PETS.repository, PETS.path("test")) == [0, 3 * 256]


def noise(count: int, classes: int, **names: str) -> bytes:
    pictures = np.random.default_rng(0).integers(0, 256, (count, 20, 20, 3), np.uint8)
    labels = np.arange(count) % classes
    return parquet(list(pictures), labels.tolist(), [f"class {i}" for i in range(classes)], **names)


def numbers(count: int) -> bytes:
    """Numbers where there were pictures, under the same name."""
    from datasets import Dataset

    buffer = io.BytesIO()
    columns = {"image": list(range(count)), "label": [i % 4 for i in range(count)]}
    Dataset.from_dict(columns).to_parquet(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (lambda: PETS.file("test", image="img"), "has no column 'image'; it has: img, label"),
        (lambda: PETS.file("test", label="breed"), "has no column 'label'; it has: image, breed"),
        (lambda: numbers(30), "column 'image' of tests/pets (validation) holds no pictures"),
        (lambda: PETS.file("train"), "has 20 images, the entry of tiny_pets says 30"),
        (lambda: noise(30, 5), "has 5 classes, labels 0 to 4; the entry of tiny_pets says 4"),
        (lambda: b"PAR1 and then rubbish", "cannot read data set tests/pets"),
    ],
    ids=["image", "label", "no pictures", "size", "classes", "damaged"],
)
def test_a_data_set_that_was_changed_is_refused(refused, tiny_hub, part, said):
    tiny_hub.add("datasets", PETS.repository, PETS.files(test=part()))
    error = refused()
    assert said in error
    assert "tests/pets" in error


def test_a_part_that_is_gone_is_named(refused, tiny_hub):
    files = {path: data for path, data in PETS.files().items() if "validation" not in path}
    tiny_hub.add("datasets", PETS.repository, files)
    assert "data set tests/pets has no split 'validation'; it has: train" in refused()


def test_a_config_that_is_gone_is_named(refused, tiny_hub):
    files = {path: data for path, data in DIGITS.files().items() if path != "README.md"}
    tiny_hub.add("datasets", DIGITS.repository, files)
    said = refused()
    assert "tests/digits" in said
    assert "'cropped'" in said


def test_another_architecture_is_refused(refused, tiny_hub):
    files = tiny.expert_files("tiny_pets")
    files["config.json"] = files["config.json"].replace(b"quick_gelu", b"gelu")
    tiny_hub.add("models", EXPERT, files)
    assert "computes with gelu, this encoder with quick_gelu" in refused()


GELU, QUICK = {"hidden_act": "gelu"}, {"hidden_act": "quick_gelu"}


@pytest.mark.parametrize(("config", "found"), [
    ({}, ""),  # CLIPVisionConfig's own: quick_gelu
    (QUICK, ""),
    (GELU, "gelu"),
    ({"hidden_act": "gelu_new"}, "gelu_new"),
    ({"vision_config": GELU, "text_config": QUICK}, "gelu"),  # of a whole CLIP
    ({"vision_config": QUICK, "text_config": GELU}, ""),
    ({"vision_config": {}, "text_config": GELU}, ""),
    ({**QUICK, "vision_config": GELU}, "gelu"),  # both: that of the tower counts
    ({**GELU, "vision_config": QUICK}, ""),
    ({"vision_config": QUICK, "vision_config_dict": GELU}, "gelu"),  # older files: it goes on top
    ({"vision_config": GELU, "vision_config_dict": {}}, "gelu"),
    ({"vision_config": GELU, "vision_config_dict": None}, "gelu"),
    ({"vision_config": None, **GELU}, "gelu"),
])  # fmt: skip
def test_the_activation_is_that_of_the_image_tower(tiny_hub, config, found):
    """The weights fit, and the numbers would be a little off: ``config.json`` alone tells."""
    tiny_hub.add("models", EXPERT, {"config.json": json.dumps(config).encode()})
    place = Place(EXPERT, "model.safetensors")
    if not found:
        check_activation(place, tiny.VIT)
        return
    with pytest.raises(UserError) as caught:
        check_activation(place, tiny.VIT)
    assert str(caught.value) == (
        f"model.safetensors of {EXPERT} at main computes with {found}, this encoder with "
        "quick_gelu: not the same"
    )


def test_offline_with_an_empty_cache_says_so(refused, tiny_hub, go_offline):
    go_offline()
    said = refused()
    assert "tests/tiny-clip" in said
    assert "HF_HUB_OFFLINE" in said
    assert tiny_hub.asked == []


def test_offline_with_half_a_cache_names_what_lacks(refused, tiny_sweep, tiny_hub, go_offline):
    with tiny.registered(tiny_pets="v9"):
        refused()  # the model is there, the data set is not
    go_offline()
    said = refused()
    assert "data set tests/" in said
    assert "HF_HUB_OFFLINE" in said


def test_a_hub_that_does_not_answer_is_said(refused, tiny_hub, hub_home, monkeypatch):
    tiny_hub.url = "http://127.0.0.1:9"  # nobody listens there
    visit(tiny_hub, hub_home, monkeypatch)
    assert "the hub (http://127.0.0.1:9) cannot be reached" in refused()
