"""Every task that is made here keeps the contract, and each check catches a task that does not."""

from dataclasses import replace

import numpy as np
import pytest

from tasks import SPLITS, TASKS, Images, contract, load
from tasks.contract import CHECKS
from tasks.sources.built import stored


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", ["toy_two", "toy_three", "toy_four"])
def test_toy_tasks_keep_it(name, check):
    check(TASKS[name])


def breach(check: str, message: str, **facts: object):
    return pytest.param(getattr(contract, f"check_{check}"), message, facts, id=message)


@pytest.mark.parametrize(
    ("check", "message", "facts"),
    [
        breach("its_entry_is_complete", "no title", title=""),
        breach("its_entry_is_complete", "no noun", noun=""),
        breach("its_entry_is_complete", "a split is empty", sizes=(96, 0, 24, 48)),
        breach("its_entry_is_complete", "16 hex digits", pixels="none"),
        breach("its_classes_have_prompts_of_their_own", "1 classes", classes=("a",)),
        breach("its_classes_have_prompts_of_their_own", "same name", classes=("a", "a")),
        breach("its_classes_have_prompts_of_their_own", "prompts are the same", templates=("x",)),
    ],
)
def test_an_entry_that_breaks_it_is_caught(check, message, facts):
    with pytest.raises(AssertionError, match=message):
        check(replace(TASKS["toy_two"], **facts))


def negative(images: np.ndarray, labels: np.ndarray) -> Images:
    return Images(images, labels - 1)


DATA = [  # check, message, what becomes of the test split
    ("splits_have_the_sizes_of_its_entry", "test has 47", lambda x, y: Images(x[1:], y[1:])),
    ("labels_are_classes", "a label below 0", negative),
    ("labels_are_classes", "label 9 of 2", lambda x, y: Images(x, np.full_like(y, 9))),
    ("labels_are_classes", "of one class", lambda x, y: Images(x, np.zeros_like(y))),
    ("labels_are_classes", "labels of test are int32", lambda x, y: Images(x, y.astype("i4"))),
    ("pictures_are_rgb", "pictures of test", lambda x, y: Images(x[..., :1], y)),
]


@pytest.mark.parametrize(("check", "message", "change"), DATA)
def test_data_that_break_it_are_caught(check, message, change, monkeypatch):
    def changed(task, split):
        found = load(task, split)
        return change(found.images, found.labels) if split == "test" else found

    monkeypatch.setattr(contract, "load", changed)
    with pytest.raises(AssertionError, match=message):
        getattr(contract, f"check_its_{check}")(TASKS["toy_two"])


@pytest.mark.parametrize("place", [0, 143, 191])  # the last one of val, of test
def test_a_pixel_that_changed_is_caught_wherever_it_is_stored(place, monkeypatch):
    def changed(task):
        images, labels = np.array(stored(task).images), stored(task).labels
        images[place, 5, 5, 0] ^= 1
        return Images(images, labels)

    monkeypatch.setattr(contract, "stored", changed)
    with pytest.raises(AssertionError, match="what is stored has pixels"):
        contract.check_its_pixels_are_those_of_its_entry(TASKS["toy_two"])


def test_a_picture_in_two_splits_is_caught_but_not_one_of_a_single_colour(monkeypatch):
    task, shared = TASKS["toy_two"], load(TASKS["toy_two"], "val").images[0]

    def with_it(picture):
        def changed(task, split):
            found = load(task, split)
            if split not in ("val", "test"):
                return found
            return Images(np.concatenate([picture[None], found.images]), found.labels)

        monkeypatch.setattr(contract, "load", changed)
        contract.check_no_picture_is_in_two_splits(task)

    with pytest.raises(AssertionError, match="a picture is in val and in test"):
        with_it(shared)
    with_it(np.full_like(shared, 7))
    assert len(SPLITS) == 4


def test_every_check_catches_something():
    caught = {f"check_its_{check}" for check, *_ in DATA}
    caught |= {"check_its_entry_is_complete", "check_its_classes_have_prompts_of_their_own"}
    caught |= {"check_its_pixels_are_those_of_its_entry", "check_no_picture_is_in_two_splits"}
    assert caught == {check.__name__ for check in CHECKS}
