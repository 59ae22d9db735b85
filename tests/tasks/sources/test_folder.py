"""Images of the user's own: pictures by class, parquet, Arrow tables; whatever they are called."""

from dataclasses import replace
from pathlib import Path

import datasets
import pytest

from mergeshift import UnknownNameError, UserError
from tasks import SUITES, TASKS, Task, load, suite, world_of
from tasks.images import Pictures, fit
from tasks.settings import DATA_DIR
from tasks.sources.folder import SUITE, Folder
from tests.helpers.pictures import CLASSES, picture, save, table, tree


def pixels_by_class(task: Task, split: str) -> dict[str, set[bytes]]:
    """What is in a split: class name -> pictures."""
    found: dict[str, set[bytes]] = {name: set() for name in task.classes}
    images = load(task, split)
    for image, label in zip(images.images[:], images.labels, strict=True):
        found[task.classes[label]].add(image.tobytes())
    return found


def expected(part: str, label: str, count: int) -> set[bytes]:
    return {fit(picture(part, label, i), 224).tobytes() for i in range(count)}


# -- layouts -------------------------------------------------------------------------------------


def as_trees(folder: Path) -> None:
    tree(folder, CLASSES, train=4, test=10)


def as_validation(folder: Path) -> None:
    tree(folder, CLASSES, train=4, validation=10)
    for label in CLASSES:
        for path in (folder / "validation" / label).iterdir():
            save(picture("test", label, int(path.stem)), path)


def as_parquet(folder: Path) -> None:
    (folder / "data").mkdir(parents=True)
    for part, count in (("train", 4), ("test", 10)):
        table(CLASSES, part, count).to_parquet(folder / "data" / f"{part}-00000-of-00001.parquet")


def as_parquet_in_folders(folder: Path) -> None:
    for part, count in (("train", 4), ("test", 10)):
        (folder / part).mkdir(parents=True)
        table(CLASSES, part, count).to_parquet(folder / part / "0.parquet")


def on_disk(folder: Path) -> None:
    parts = {part: table(CLASSES, part, count) for part, count in (("train", 4), ("test", 10))}
    datasets.DatasetDict(parts).save_to_disk(str(folder))


LAYOUTS = [as_trees, as_validation, as_parquet, as_parquet_in_folders, on_disk]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_every_layout_gives_the_same_images(data_folder, layout):
    layout(data_folder / "zoo")
    task = TASKS["local_zoo"]
    assert set(task.classes) == set(CLASSES)
    assert task.sizes == (12, 3, 3, 24)
    assert task.prompts[0] == f"a photo of a {task.classes[0]}."
    together = {name: set() for name in CLASSES}
    for split in ("adapt", "val", "test"):
        for name, found in pixels_by_class(task, split).items():
            assert not together[name] & found
            together[name] |= found
    for name in CLASSES:
        assert together[name] == expected("test", name, 10)
        assert pixels_by_class(task, "train")[name] == expected("train", name, 4)


@pytest.mark.parametrize("train", [False, True])
def test_one_tree_is_cut_by_class(data_folder, train):
    tree(data_folder / "zoo", CLASSES, **{"train" if train else "whole": 10})
    task = TASKS["local_zoo"]
    assert task.sizes == (18, 3, 3, 6)  # 6 1 1 2 of each class
    found = [pixels_by_class(task, split) for split in ("train", "adapt", "val", "test")]
    for name in CLASSES:
        assert [len(split[name]) for split in found] == [6, 1, 1, 2]
        everything = set().union(*(split[name] for split in found))
        assert everything == expected("train" if train else "whole", name, 10)


@pytest.mark.parametrize("part", ["whole", "train"])
def test_one_table_is_cut_by_class(data_folder, part):
    (data_folder / "farm").mkdir()
    table(CLASSES, part, 10).to_parquet(data_folder / "farm" / f"{part}.parquet")
    one = table(CLASSES, part, 10)
    parts = one if part == "whole" else datasets.DatasetDict({part: one})
    parts.save_to_disk(str(data_folder / "zoo"))
    for name in ("local_zoo", "local_farm"):
        task = TASKS[name]
        assert task.sizes == (18, 3, 3, 6)  # 6 1 1 2 of each class
        found = [pixels_by_class(task, split) for split in ("train", "adapt", "val", "test")]
        for label in CLASSES:
            assert [len(split[label]) for split in found] == [6, 1, 1, 2]
            assert set().union(*(split[label] for split in found)) == expected(part, label, 10)


def test_pictures_stay_in_their_files_until_they_are_looked_at(data_folder):
    tree(data_folder / "zoo", CLASSES, train=1, test=10)
    images = load(TASKS["local_zoo"], "test").images
    assert isinstance(images, Pictures)
    for path in (data_folder / "zoo" / "test").rglob("*.png"):
        path.unlink()
    assert images.shape == (24, 224, 224, 3)
    with pytest.raises(UserError, match=r"\d+\.png is no picture"):
        images[0]


# -- names ---------------------------------------------------------------------------------------


def test_the_suite_of_a_data_folder(data_folder):
    for name in ("zoo", "farm"):
        tree(data_folder / name, CLASSES, whole=10)
    (data_folder / ".hidden").mkdir()
    assert SUITES[SUITE].names == ("local_farm", "local_zoo")
    assert [task.name for task in suite(SUITE)] == ["local_farm", "local_zoo"]
    assert world_of(SUITE) == "vision"


def test_without_a_data_folder_there_is_no_such_suite(monkeypatch):
    monkeypatch.delenv(DATA_DIR, raising=False)
    with pytest.raises(UserError, match="vision_local is the suite of --data-dir"):
        SUITES[SUITE]
    with pytest.raises(UnknownNameError, match="no task named 'local_zoo'"):
        TASKS["local_zoo"]


def test_a_task_of_the_hub_may_lie_in_a_folder(data_folder):
    wanted = TASKS.listed("eurosat")
    names = [name.title().replace(" ", "") for name in wanted.classes]
    tree(data_folder / "eurosat", names, train=2, test=10)
    task = TASKS["eurosat"]
    assert task.sizes == (20, 10, 10, 80)
    assert (task.classes, task.templates) == (wanted.classes, wanted.templates)
    assert task.pixels != wanted.pixels
    assert pixels_by_class(task, "train")["forest"] == expected("train", "Forest", 2)
    assert [t.name for t in suite("vision8")] == list(SUITES["vision8"].names)
    assert TASKS["eurosat@published"].sizes == (20, 100, 2, 100)
    assert TASKS["eurosat@published"].pixels not in (task.pixels, wanted.pixels)
    tree(data_folder / "mnist", [str(i) for i in range(10)], train=1, test=10)
    assert isinstance(TASKS["mnist-full"].source, Folder)  # called as its experts are
    assert not isinstance(TASKS["mnist"].source, Folder)  # that of the pocket world


def test_what_a_user_says_of_a_task(data_folder):
    tree(data_folder / "zoo", ["0", "10", "2"], train=1, test=10)
    facts = '{"title": "The zoo", "classes": ["a", "b", "c"], "templates": ["a {}.", "the {}."]}'
    (data_folder / "zoo" / "task.json").write_text(facts)
    task = TASKS["local_zoo"]
    assert (task.title, task.classes, task.templates) == (
        "The zoo",
        ("a", "b", "c"),
        ("a {}.", "the {}."),
    )
    found = pixels_by_class(task, "train")
    assert found["b"] == expected("train", "2", 1)  # the order of numbers, not of the alphabet
    assert found["c"] == expected("train", "10", 1)


def test_identities_depend_on_the_files(data_folder, tmp_path):
    def identity(folder: Path, size: int = 224) -> str:
        return Folder(str(folder)).identity(replace(TASKS["toy_two"], size=size))

    first = identity(tree(data_folder / "zoo", CLASSES, train=1, test=10))
    assert identity(tree(tmp_path / "copy" / "zoo", CLASSES, train=1, test=10)) == first
    assert identity(tmp_path / "copy" / "zoo", 32) != first
    assert identity(tree(tmp_path / "more" / "zoo", CLASSES, train=1, test=11)) != first
