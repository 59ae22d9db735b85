"""What the entries of the tasks say: names, classes, captions, sources, licences."""

import re

import pytest
from open_clip.tokenizer import SimpleTokenizer

from mergeshift import UnknownNameError
from tasks import SPLITS, SUITES, TASKS, suite, world_of
from tasks.sources.built import MOST
from tasks.sources.wheels import WHEELS

EIGHT = "mnist optdigits animals landcover texture brainplane scripts letters"
FOURTEEN = f"{EIGHT} climate leaf speaker emoji kanji language"
TWENTY = f"{FOURTEEN} microstructure ising arrowhead face games solardefect"
CLASSES = (10, 10, 10, 9, 8, 3, 15, 26, 14, 6, 9, 9, 16, 15, 5, 2, 3, 2, 20, 2)  # as published
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
    assert all(0 < size <= most for size, most in zip(task.sizes, MOST, strict=True))
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


# -- sources and licences ------------------------------------------------------------------------


def test_every_wheel_has_a_reader_and_every_reader_its_wheels():
    used = {wheel for name in NAMES for wheel in TASKS[name].source.wheels}
    assert used == set(WHEELS)


def test_eight_tasks_are_a_download_of_under_130_megabytes():
    wheels = {wheel for task in suite("pocket8") for wheel in task.source.wheels}
    assert sum(WHEELS[wheel].megabytes for wheel in wheels) < 130


def test_every_source_has_a_licence_and_one_is_not_for_commerce():
    assert [task.name for task in TASKS.values() if not task.licence] == []
    assert [task.name for task in TASKS.values() if task.non_commercial] == ["solardefect"]
    for task in map(TASKS.__getitem__, NAMES):
        assert all(WHEELS[wheel].licence in task.licence for wheel in task.source.wheels)
    assert "GPL-2.0" in TASKS["games"].licence  # a source that is no wheel
