"""What a user may get wrong with folders of images, and what is said then."""

import re
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest

from bench.errors import UserError
from tasks import SUITES, TASKS, load
from tasks.folder import SUITE
from tasks.settings import DATA_DIR, WORKERS, image_budget, using, workers
from tests.pictures import CLASSES, random, save, tree


def differ(data_folder: Path) -> None:
    tree(data_folder / "zoo", CLASSES, train=1, test=10)
    save(random(33, 33), data_folder / "zoo" / "train" / "emu" / "0.png")


def wrong_key(data_folder: Path) -> None:
    tree(data_folder / "zoo", CLASSES, whole=10)
    (data_folder / "zoo" / "task.json").write_text('{"name": "Zoo"}')


def no_pictures(data_folder: Path) -> None:
    (data_folder / "zoo").mkdir()
    (data_folder / "zoo" / "readme.txt").write_text("nothing here")


def no_column(data_folder: Path) -> None:
    (data_folder / "zoo").mkdir()
    datasets.Dataset.from_dict({"text": ["a"], "label": [0]}).to_parquet(
        data_folder / "zoo" / "a.parquet"
    )


def no_parquet(data_folder: Path) -> None:
    (data_folder / "zoo").mkdir()
    (data_folder / "zoo" / "train.parquet").write_bytes(b"no parquet")


def odd_name(data_folder: Path) -> None:
    tree(data_folder / "zoo", CLASSES, whole=10)
    (data_folder / "zoo").rename(data_folder / "my zoo")


MISTAKES: dict[Callable[[Path], None], tuple[str, str]] = {
    differ: ("local_zoo", "differ in their classes, e.g. 'emu'"),
    wrong_key: ("local_zoo", "says title, classes and templates of a task; got 'name'"),
    no_pictures: ("local_zoo", "holds no images: make a folder for each class"),
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


def test_a_folder_with_other_classes_than_the_task_is_refused(data_folder):
    tree(data_folder / "eurosat", CLASSES, whole=10)
    with pytest.raises(UserError, match="eurosat has 3 classes, eurosat has 10"):
        TASKS["eurosat"]


def test_a_split_that_is_not_there_is_refused(data_folder):
    tree(data_folder / "zoo", CLASSES, test=10)
    task = TASKS["local_zoo"]
    assert task.sizes == (0, 3, 3, 24)
    with pytest.raises(UserError, match="has no train folder; train of local_zoo needs one"):
        load(task, "train")
    tree(data_folder / "farm", CLASSES, whole=10)
    with pytest.raises(UserError, match="farm has no train and test folder"):
        TASKS["local_farm@published"]


def test_settings_hold_for_a_while(tmp_path, monkeypatch):
    for name in (DATA_DIR, WORKERS):
        monkeypatch.delenv(name, raising=False)
    tree(tmp_path / "data" / "zoo", CLASSES, whole=10)
    assert (workers(), image_budget()) == (0, 20e9)
    with using(tmp_path / "data", workers=3, gigabytes=0.5):
        assert (workers(), image_budget()) == (3, 0.5e9)
        assert SUITES[SUITE] == ("local_zoo",)
        with using():
            assert workers() == 3
    assert (workers(), image_budget()) == (0, 20e9)
    for wrong in (tmp_path / "none", tmp_path / "data" / "zoo" / "bee"):
        with pytest.raises(UserError, match="--data-dir is a folder with a folder"), using(wrong):
            pass
    with pytest.raises(UserError, match="numbers from 0 on"), using(workers=-2):
        pass
