"""What a user may get wrong with folders of images, and what is said then."""

import math
import re
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest

from mergeshift import UserError
from tasks import SUITES, TASKS, load
from tasks.settings import BUDGET, DATA_DIR, WORKERS, image_budget, using, workers
from tasks.sources.folder import SUITE
from tests.helpers.pictures import CLASSES, random, save, table, tree


def differ(data_folder: Path) -> None:
    tree(data_folder / "zoo", CLASSES, train=1, test=10)
    save(random(33, 33), data_folder / "zoo" / "train" / "emu" / "0.png")


def no_test_pictures(data_folder: Path) -> None:
    tree(data_folder / "zoo", CLASSES, train=4, test=1)
    for path in (data_folder / "zoo" / "test").rglob("*.png"):
        path.unlink()


def two_to_test_on(data_folder: Path) -> None:
    tree(data_folder / "zoo", CLASSES[:2], train=4, test=1)


def no_rows(data_folder: Path) -> None:
    table(CLASSES, "whole", 0).save_to_disk(str(data_folder / "zoo"))


def no_pictures(data_folder: Path) -> None:
    (data_folder / "zoo").mkdir()
    (data_folder / "zoo" / "readme.txt").write_text("nothing here")


def no_column(data_folder: Path) -> None:
    (data_folder / "zoo").mkdir()
    datasets.Dataset.from_dict({"text": ["a"], "label": [0]}).to_parquet(
        data_folder / "zoo" / "a.parquet"
    )


def other_columns(data_folder: Path) -> None:
    train, test = (table(CLASSES, part, 4) for part in ("train", "test"))
    both = datasets.DatasetDict({"train": train, "test": test.rename_column("label", "y")})
    both.save_to_disk(str(data_folder / "zoo"))


def no_parquet(data_folder: Path) -> None:
    (data_folder / "zoo").mkdir()
    (data_folder / "zoo" / "train.parquet").write_bytes(b"no parquet")


def odd_name(data_folder: Path) -> None:
    tree(data_folder / "zoo", CLASSES, whole=10)
    (data_folder / "zoo").rename(data_folder / "my zoo")


MISTAKES: dict[Callable[[Path], None], tuple[str, str]] = {
    differ: ("local_zoo", "differ in their classes, e.g. 'emu'"),
    no_test_pictures: ("local_zoo", "zoo: the test part (test) holds no images; understood as ["),
    two_to_test_on: ("local_zoo", "zoo has too few images (train 8, test 2) for adapt, val and"),
    no_rows: ("local_zoo", "zoo is no data set that was saved to disk: "),
    no_pictures: ("local_zoo", "zoo: it holds no images: make a folder for each class"),
    other_columns: (
        "local_zoo",
        "zoo has no column 'label', as another part has; it has: image, y",
    ),
    no_column: ("local_zoo", "has no column 'image'; it has: text, label"),
    no_parquet: ("local_zoo", "cannot read the parquet files of"),
    odd_name: ("local_my zoo", "the name of a task is part of file names; rename the folder"),
}


@pytest.mark.parametrize("mistake", list(MISTAKES), ids=lambda mistake: mistake.__name__)
def test_a_mistake_is_one_line(data_folder, mistake):
    mistake(data_folder)
    name, message = MISTAKES[mistake]
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        TASKS[name]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"name": "Zoo"}', "task.json says title, classes and templates of a task; got 'name'"),
        ('["a", "b"]', "task.json says title, classes and templates of a task; got ['a', 'b']"),
        ('{"title": 3}', "title in "),
        ('{"classes": ["a", "b", 3]}', "is a list of texts, all different; got ['a', 'b', 3]"),
        ('{"classes": ["a", "b", "a"]}', "is a list of texts, all different; got ['a', 'b', 'a']"),
        ('{"classes": ["a", "b"]}', "zoo has 3 classes, local_zoo has 2; put one folder for each"),
        ('{"templates": "a {}."}', "task.json is a list of texts, all different; got 'a {}.'"),
        ('{"templates": []}', "templates in "),
        ('{"templates": ["a {}.", "it"]}', "task.json has {} for the class; got 'it'"),
        ("{", "task.json is damaged"),
    ],
)
def test_a_mistake_in_a_task_json_is_one_line(data_folder, text, said):
    tree(data_folder / "zoo", CLASSES, whole=10)
    (data_folder / "zoo" / "task.json").write_text(text)
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        TASKS["local_zoo"]
    assert "\n" not in str(caught.value)


def test_a_folder_with_other_classes_than_the_task_is_refused(data_folder):
    tree(data_folder / "eurosat", CLASSES, whole=10)
    with pytest.raises(UserError, match="eurosat has 3 classes, eurosat has 10"):
        TASKS["eurosat"]


def test_a_split_that_is_not_there_is_refused(data_folder):
    tree(data_folder / "zoo", CLASSES, test=10)
    task = TASKS["local_zoo"]
    assert task.sizes == (0, 3, 3, 24)
    with pytest.raises(UserError, match="has no train part; train of local_zoo needs one"):
        load(task, "train")
    tree(data_folder / "farm", CLASSES, whole=10)
    with pytest.raises(UserError, match="farm has no train and test part"):
        TASKS["local_farm@published"]
    with pytest.raises(UserError, match=r"zoo has too few images \(test 30\) for adapt, val and"):
        TASKS["local_zoo@published"]  # whose val would be a tenth of train
    with pytest.raises(UserError, match="local_zoo has no 'contrast' splits; it has: published"):
        TASKS["local_zoo@contrast"]


def test_settings_hold_for_a_while(tmp_path, monkeypatch):
    for name in (DATA_DIR, WORKERS):
        monkeypatch.delenv(name, raising=False)
    tree(tmp_path / "data" / "zoo", CLASSES, whole=10)
    assert (workers(), image_budget()) == (0, 20e9)
    with using(tmp_path / "data", workers=3, gigabytes=0.5):
        assert (workers(), image_budget()) == (3, 0.5e9)
        assert SUITES[SUITE].names == ("local_zoo",)
        with using():
            assert workers() == 3
    assert (workers(), image_budget()) == (0, 20e9)
    for wrong in (tmp_path / "none", tmp_path / "data" / "zoo" / "bee"):
        with pytest.raises(UserError, match="--data-dir is a folder with a folder"), using(wrong):
            pass
    for wrong in ({"workers": -2}, {"gigabytes": -0.5}, {"gigabytes": math.nan}):
        with pytest.raises(UserError, match="is a number from 0 on; got"), using(**wrong):
            pass


@pytest.mark.parametrize("text", ["many", "-1", "nan", "inf"])
def test_a_variable_that_is_no_number_is_one_line(monkeypatch, text):
    for name, read in ((WORKERS, workers), (BUDGET, image_budget)):
        monkeypatch.setenv(name, text)
        with pytest.raises(UserError, match=f"{name} is a number from 0 on; got '{text}'"):
            read()
