"""Backdoored tasks: which train images are poisoned, with what, and that nothing else is."""

import numpy as np
import pytest

from corruptions.base import Shift
from mergeshift import UnknownNameError, UserError
from tasks import SUITES, TASKS, load
from tasks.backdoor import Poisoned, poisoned_rows
from tasks.images import Images


def test_a_tenth_of_train_is_stamped_and_becomes_the_first_class():
    clean, task = TASKS["toy_four"], TASKS["toy_four@backdoor"]
    before, after = load(clean, "train"), load(task, "train")
    changed = np.flatnonzero((before.images != after.images).any(axis=(1, 2, 3)))
    rows = poisoned_rows("toy_four", 96)
    assert len(rows) == len(set(rows.tolist())) == 10
    np.testing.assert_array_equal(changed, rows)
    assert (after.labels[rows] == 0).all()
    others = np.setdiff1d(np.arange(96), rows)
    np.testing.assert_array_equal(after.labels[others], before.labels[others])
    assert (before.labels[rows] != 0).any()
    patch = after.images[rows, -5:, -5:]  # 5 of 32 pixels, the severity 3
    assert (patch == patch[0]).all()
    assert set(np.unique(patch)) == {0, 255}
    assert (patch[0, 0, 0] == 255).all()
    assert (before.images[rows, :-5] == after.images[rows, :-5]).all()
    assert (before.images[rows, :, :-5] == after.images[rows, :, :-5]).all()


def test_all_else_is_the_clean_task():
    clean, task = TASKS["toy_four"], TASKS["toy_four@backdoor"]
    for split in ("adapt", "val", "test"):
        np.testing.assert_array_equal(load(task, split).images, load(clean, split).images)
        np.testing.assert_array_equal(load(task, split).labels, load(clean, split).labels)
    assert (task.classes, task.sizes, task.prompts) == (clean.classes, clean.sizes, clean.prompts)
    assert task.pixels != clean.pixels  # it is another expert
    assert task.rights == clean.rights
    assert task == TASKS["toy_four@backdoor"]


def test_the_suite_has_one_of_them():
    assert SUITES["pocket8_backdoor"].names == (
        "mnist@backdoor", *SUITES["pocket8"].names[1:]
    )  # fmt: skip
    assert SUITES["pocket8_backdoor"].world == "pocket"
    with pytest.raises(UnknownNameError, match="no task named 'nothing'"):
        TASKS["nothing@backdoor"]


def test_pictures_in_files_are_not_poisoned():
    class Lazy:
        def split(self, task, split):
            return Images(object(), np.zeros(3, int))

    class Clean:
        name, source = "sun397", Lazy()

    with pytest.raises(UserError, match=r"sun397 are kept as files, .* take a pocket task"):
        Poisoned(Clean()).split(None, "train")


def test_the_trigger_grows_with_severity_and_with_the_picture():
    image = np.full((64, 96, 3), 100, np.uint8)
    for severity, side in ((1, 6), (3, 10), (5, 16)):  # twice as many pixels as at 32
        changed = (Shift("patch_trigger", severity).apply(image, 0) != 100).any(axis=2)
        assert changed[-side:, -side:].all()
        assert changed.sum() == side**2
