"""``reproduce`` from an empty machine: list, download, convert, heads, images, sweep, verdict.

What was "published" is worked out by open_clip alone, on the pictures of the hub and on a corrupted
copy that lies beside them.
"""

import re
from functools import lru_cache
from itertools import product

import numpy as np
import pytest

from bench.reproduce import REPRODUCTIONS, Reproduction
from mergeshift import home
from methods import METHODS
from results.published import sources
from tasks import SUITES, Suite
from tasks.suites import add_suite
from tests.helpers import tiny_vision_suite as tiny
from tests.helpers.fake_hub_run import parquet
from tests.helpers.open_clip_oracle import by_hand
from tests.helpers.published import line, publish
from tests.helpers.toy_sweep import forget

DATA = [tiny.DATA[0], tiny.DATA[2]]  # lights and pets: parts without a config
NAMES = [data.name for data in DATA]
WHICH = ("pretrained", "average", "individual")
COPY = "contrast"


def parts(data: tiny.Data) -> dict:
    """Shift -> pictures and labels: all of test, and its copy, with half the contrast."""
    pictures, labels = data.pictures("test")
    flat = [(64 + picture // 2).astype(np.uint8) for picture in pictures]
    return {"clean": (pictures, labels), f"{COPY}@2": (flat, labels)}


def tower(method: str, name: str) -> dict:
    """The weights of a method, for a task."""
    if method == "average":
        towers = [tiny.tower(one) for one in NAMES]
        return {key: sum(one[key] for one in towers) / len(towers) for key in towers[0]}
    return tiny.tower(name if method == "individual" else "")


@lru_cache
def accuracy(data: tiny.Data, method: str, shift: str) -> float:
    """What open_clip alone finds."""
    return by_hand(data, tower(method, data.name), *parts(data)[shift])[0]


def measured() -> dict[tuple[str, str], dict[str, float]]:
    """(method, shift) -> task -> accuracy."""
    return {
        (method, shift): {data.name: accuracy(data, method, shift) for data in DATA}
        for method in WHICH
        for shift in ("clean", f"{COPY}@2")
    }


@pytest.fixture
def reproduce(tiny_hub, command, tmp_path, monkeypatch):
    """Call it with published numbers: a row like ``robustness4`` is run again against them."""
    for data in DATA:
        pictures, labels = parts(data)[f"{COPY}@2"]
        copy = parquet(pictures, labels.tolist(), data.classes, format=data.format)
        files = data.files() | {f"data/{COPY}-00000-of-00001.parquet": copy}
        tiny_hub.add("datasets", data.repository, files)
    add_suite("vision_tiny_two", NAMES)
    who_has_copies = Suite("vision4_robustness", tuple(NAMES))
    monkeypatch.setitem(SUITES._items, "vision4_robustness", who_has_copies)
    wanted = Reproduction(name="tiny", source="fake", methods=WHICH, encoder=tiny.NAME, mean=0,
                          suite="vision_tiny_two@published", copies=(COPY,), task=0)  # fmt: skip
    monkeypatch.setitem(REPRODUCTIONS._items, "tiny", wanted)
    monkeypatch.setattr(sources, "FOLDER", tmp_path / "published")

    def run(numbers: dict, *words: object):
        rows = [line(method, values, shift=shift) for (method, shift), values in numbers.items()]
        publish(tmp_path / "published", "\n".join(rows), "vision_tiny_two", tiny.NAME)
        forget()
        return command("reproduce", "tiny", "--out", tmp_path / "out", "--jobs", 1, *words)

    return run


def said(text: str) -> str:
    """In one line, as terminals wrap it."""
    return " ".join(text.split())


def test_from_an_empty_machine_to_the_verdict(reproduce, tiny_hub, command):
    numbers = measured()
    assert len({tuple(values.values()) for values in numbers.values()}) > 2  # they tell apart
    listed = said(command("reproduce").out)
    assert "tiny pretrained, average, individual on vision_tiny_two@published and 1" in listed
    assert "to download" in reproduce(numbers, "--dry-run").out
    assert not (home() / "experts").exists()
    done = reproduce(numbers)
    assert done.code == 0, done.err + done.out
    assert len(list((home() / "experts" / tiny.NAME).glob("*.safetensors"))) == len(NAMES)
    assert len(list((home() / "heads").glob("*.safetensors"))) == len(NAMES)
    assert re.findall(r"^tiny .*$", done.out, re.MULTILINE)[-1].startswith(
        "tiny agrees: means within 0.0"
    )
    tolerance = "Tolerance: 0 points of a mean, 0 of a task, 0.05 for rounding."
    assert tolerance in said(done.out)
    for method, images in product(WHICH, ("published", COPY)):
        title = METHODS[method].title
        assert re.search(rf"^ *{title}, {images}, mean .* agrees", done.out, re.MULTILINE)
    tiny_hub.asked.clear()
    assert "0 to do" in reproduce(numbers).out
    assert tiny_hub.asked == []


def test_one_picture_more_is_told(reproduce):
    numbers = measured()
    numbers["average", f"{COPY}@2"]["tiny_pets"] += 1 / 30
    done = reproduce(numbers)
    assert done.code == 1
    title = METHODS["average"].title
    assert re.search(rf"{title}, {COPY}, tiny_pets .* -3.3\d .* DIFFERS", done.out)
    assert re.search(rf"{title}, {COPY}, mean .* -1.6\d .* DIFFERS", done.out)
    assert "tiny DOES NOT AGREE (2 of 18 numbers): means within 1.6" in said(done.out)


def test_what_was_not_published_is_told(reproduce):
    """A number that has nothing beside it is no agreement: neither is the mean over it."""
    numbers = measured()
    for values in numbers.values():
        del values["tiny_pets"]
    done = reproduce(numbers)
    assert done.code == 1
    assert said(done.out).endswith(
        "tiny agrees: tasks within 0.03 points of what was published; INCOMPLETE: 12 of 18 were "
        "not published (tiny_pets, mean)"
    )
    assert "not published" in done.out


def test_a_copy_that_the_hub_lacks_is_named(reproduce, tiny_hub):
    tiny_hub.add("datasets", DATA[1].repository, DATA[1].files())
    assert "tests/pets has no split 'contrast'" in said(reproduce(measured()).error)
