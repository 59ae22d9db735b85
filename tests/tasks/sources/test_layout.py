"""How folders of pictures are understood: parts, classes, wrappers, and what is left out."""

import re
from pathlib import Path

import numpy as np
import pytest

from mergeshift import UserError
from tasks import TASKS, load
from tasks.settings import DATA_DIR
from tasks.sources.folder import SUITE, local_names
from tasks.sources.folder_scan import scan_folder
from tasks.sources.layout import parts_of_files, understand
from tasks.sources.walk import walk
from tests.helpers.pictures import CLASSES, picture, save, table, tree

PIXEL = b"P6 1 1 255\nabc"


def write(root: Path, *files: str) -> Path:
    """Files with a picture of one pixel; a name that ends with / is a folder, .txt is a text."""
    root.mkdir(parents=True, exist_ok=True)
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir(exist_ok=True)
        else:
            path.write_bytes(b"text" if path.suffix in (".txt", ".csv") else PIXEL)
    return root


def cats(where: str = "", *classes: str) -> list[str]:
    """Two pictures of each class below a folder."""
    return [f"{where}{name}/{i}.ppm" for name in classes or ("cat", "dog") for i in range(2)]


TWO = {"cat": 2, "dog": 2}
BOTH = {"train": TWO, "test": TWO}
UNDERSTOOD = {
    # issue 16, 1: parts in any case, of any prefix
    "lower": (cats("train/") + cats("test/"), BOTH),
    "GTSRB": (cats("Train/") + cats("Test/"), BOTH),
    "Kaggle": (cats("Training/") + cats("Testing/"), BOTH),
    "upper": (cats("TRAIN/") + cats("VAL/"), BOTH),
    "validation": (cats("train/") + cats("Validation/"), BOTH),
    "prefix": (cats("my-train/") + cats("my-test/"), BOTH),
    "suffix": (cats("train_set/") + cats("test_set/"), BOTH),
    "glued": (cats("trainset/") + cats("testset/"), BOTH),
    "camel": (cats("petsTrainImages/") + cats("petsTestImages/"), BOTH),
    "one of each": (cats("train/") + cats("pets_test/"), BOTH),
    "val beside test": (cats("train/") + cats("val/", "cat") + cats("test/"), BOTH),
    "masks": (cats("train_images/") + cats("train_masks/") + cats("test_images/"), BOTH),
    # https://github.com/fastai/fastai/issues/1552: a test folder is no class
    "unlabelled": (cats("train/") + cats("test/") + ["unlabelled/0.ppm", "sample/1.ppm"], BOTH),
    # wrappers: https://github.com/pytorch/vision/issues/669
    "wrapped": (cats("archive/Dataset/train/") + cats("archive/Dataset/test/"), BOTH),
    "EuroSAT": (cats("2750/"), {"whole": TWO}),
    "in each part": (cats("seg_train/seg_train/") + cats("seg_test/seg_test/"), BOTH),
    "GTSRB 2": (cats("Final_Training/Images/") + cats("Final_Test/Images/"), BOTH),
    "DTD": ([*cats("images/"), "labels/train1.txt", "imdb/imdb.txt"], {"whole": TWO}),
    "beside": (cats("images/") + cats("masks/"), {"whole": TWO}),
    "one word alone": (cats("my_test_data/"), {"whole": TWO}),
    # parts in each class
    "classes first": (cats("cat/", "train", "test") + cats("dog/", "train", "test"), BOTH),
    "classes first, called like parts": (
        cats("train_station/", "train", "Validation") + cats("test_tube/", "train", "Validation"),
        {part: {"train_station": 2, "test_tube": 2} for part in ("train", "test")},
    ),
    # system, hidden and empty folders: https://github.com/pytorch/vision/issues/2831
    "system": (cats("train/") + cats("test/") + cats("__MACOSX/") + cats("train/__MACOSX/"), BOTH),
    "notebooks": ([*cats(""), ".ipynb_checkpoints/1.ppm", "cat/.ipynb_checkpoints/1.ppm"],
                  {"whole": TWO}),
    "empty": ([*cats(""), "bird/"], {"whole": TWO}),
    "empty in both": (cats("train/") + cats("test/") + ["train/a/", "test/a/"], BOTH),
    "texts": ([*cats(""), "notes/a.txt", "labels.csv", "Thumbs.db"], {"whole": TWO}),
    # classes that are called like parts, or that hold folders
    "a train": (cats("", "bus", "car", "train"), {"whole": {"bus": 2, "car": 2, "train": 2}}),
    "test tubes": (cats("", "test_tube", "flask"), {"whole": {"flask": 2, "test_tube": 2}}),
    "test tubes with folders": (
        [*cats("", "test_tube", "train_station"), "test_tube/more/0.ppm"],
        {"whole": {"test_tube": 3, "train_station": 2}},
    ),
    "below": (["COVID/images/0.ppm", "COVID/masks/0.ppm", "Normal/images/0.ppm"],
              {"whole": {"COVID": 2, "Normal": 1}}),
    "only test": (cats("Test/"), {"test": TWO}),
    "only train": (cats("Train/"), {"whole": TWO}),
}  # fmt: skip


@pytest.mark.parametrize("name", UNDERSTOOD)
def test_a_layout_is_understood(tmp_path, name):
    files, wanted = UNDERSTOOD[name]
    layout = understand(walk(write(tmp_path / "pets", *files)))
    assert layout.problem == ""
    found = {part: {label: sum(folder.count for folder in folders)
                    for label, folders in classes.items()}
             for part, classes in layout.parts.items()}  # fmt: skip
    assert found == wanted
    assert list(found) == [part for part in ("train", "test", "whole") if part in wanted]


REFUSED = {
    "a test part without pictures": ([*cats("train/"), "test/"], "test part (test) holds no"),
    "a class without pictures in a part": (
        [*cats("train/"), *cats("test/", "cat"), "test/dog/"],
        "train and test differ in their classes, e.g. 'dog', which test lacks",
    ),
    "a flat test part": (
        [*cats("Train/"), "Test/0.ppm", "Test.csv"],
        "the test part (Test) holds 1 pictures in no class folder: make one for each class",
    ),
    # https://github.com/fastai/fastai/issues/2336
    "a flat test part in a wrapper": (
        [*cats("asl_train/asl_train/"), "asl_test/asl_test/0.ppm"],
        "the test part (asl_test) holds 1 pictures in no class folder",
    ),
    "a class of files that cannot be read": (
        [*cats(""), "bird/0.heic", "bird/1.heic"],
        "class 'bird' of whole has no picture that can be read (2 of .heic)",
    ),
    "one class": (cats("", "cat"), "fewer than two class folders with pictures"),
    "no class": (["0.ppm", "1.ppm"], "its 2 pictures lie in no class folder"),
    "nothing": (["a.txt"], "it holds no images: make a folder for each class"),
    "an archive": (["data.zip"], "it holds no images"),
    "two trains": (
        cats("train_1/") + cats("train_2/") + cats("test/"),
        "train_1, train_2 are all called train: move all but one away",
    ),
    "Train and TRAIN": (cats("Train/") + cats("TRAIN/"), "TRAIN, Train are all called train"),
    "variants": (
        cats("color/") + cats("grayscale/") + cats("segmented/"),
        "color, grayscale, segmented hold the same folders: call them train and test if",
    ),
    "folds": (cats("fold1/") + cats("fold2/"), "fold1, fold2 hold the same folders"),
    "flat images beside annotations": (
        ["images/cat_1.ppm", "images/dog_1.ppm", "annotations/trimaps/cat_1.ppm"],
        "annotations, images are no classes: make a folder for each class",
    ),
    "classes in another case": (
        cats("train/", "Cat", "dog") + cats("test/"),
        "train and test differ in their classes, e.g. 'Cat', which test lacks",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_understood_is_one_line_with_the_tree(tmp_path, name, monkeypatch):
    files, said = REFUSED[name]
    write(tmp_path / "data" / "pets", *files)
    monkeypatch.setenv(DATA_DIR, str(tmp_path / "data"))
    monkeypatch.setenv("MERGESHIFT_HOME", str(tmp_path / "home"))
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        TASKS["local_pets"]
    message = str(caught.value)
    assert "\n" not in message
    assert "understood as [" in message
    assert f"see python -m bench tasks inspect {tmp_path / 'data' / 'pets'}" in message


def test_what_was_entered_and_left_out_is_said(tmp_path):
    files = ["zoo/9.ppm", "zoo/extra/1.ppm", "zoo/train/c.svg", "__MACOSX/a.ppm"]
    root = write(tmp_path / "pets", *cats("zoo/train/"), *cats("zoo/test/"), *files)
    (root / "zoo" / "train" / "loop").symlink_to(root)
    layout = understand(walk(root))
    assert layout.notes == (
        "entered zoo",
        "left out, no part of train and test: zoo/extra (1 picture)",
        "left out, no pictures that can be read: 1 files (.svg 1)",
        "passed over: __MACOSX (of the system), loop (a link to a folder above)",
    )


# -- the same pictures, however they lie -----------------------------------------------------------


def plain(folder: Path) -> None:
    tree(folder, CLASSES, train=4, test=10)


def renamed(train: str, test: str, *, below: str = ""):
    """The same pictures under other names of parts, in a wrapper."""

    def make(folder: Path) -> None:
        tree(folder / below, CLASSES, train=4, test=10)
        (folder / below / "train").rename(folder / below / train)
        (folder / below / "test").rename(folder / below / test)

    make.__name__ = f"{below}{train}"
    return make


def linked(folder: Path) -> None:
    """Parts and classes are links to folders elsewhere."""
    elsewhere = folder.parent.parent / "elsewhere"
    tree(elsewhere, CLASSES, train=4, test=10)
    (folder / "test").mkdir(parents=True)
    (folder / "train").symlink_to(elsewhere / "train")
    for name in CLASSES:
        (folder / "test" / name).symlink_to(elsewhere / "test" / name)


def with_junk(folder: Path) -> None:
    plain(folder)
    for path in ("__MACOSX/train/Cow/._0.png", "train/.ipynb_checkpoints/0.png", "test/Cow/.a.png",
                 "test/__MACOSX/0.png"):  # fmt: skip
        save(picture("train", "Cow", 0), folder / path)
    (folder / "train" / "Cow" / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    (folder / "train" / "empty").mkdir()
    (folder / "test" / "bee" / "circle").symlink_to(folder)


def tables_with_prefixes(folder: Path) -> None:
    folder.mkdir(parents=True)
    for part, count in (("train", 4), ("test", 10)):
        table(CLASSES, part, count).to_parquet(folder / f"my-{part}.parquet")


def contents(split: str) -> tuple[list[bytes], list[str]]:
    task = TASKS["local_zoo"]
    images = load(task, split)
    both = zip(images.images[:], images.labels, strict=True)
    pairs = sorted((image.tobytes(), task.classes[label]) for image, label in both)
    return [image for image, _ in pairs], [label for _, label in pairs]


@pytest.mark.parametrize(
    "layout",
    [renamed("Train", "Test"), renamed("Training", "Validation"), linked, with_junk,
     renamed("seg_train", "seg_test", below="archive/zoo"), tables_with_prefixes],
    ids=lambda layout: layout.__name__,
)  # fmt: skip
def test_the_same_pictures_give_the_same_splits(data_folder, monkeypatch, layout):
    layout(data_folder / "zoo")
    found = {split: contents(split) for split in ("train", "test")}
    sizes = TASKS["local_zoo"].sizes
    monkeypatch.setenv(DATA_DIR, str(data_folder.parent / "other"))
    plain(data_folder.parent / "other" / "zoo")
    assert sizes == TASKS["local_zoo"].sizes == (12, 3, 3, 24)
    assert found["train"] == contents("train")
    if layout is not tables_with_prefixes:  # whose rows come in another order
        assert found["test"] == contents("test")


def test_linked_pictures_are_part_of_what_a_task_is(data_folder, monkeypatch):
    linked(data_folder / "zoo")
    first = TASKS["local_zoo"].pixels
    other = data_folder.parent / "more"
    (other / "data").mkdir(parents=True)
    linked(other / "data" / "zoo")
    save(np.zeros((50, 50, 3), np.uint8), other / "elsewhere" / "test" / "Cow" / "000.png")
    monkeypatch.setenv(DATA_DIR, str(other / "data"))
    assert TASKS["local_zoo"].pixels != first


# -- tables and the data folder --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (("train-0-of-2", "train-1-of-2", "test-0-of-1"), {"train": 2, "test": 1}),
        (("0000", "0001"), {"whole": 2}),
        (("my-train", "my-test"), {"train": 1, "test": 1}),
        (("pets_Train", "pets_Val"), {"train": 1, "val": 1}),
        (("train", "pets_test"), {"train": 1, "test": 1}),
        (("data/training/0", "data/Testing/0"), {"train": 1, "test": 1}),
        (("my_test_data/0", "my_test_data/1"), {"whole": 2}),
        (("my-train", "my-test", "extra"), {"train": 1, "test": 1, "whole": 1}),  # refused later
    ],
)
def test_parts_of_parquet_files(names, wanted):
    found = parts_of_files({name: [*name.split("/")[:-1], f"{name.split('/')[-1]}.parquet"]
                            for name in names})  # fmt: skip
    assert {part: len(files) for part, files in found.items()} == wanted


def test_a_table_of_another_case_is_a_part_and_what_lies_beside_tables_is_said(data_folder):
    tables_with_prefixes(data_folder / "zoo")
    wanted = TASKS["local_zoo"].sizes
    tables_with_prefixes(data_folder / "pets")
    (data_folder / "pets" / "my-test.parquet").rename(data_folder / "pets" / "my-TEST.PARQUET")
    assert scan_folder(str(data_folder / "pets")).notes == ()
    write(data_folder / "pets", *cats("more/"), "extra.arrow", "notes.txt")
    scan_folder.cache_clear()
    assert TASKS["local_pets"].sizes == wanted == (12, 3, 3, 24)
    assert scan_folder(str(data_folder / "pets")).notes == (
        "left out, beside the tables: 4 pictures",
        "left out, no pictures that can be read: 1 files (.arrow 1)",
    )


def test_the_folder_of_a_task_is_no_data_folder(data_folder):
    write(data_folder, *cats("Train/"), *cats("test/"))
    with pytest.raises(UserError, match="is the folder of one task: it has Train, test; --data-"):
        local_names()


def test_folders_of_the_system_are_no_tasks(data_folder):
    write(data_folder, *cats("pets/"), *cats("__MACOSX/pets/"), *cats("@eaDir/pets/"))
    assert local_names() == ("local_pets",)
    assert SUITE == "vision_local"
