"""Own pictures from folder to table, without a hub: the pocket encoder, and a plan for CLIP's."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.zoo.encoders import ENCODERS
from bench.zoo.open_clip_models import OpenClip
from bench.zoo.recipes import FineTune
from results.store import Store
from tasks import TASKS, load
from tasks.images import fit
from tests.helpers.toy_sweep import forget

COLOURS = {"warm": (200, 60, 40), "cold": (40, 60, 200), "green": (60, 190, 60)}


def picture(colour: tuple[int, int, int], seed: int) -> Image.Image:
    """A noisy patch of a colour, of a size of its own."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(34, 70, 2)
    noise = rng.normal(0, 25, (height, width, 3))
    return Image.fromarray(np.clip(noise + colour, 0, 255).astype(np.uint8))


def save(path: Path, image: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


@pytest.fixture
def folders(data_folder, tmp_path, monkeypatch) -> Path:
    """Three tasks as people keep them: parts in capitals, parts in each class, a whole in a zip."""
    seed = 0
    for name, colour in COLOURS.items():
        for number in range(14):
            part = "Train" if number < 8 else "Test"
            inner = "train" if number < 8 else "validation"
            for path in (
                data_folder / "rooms" / "rooms-master" / part / name / f"{number}.JPG",
                data_folder / "paints" / name / inner / f"{number}.png",
                data_folder / "flags" / "archive" / "images" / name.upper() / f"{number}.webp",
            ):
                seed += 1
                save(path, picture(colour, seed))
    (data_folder / "flags" / "archive" / "labels").mkdir()
    (data_folder / "flags" / "archive" / "labels" / "list.csv").write_text("a,b")
    monkeypatch.delenv("MERGESHIFT_DATA_DIR")
    quick = FineTune(steps=6, batch=12, lr=3e-4)
    for name in ("pocket-vit", "pocket-vit-prototypes"):
        short = replace(ENCODERS[name], recipe=quick, pool=None)
        monkeypatch.setitem(ENCODERS._items, name, short)
    forget()
    return data_folder


WORDS = ("sweep", "--suite", "vision_local", "--shifts", "clean", "--wandb", "off", "--jobs", "1")


def test_a_folder_becomes_a_table_with_the_pocket_encoder(command, folders, tmp_path):
    out = tmp_path / "out"
    words = (*WORDS, "--data-dir", folders, "--encoder", "pocket-vit", "--out", out,
             "--methods", "pretrained,average,individual", "--no-tune")  # fmt: skip
    done = command(*words)
    assert done.code == 0, done.err
    said = " ".join(done.out.split())
    assert "3 tasks of vision_local@32" in said
    assert "heads class means of the train pictures: the text tower of pocket-vit does not" in said
    assert "local_rooms@32: entered rooms-master" in said
    rows = Store(out).read()
    rows = rows[rows["metric"] == "acc"]
    assert set(rows["encoder"]) == {"pocket-vit-prototypes"}
    assert "Setting: vision tasks with the pocket ViT (32 px; not CLIP)." in done.out
    assert "Pictures are resized to 32 x 32 pixels" in said
    assert "Published splits" not in done.out  # they are ours
    assert set(rows["task"]) == {"local_rooms@32", "local_paints@32", "local_flags@32"}
    assert rows.groupby("method")["value"].mean().min() > 0.8  # colours tell the classes
    assert "3 done, 0 to do" in " ".join(command(*words, "--dry-run").out.split())
    other = command(*words, "--heads", "text", "--dry-run")
    assert other.code == 0, other.err
    assert "captions of the class names without" in other.out
    assert "0 done, 3 to do; 3 experts to fine-tune" in " ".join(other.out.split())


def test_a_merged_model_is_measured_beside_them(command, folders, tmp_path):
    out = tmp_path / "out"
    words = ("--data-dir", folders, "--encoder", "pocket-vit", "--suite", "vision_local")
    done = command("zoo", "build", *words, "--jobs", "1")
    assert done.code == 0, done.err
    assert done.out.count("local_") >= 3
    words = (*words, "--shifts", "clean", "--jobs", "1", "--out", out)
    done = command("sweep", *words, "--methods", "average", "--wandb", "off")
    assert done.code == 0, done.err
    expert = next((tmp_path / "home" / "experts" / "pocket-vit").glob("local_rooms*.safetensors"))
    done = command("evaluate", "--weights", expert, "--name", "mine", *words)
    assert done.code == 0, done.err
    assert "mine (external)" in command("table", "--out", out).out


def test_pictures_are_resized_to_the_input_of_the_encoder(folders, monkeypatch):
    monkeypatch.setenv("MERGESHIFT_DATA_DIR", str(folders))
    small, large = (load(TASKS[f"local_paints{at}"], "test") for at in ("@32", ""))
    assert (small.images.shape[1:], large.images.shape[1:]) == ((32, 32, 3), (224, 224, 3))
    np.testing.assert_array_equal(small.labels, large.labels)
    for row in range(3):
        np.testing.assert_array_equal(small.images[row], fit(large.images.native(row), 32))


@pytest.mark.parametrize("encoder", ["ViT-B-32", "ViT-L-14"])
def test_a_plan_for_any_encoder_asks_no_hub(encoder, command, folders, tmp_path, monkeypatch):
    monkeypatch.setattr(OpenClip, "make", lambda _: pytest.fail("it is downloaded"))
    done = command(*WORDS, "--data-dir", folders, "--encoder", encoder, "--experts", "finetuned",
                   "--methods", "average", "--out", tmp_path / "out", "--dry-run")  # fmt: skip
    assert done.code == 0, done.err
    said = " ".join(done.out.split())
    assert "the encoder to download, 3 experts to fine-tune" in said
    assert "3 tasks of vision_local, CLIP" in said
    error = command(*WORDS, "--data-dir", folders, "--encoder", encoder, "--methods", "average",
                    "--out", tmp_path / "out", "--dry-run").error  # fmt: skip
    assert "nobody has published an expert of local_flags: make one (--experts finetuned)" in error


def test_pictures_that_are_stored_at_one_size_still_need_an_encoder_of_it(command, tmp_path):
    error = command(*WORDS, "--suite", "toy", "--encoder", "ViT-B-32", "--out", tmp_path).error
    assert "images of toy_two are 32 pixels wide, ViT-B-32 takes 224; encoders that fit:" in error
    assert "prototypes" not in error
