"""A task of the hub, without a hub: its tables are made on the fly where it would download them."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from mergeshift import DamagedFileError, UserError
from tasks import Task, load
from tasks.images import Pictures, fit
from tasks.sources.hub import Hub, hub_task
from tasks.splits import SplitScheme
from tests.helpers.pictures import cell, random

CLASSES = ("cat", "dog", "owl")
COUNTS = {"train": 30, "test": 50, "contrast": 50}


@dataclass
class Shelf:
    """What the hub has, and what was taken from it."""

    tables: dict[str, datasets.Dataset]
    taken: list[str] = field(default_factory=list)


def image(part: str, row: int) -> np.ndarray:
    """Row ``row`` of a part: of a size of its own."""
    return random(33 + row % 5, 40, len(part), row)


def table(part: str, count: int, **features: Any) -> datasets.Dataset:
    """Label of row i: i modulo 3."""
    columns = {"image": [cell(image(part, i)) for i in range(count)]}
    columns["label"] = [i % 3 for i in range(count)]
    kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))}
    return datasets.Dataset.from_dict(columns, datasets.Features({**kinds, **features}))


@pytest.fixture
def shelf(tmp_path, monkeypatch) -> Shelf:
    monkeypatch.setenv("MERGESHIFT_HOME", str(tmp_path / "home"))
    shelf = Shelf({part: table(part, count) for part, count in COUNTS.items()})

    def download(source: Hub, part: str) -> dict[str, Any]:
        shelf.taken.append(part)
        found, place = shelf.tables[part], tmp_path / f"{part}-{len(shelf.taken)}"
        found.save_to_disk(str(place))
        files = [str(path) for path in sorted(place.glob("*.arrow"))]
        return {"files": files, "rows": len(found), "commit": "c0ffee", "revision": "main"}

    monkeypatch.setattr(Hub, "_download", download)
    return shelf


@pytest.fixture
def task(shelf, tmp_path) -> Task:
    """A task of this test's own."""
    return entry(Hub("someone/animals"), note=str(tmp_path))


def entry(source: Hub, **facts: Any) -> Task:
    return hub_task(
        source, train=COUNTS["train"], test=COUNTS["test"], size=32, name="animals",
        title="Animals", kind="photograph", noun="a photo", classes=CLASSES,
        templates=("a photo of a {}.", "a drawing of a {}."), **facts,
    )  # fmt: skip


def rows_of(task: Task, split: str) -> list[int]:
    images = load(task, split).images
    assert isinstance(images, Pictures)
    return images.rows.tolist()


def test_splits_hold_the_pictures_and_labels_of_their_rows(task):
    assert task.sizes == (30, 5, 5, 40)
    for split, size in zip(("train", "adapt", "val", "test"), task.sizes, strict=True):
        found, part = load(task, split), "train" if split == "train" else "test"
        assert (len(found), found.images.shape) == (size, (size, 32, 32, 3))
        assert found.labels.dtype == np.int64
        rows = rows_of(task, split)
        assert found.labels.tolist() == [row % 3 for row in rows]
        wanted = np.stack([fit(image(part, row), 32) for row in rows[:4]])
        np.testing.assert_array_equal(found.images[:4], wanted)
        assert len(found.first(3)) == 3
    together = [row for split in ("adapt", "val", "test") for row in rows_of(task, split)]
    assert sorted(together) == list(range(50))
    assert rows_of(task, "test") != sorted(rows_of(task, "test"))


def test_only_what_is_needed_is_downloaded_and_once(task, shelf):
    assert not task.source.is_ready(task)
    task.source.prepare(task)
    assert task.source.is_ready(task)
    for split in ("test", "val", "adapt"):
        load(task, split)
    assert shelf.taken == ["test"]
    load(task, "train")
    load(replace(task, note="of another process"), "train")
    assert shelf.taken == ["test", "train"]


def test_what_is_gone_or_damaged_is_downloaded_again(task, shelf):
    task.source.prepare(task)
    facts = next(task.source.place.glob("*.json"))
    Path(json.loads(facts.read_text())["files"][0]).unlink()
    assert not task.source.is_ready(task)
    load(task, "test")
    facts.write_text("{")
    assert not task.source.is_ready(task)
    load(replace(task, note="again"), "test")
    assert shelf.taken == ["test"] * 3


def test_a_task_over_the_same_data_is_cut_alike(task):
    tall = replace(task, name="tall_animals", classes=("['cat']", "['dog']", "owl"))
    assert rows_of(tall, "val") == rows_of(task, "val")
    elsewhere = replace(task, source=replace(task.source, id="someone/else"))
    assert rows_of(elsewhere, "val") != rows_of(task, "val")


def test_identities_of_splits_differ(task):
    other = replace(task, pixels="0" * 16)
    larger = replace(task, size=64)
    found = [
        load(t, split).images.digest for t in (task, other, larger) for split in ("val", "test")
    ]
    assert len(set(found)) == 6


def test_published_splits(task, shelf):
    twin = entry(replace(task.source, cut=SplitScheme(published=True)))
    assert twin.sizes == (30, 50, 3, 50)
    twin.source.prepare(twin)
    assert sorted(shelf.taken) == ["test", "train"]  # val comes from train
    assert sorted(rows_of(twin, "test")) == sorted(rows_of(twin, "adapt")) == list(range(50))
    assert set(rows_of(twin, "val")) <= set(rows_of(twin, "train")) == set(range(30))
    apart = entry(replace(task.source, cut=SplitScheme(published=True, apart=True)))
    assert apart.sizes == (27, 50, 3, 50)
    assert sorted([*rows_of(apart, "train"), *rows_of(apart, "val")]) == list(range(30))
    copy = entry(replace(twin.source, test="contrast"))
    np.testing.assert_array_equal(
        load(copy, "test").images[0], fit(image("contrast", rows_of(copy, "test")[0]), 32)
    )


# -- labels --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "values"),
    [(datasets.Value("int32"), None), (datasets.Value("string"), CLASSES)],
)
def test_labels_may_be_numbers_or_names(task, shelf, kind, values):
    plain = shelf.tables["test"].cast_column("label", datasets.Value("int64"))
    if values:
        plain = plain.map(lambda row: {"label": values[row["label"]]}, load_from_cache_file=False)
    shelf.tables["test"] = plain.cast_column("label", kind)
    assert load(task, "test").labels.tolist() == [row % 3 for row in rows_of(task, "test")]


def test_two_classes_may_be_true_and_false(task, shelf):
    plain = shelf.tables["test"].cast_column("label", datasets.Value("int64"))
    shelf.tables["test"] = plain.map(lambda row: {"label": row["label"] > 0}).cast_column(
        "label", datasets.Value("bool")
    )
    two = replace(task, classes=("no", "yes"))
    assert load(two, "test").labels.tolist() == [int(row % 3 > 0) for row in rows_of(two, "test")]


# -- what was changed ----------------------------------------------------------------------------

CHANGES: dict[str, tuple[Callable[[datasets.Dataset], datasets.Dataset], str]] = {
    "columns": (
        lambda table: table.rename_column("image", "img"),
        "(test, main) has no column 'image'; it has: img, label",
    ),
    "fewer images": (
        lambda table: table.select(range(49)),
        "(test, main) has 49 images, the entry of animals says 50",
    ),
    "a class more": (
        lambda table: table.cast_column("label", datasets.ClassLabel(names=[*CLASSES, "fox"])),
        "has 4 classes, labels 0 to 2; the entry of animals says 3",
    ),
    "a class less": (
        lambda table: table.cast_column("label", datasets.Value("int64")).map(
            lambda row: {"label": row["label"] % 2}
        ),
        "has 2 classes, labels 0 to 1; the entry of animals says 3",
    ),
    "labels from one": (
        lambda table: table.cast_column("label", datasets.Value("int64")).map(
            lambda row: {"label": row["label"] + 1}
        ),
        "has 3 classes, labels 1 to 3; the entry of animals says 3",
    ),
}


@pytest.mark.parametrize("what", list(CHANGES))
def test_a_data_set_that_differs_from_its_entry_is_refused(task, shelf, what):
    change, message = CHANGES[what]
    shelf.tables["test"] = change(shelf.tables["test"])
    with pytest.raises(DamagedFileError) as caught:
        task.source.prepare(task)
    assert message in str(caught.value)
    assert "someone/animals" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_column_that_holds_no_pictures_is_refused(task, shelf):
    numbers = shelf.tables["test"].remove_columns("image").add_column("image", [1] * 50)
    shelf.tables["test"] = numbers
    with pytest.raises(UserError, match=r"column 'image' of someone/animals \(test\) holds no pic"):
        load(task, "test")


def test_a_picture_that_cannot_be_decoded_is_named(task, shelf):
    rows = [{"bytes": b"no picture", "path": None}] * 50
    kinds = shelf.tables["test"].features
    columns = {"image": rows, "label": shelf.tables["test"]["label"][:]}
    shelf.tables["test"] = datasets.Dataset.from_dict(columns, kinds)
    found = load(task, "test")
    with pytest.raises(DamagedFileError, match=r"row \d+ of someone/animals \(test\) is no"):
        found.images[0]


def test_pictures_may_be_files_beside_the_table(task, shelf, tmp_path):
    for i in range(50):
        Image.fromarray(image("test", i)).save(tmp_path / f"{i}.png")
    rows = [{"bytes": None, "path": str(tmp_path / f"{i}.png")} for i in range(50)]
    columns = {"image": rows, "label": shelf.tables["test"]["label"][:]}
    shelf.tables["test"] = datasets.Dataset.from_dict(columns, shelf.tables["test"].features)
    first = rows_of(task, "test")[0]
    np.testing.assert_array_equal(load(task, "test").images[0], fit(image("test", first), 32))
