"""What the entries of the tasks say: names, classes, captions, sources, rights; what is kept."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from open_clip.tokenizer import SimpleTokenizer

from corruptions.base import CLEAN
from mergeshift import UnknownNameError, UserError
from tasks import RESERVED, SPLITS, SUITES, TASKS, load, suite, world_of
from tasks.datamodule import SuiteDataModule
from tasks.rights import Rights
from tasks.sources.built import MOST, Built, Pool, assemble, pixel_hash
from tasks.sources.debian import DEBIAN
from tasks.sources.wheels import WHEELS, Wheel

EIGHT = "mnist optdigits animals landcover texture brainplane scripts letters"
FOURTEEN = f"{EIGHT} climate icons speaker emoji kanji language"
TWENTY = f"{FOURTEEN} microstructure ising symbols numerals fashion clipart"
CLASSES = (10, 10, 10, 9, 8, 3, 15, 26, 14, 16, 9, 9, 16, 15, 5, 2, 11, 10, 10, 14)
KINDS = {"photograph", "measurement", "drawing", "rendered text", "simulation", "synthetic"}
NAMES = [name for name, task in TASKS.items() if not task.source.native]  # built here
TOY = ("toy_two", "toy_three", "toy_four")


# -- the entries ---------------------------------------------------------------------------------


def test_the_suites_are_nested_and_in_order():
    for name, expected in (("pocket8", EIGHT), ("pocket14", FOURTEEN), ("pocket20", TWENTY)):
        assert [task.name for task in suite(name)] == expected.split()
        assert world_of(name) == "pocket"
    assert [task.name for task in suite("toy")] == list(TOY)
    assert set(NAMES) == {*TWENTY.split(), *TOY}
    assert world_of("toy") == "toy"


def test_the_number_of_classes_is_that_of_the_source():
    assert tuple(task.num_classes for task in suite("pocket20")) == CLASSES
    assert [TASKS[name].num_classes for name in TOY] == [2, 3, 4]


def test_an_unknown_task_or_suite_is_one_line_with_a_hint():
    with pytest.raises(UnknownNameError, match="no task named 'minst'; did you mean 'mnist'"):
        TASKS["minst"]
    with pytest.raises(UnknownNameError, match="no suite named 'pocket9'; did you mean 'pocket8'"):
        SUITES["pocket9"]


@pytest.mark.parametrize("name", NAMES)
def test_an_entry_is_complete(name):
    task = TASKS[name]
    assert task.name == name
    assert re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", name)
    assert task.title
    assert task.noun
    assert task.kind in KINDS
    assert len(set(task.classes)) == task.num_classes >= 2
    assert task.template.count("{}") == 1
    assert all(label in prompt for label, prompt in zip(task.classes, task.prompts, strict=True))
    assert len(task.sizes) == len(SPLITS) == len(MOST) == 4
    *seen, test = task.sizes
    held = (*seen, test + task.reserved)
    assert all(0 < size <= most for size, most in zip(held, MOST, strict=True))
    assert re.fullmatch(r"[0-9a-f]{16}", task.pixels)
    assert task.version >= 1


def test_what_identifies_a_task_is_unique():
    for key in ("title", "noun", "pixels", "source"):
        pocket = [getattr(task, key) for task in suite("pocket20")]
        assert len(set(pocket)) == 20, key
    prompts = [prompt for task in suite("pocket20") for prompt in task.prompts]
    nouns = [task.noun for task in suite("pocket20")]
    assert len({*prompts, *nouns}) == sum(CLASSES) + 20  # a caption means one thing


def test_no_prompt_is_longer_than_the_text_tower_reads():
    words = SimpleTokenizer(context_length=16)
    for text in [p for name in NAMES for p in (*TASKS[name].prompts, TASKS[name].noun)]:
        assert len(words.encode(text)) + 2 <= 16, text  # and the start and the end of the text


# -- sources and rights --------------------------------------------------------------------------


def test_every_archive_has_a_reader_and_every_reader_its_archives():
    sources = [TASKS[name].source for name in NAMES]
    assert {wheel for source in sources for wheel in source.wheels} == set(WHEELS)
    assert {package for source in sources for package in source.debian} == set(DEBIAN)


def test_eight_tasks_are_wheels_of_under_130_megabytes():
    archives = {archive for task in suite("pocket8") for archive in task.source.archives}
    assert all(isinstance(archive, Wheel) for archive in archives)
    assert sum(archive.megabytes for archive in archives) < 130


def test_what_a_task_is_made_of_gives_its_rights():
    assert TASKS["emoji"].licence == "CC-BY-SA-4.0 (OpenMoji); MIT (labels)"
    assert TASKS["emoji"].use == "share-alike"  # the stricter of the two
    assert TASKS["clipart"].use == "anyone"
    assert TASKS["toy_two"].licence == "MIT (made here)"
    for task in map(TASKS.__getitem__, NAMES):
        assert all(archive.rights in task.rights for archive in task.source.archives)
    assert [task.name for task in TASKS.values() if not task.licence or not task.rights] == []


@pytest.mark.parametrize("name", [name for name in SUITES if world_of(name) != "vision"])
def test_whoever_names_the_authors_may_use_a_built_in_suite(name):
    for task in suite(name):
        assert task.use in {"anyone", "attribution", "share-alike"}, task.name
        assert not task.non_commercial
        for rights in task.rights:
            assert rights.licence
            assert re.search(r"[\w.-]+/[\w.-]+|^LICENSE$", rights.read), rights  # a file or a page


def test_use_is_one_of_the_words():
    with pytest.raises(ValueError, match="use is one of anyone, attribution"):
        Rights("MIT", "LICENSE", "everybody")


# -- the reserved third --------------------------------------------------------------------------


def test_a_third_of_what_a_pocket_suite_could_test_on_is_reserved():
    for task in suite("pocket20"):
        assert task.reserved == (task.sizes[3] + task.reserved) // 3 > 0
    assert [TASKS[name].reserved for name in (*TOY, "mnist-full")] == [0, 0, 0, 0]


@pytest.fixture
def striped(tmp_path, monkeypatch):
    """A task of 70 pictures, each of one shade of grey: 30 train, 6 adapt, 7 val, 27 test."""
    monkeypatch.setenv("MERGESHIFT_HOME", str(tmp_path))
    shades = np.arange(70, dtype=np.uint8)
    images = np.broadcast_to(shades[:, None, None, None], (70, 32, 32, 3))
    splits = np.repeat(np.arange(4), (30, 6, 7, 27)).astype(np.int8)
    source = Built(lambda: Pool(images, shades.astype(int) % 2, splits))
    task = replace(
        TASKS["toy_two"], name="striped", source=source, sizes=(30, 6, 7, 18), reserved=9
    )
    stored, labels, _ = assemble(task)
    return replace(task, pixels=pixel_hash(stored, labels))


def test_the_reserved_images_are_the_last_third_of_test_and_no_others(striped):
    shades = {split: load(striped, split).images[:, 0, 0, 0].tolist() for split in SPLITS}
    kept = load(striped, "test-b").images[:, 0, 0, 0].tolist()
    assert RESERVED == "test-b" not in SPLITS
    assert [len(found) for found in shades.values()] == [30, 6, 7, 18]
    assert len(kept) == 9
    assert sorted(shades["test"] + kept) == list(range(43, 70))
    whole = replace(striped, sizes=(30, 6, 7, 27), reserved=0)
    assert load(whole, "test").images[:, 0, 0, 0].tolist() == shades["test"] + kept
    np.testing.assert_array_equal(load(striped, "test-b").labels, np.array(kept) % 2)


def test_a_split_that_a_task_lacks_is_one_line(striped):
    has = "it has: train, adapt, val, test"
    with pytest.raises(UserError, match=f"^striped has no split 'tset'; {has}, test-b$"):
        load(striped, "tset")
    for name in ("toy_two", "mnist-full"):  # of no other task is anything reserved
        with pytest.raises(UserError, match=f"^{name} has no split 'test-b'; {has}$"):
            load(TASKS[name], "test-b")


def test_the_data_module_shows_none_of_the_reserved_images(striped):
    data = SuiteDataModule([striped], [CLEAN], batch=5, adapt_steps=40, adapt_on="test")
    kept = set(load(striped, "test-b").images[:, 0, 0, 0].tolist())
    loaders = (data.test_dataloader(), data.val_dataloader())
    shown = {int(image[0, 0, 0]) for loader in loaders for b in loader for image in b["images"]}
    shown |= {int(image[0, 0, 0]) for b in data.train_dataloader() for image in b["striped"]}
    assert len(shown) == 7 + 18
    assert not shown & kept


def test_no_command_and_no_method_names_the_reserved_split():
    root = Path(__file__).resolve().parents[2]
    naming = []
    for package in ("bench", "results", "methods", "corruptions"):
        for path in (root / package).rglob("*.py"):
            if re.search(r"test-b\b|\bRESERVED\b", path.read_text(encoding="utf-8")):
                naming.append(path.name)
    assert naming == []
