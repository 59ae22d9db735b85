"""``tasks inspect``: what is printed of a folder, and what of one that cannot be used."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.pictures import CLASSES, random, save, table, tree


def lines(text: str) -> list[str]:
    """Lines without the width of their columns."""
    return [" ".join(line.split()) for line in text.splitlines()]


def test_the_tree_of_a_folder(data_folder, command):
    root = tree(data_folder / "pets" / "archive", ["cat", "dog"], Training=3, Testing=10)
    deep = Image.fromarray(random(60, 50)[..., 0].astype(np.uint16) * 257)
    deep.save(root / "Testing" / "cat" / "deep.TIFF")
    frames = [Image.fromarray(random(40, 40, seed)) for seed in range(2)]
    frames[0].save(root / "Testing" / "dog" / "b.gif", save_all=True, append_images=frames[1:])
    (root / "Testing" / "dog" / "a.heic").write_bytes(b"heic")
    save(random(8, 8), root / "__MACOSX" / "cat" / "0.png")
    save(random(8, 8), root / "spare" / "0.png")
    found = command("tasks", "inspect", data_folder / "pets")
    assert found.code == 0
    assert lines(found.out) == [
        "pets/",
        "archive/Training/ train: 2 classes, 6 pictures",
        "cat/ 3",
        "dog/ 3",
        "archive/Testing/ test: 2 classes, 22 pictures",
        "cat/ 11",
        "dog/ 11",
        "entered archive",
        "left out, no part of train and test: archive/spare (1 picture)",
        "left out, no pictures that can be read: 1 files (.heic 1)",
        "passed over: __MACOSX (of the system)",
        "sizes 36 x 34 to 50 x 60 pixels",
        "modes RGB 26, I;16 1, P 1",
        "scaled to 8 bits: 1 picture",
        "the first of several frames is read: 1 picture",
        "splits train 6, adapt 2, val 2, test 18",
    ]


def test_a_data_folder_is_shown_task_by_task(data_folder, command):
    tree(data_folder / "farm", CLASSES, whole=10)
    (data_folder / "zoo").mkdir()
    table(CLASSES, "whole", 10).to_parquet(data_folder / "zoo" / "0.parquet")
    found = command("tasks", "inspect", data_folder)
    assert found.code == 0
    said = lines(found.out)
    assert [said[0], said[-1]] == ["farm/", "2 tasks: local_farm, local_zoo"]
    assert said.count("splits train 18, adapt 3, val 3, test 6") == 2
    assert "(table) cut by class: 3 classes, 30 pictures" in said


def test_what_cannot_be_used_is_shown_and_one_line_with_code_2(data_folder, command):
    root = tree(data_folder / "pets", ["cat", "dog"], Train=3)
    save(random(8, 8), root / "Test" / "0.png")
    found = command("tasks", "inspect", root)
    assert "the test part (Test) holds 1 pictures in no class folder" in found.error
    assert "Train/ train: 2 classes, 6 pictures" in lines(found.out)


def test_pictures_that_cannot_be_read_are_listed(data_folder, command):
    root = tree(data_folder / "pets", ["cat", "dog"], train=3, test=10)
    for name in ("train/cat/000.png", "test/dog/003.png"):
        (root / name).write_bytes(b"")
    found = command("tasks", "inspect", root)
    assert "train/cat/000.png is no picture that can be decoded" in found.error
    assert "; 2 such pictures in all: mend or delete them, and run again" in found.error
    assert found.out.count("cannot be read:") == 2


@pytest.mark.parametrize("place", ["nowhere", "file.txt"])
def test_what_is_no_folder(tmp_path, command, place):
    (tmp_path / "file.txt").write_text("text")
    assert command("tasks", "inspect", tmp_path / place).error == f"no folder {tmp_path / place}"


def test_twelve_bits_in_sixteen_are_refused(data_folder, command):
    """https://github.com/python-pillow/Pillow/issues/5991: nearly black, and no word of it."""
    for label in ("a", "b"):
        for i in range(6):
            path = Path(data_folder / "xray" / label / f"{i}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random(40, 40, i)[..., 0].astype(np.uint16) * 16).save(path)
    found = command("tasks", "inspect", data_folder / "xray")
    assert "with more than 8 bits use at most the lowest 17 of 256 shades" in found.error
