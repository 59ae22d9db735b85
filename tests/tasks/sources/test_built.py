"""A build is checked against its entry and kept whole; data files cannot run code."""

import gzip
import pickle
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mergeshift import DamagedFileError, home
from tasks import SPLITS, TASKS, Task, load
from tasks.pocket.common import pickled_array
from tasks.sources.built import Built, Pool, assemble, build, check, folder, pixel_hash

TOY = ("toy_two", "toy_three", "toy_four")


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, place: Path):
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.place / "executed", "code of a data file was run")


@pytest.fixture
def toy(tmp_path, monkeypatch) -> Task:
    """A task of this test's own: an equal entry, but no earlier test has loaded it."""
    monkeypatch.setenv("MERGESHIFT_HOME", str(tmp_path / "home"))
    return replace(TASKS["toy_two"], note=str(tmp_path))


def kept() -> list[str]:
    return sorted(p.name for p in home().rglob("*") if p.is_file() and p.suffix != ".lock")


@pytest.mark.parametrize("name", TOY)
def test_the_toy_tasks_are_as_their_entries_say(name):
    images, labels, sizes = assemble(TASKS[name])
    assert sizes == TASKS[name].sizes == (96, 24, 24, 48)
    assert (images.shape, images.dtype) == ((192, 32, 32, 3), np.uint8)
    assert (labels.min(), labels.max()) == (0, TASKS[name].num_classes - 1)
    assert pixel_hash(images, labels) == TASKS[name].pixels
    assert len({image.tobytes() for image in images}) == 192


def test_a_built_task_is_read_back_mapped_and_split_by_split(toy):
    images, labels, sizes = assemble(toy)
    ends = np.cumsum(sizes)
    for split, end, size in zip(SPLITS, ends, sizes, strict=True):
        found = load(toy, split)
        np.testing.assert_array_equal(found.images, images[end - size : end])
        np.testing.assert_array_equal(found.labels, labels[end - size : end])
        assert isinstance(found.images, np.memmap)
        assert len(found) == size
        np.testing.assert_array_equal(found.first(5).images, images[end - size : end - size + 5])
    assert kept() == ["images.npy", "labels.npy"]
    build(replace(toy, source=Built(partial(pytest.fail, "built twice"))))


def moved(pool: Pool) -> Pool:
    images = pool.images.copy()
    images[np.flatnonzero(pool.splits == 3)[0], 0, 0, 0] ^= 1
    return replace(pool, images=images)


DIFFERENT: dict[str, Callable[[Pool], Pool]] = {
    "one pixel": moved,
    "one label": lambda pool: replace(pool, labels=np.where(np.arange(192) == 9, 0, pool.labels)),
    "one image less": lambda pool: replace(pool, splits=np.where(np.arange(192), pool.splits, -1)),
    "one class less": lambda pool: replace(pool, labels=np.zeros_like(pool.labels)),
    "another split": lambda pool: replace(pool, splits=pool.splits[::-1]),
}


@pytest.mark.parametrize("what", list(DIFFERENT))
def test_a_build_that_differs_from_its_entry_is_refused_and_leaves_nothing(toy, what):
    altered = replace(toy, source=Built(lambda: DIFFERENT[what](toy.source.build())))
    with pytest.raises(DamagedFileError) as caught:
        load(altered, "test")
    assert "\n" not in str(caught.value)
    assert "task toy_two was built with" in str(caught.value)
    assert toy.pixels in str(caught.value)
    assert kept() == []


@pytest.mark.parametrize(
    "fact", [{"sizes": (96, 24, 24, 47)}, {"classes": ("a", "b", "c")}, {"pixels": "0" * 16}]
)
def test_an_entry_that_differs_from_its_build_is_refused(toy, fact):
    images, labels, sizes = assemble(toy)
    check(toy, images, labels, sizes)
    with pytest.raises(DamagedFileError, match="task toy_two was built with"):
        check(replace(toy, **fact), images, labels, sizes)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def with_code(path: Path) -> None:
    np.save(path, np.array([Trap(path.parent)], dtype=object), allow_pickle=True)


DAMAGES: list[Callable[[Path], Any]] = [
    cut,
    with_code,
    Path.unlink,
    lambda path: path.write_bytes(b""),
    lambda path: path.write_bytes(path.read_bytes()[:40]),
]


@pytest.mark.parametrize("name", ["images", "labels"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_array_is_one_line_that_names_its_folder(toy, name, damage):
    build(toy)
    damage(folder(toy) / f"{name}.npy")
    if (name, damage) == ("labels", Path.unlink):  # the labels are written last: not built
        assert len(load(toy, "test")) == 48
        return
    with pytest.raises(DamagedFileError) as caught:
        load(toy, "test")
    assert f"{folder(toy)} is damaged" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (folder(toy) / "executed").exists()


def test_what_is_stored_of_a_split_is_a_random_sample_in_random_order(toy):
    rows = np.arange(6000)
    images = np.zeros((6000, 2, 2, 3), np.uint8)
    images[:, 0, 0] = np.stack([rows // 2500, rows // 10 % 250, rows % 10], 1)
    pool = Pool(images, rows // 1000, np.where(rows % 2, 3, 0).astype(np.int8))
    stored, labels, sizes = assemble(replace(toy, source=Built(lambda: pool)))
    assert sizes == (3000, 0, 0, 1000)
    marks = stored[-1000:, 0, 0].astype(int)
    found = marks[:, 0] * 2500 + marks[:, 1] * 10 + marks[:, 2]  # which rows, in stored order
    assert len(set(found)) == 1000
    assert (found % 2 == 1).all()
    np.testing.assert_array_equal(labels[-1000:], found // 1000)
    spread = 6000 / 12**0.5  # deviation of a uniform draw from 0..5999
    for first in (50, 200, 1000):
        assert abs(found[:first].mean() - 3000) < 4 * spread / first**0.5
        assert (np.bincount(found[:first] // 1000, minlength=6) > first / 6 / 3).all()
    assert abs(np.corrcoef(found, rows[:1000])[0, 1]) < 4 / 1000**0.5


# -- data files that carry code ------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "<i8", "float32"])
def test_a_pickled_array_is_read(dtype):
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    for protocol in (3, 4):
        read = pickled_array(gzip.compress(pickle.dumps(array, protocol)))
        np.testing.assert_array_equal(read, array)
        assert read.dtype == array.dtype


@pytest.mark.parametrize("wrap", [lambda trap: trap, lambda trap: np.array([trap], dtype=object)])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, wrap):
    data = pickle.dumps(wrap(Trap(tmp_path)))
    with pytest.raises(pickle.UnpicklingError, match="refused to load"):
        pickled_array(gzip.compress(data))
    assert list(tmp_path.iterdir()) == []
    pickle.loads(data)  # the trap itself works
    assert (tmp_path / "executed").exists()
