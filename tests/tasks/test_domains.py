"""Domains: other images of the classes of a task, with the labels of that task."""

import numpy as np
import pytest

from corruptions.base import CLEAN, Shift
from mergeshift import UnknownNameError, UserError
from tasks import SUITES, TASKS, load
from tasks.domains import DOMAINS, require_shown, shown, sources
from tasks.pocket.drawings import lines_of
from tasks.splits import TEST

STL, CIFAR = TASKS["stl10"], TASKS["cifar10"]


def test_classes_are_found_by_name_and_by_what_they_are_called_elsewhere():
    stl, cifar = DOMAINS["stl10"].labels(CIFAR), DOMAINS["cifar10"].labels(STL)
    named = {STL.classes[k]: CIFAR.classes[label] for k, label in enumerate(stl) if label >= 0}
    assert named["car"] == "automobile"
    assert {k: v for k, v in named.items() if k != v} == {"car": "automobile"}
    assert set(STL.classes) - set(named) == {"monkey"}
    back = {CIFAR.classes[k]: STL.classes[label] for k, label in enumerate(cifar) if label >= 0}
    assert back == {theirs: ours for ours, theirs in named.items()}
    assert [int(k) for k in DOMAINS["usps"].labels(TASKS["mnist-full"])] == list(range(10))


def test_a_domain_is_of_a_task_in_any_splits_and_at_any_size():
    for name in ("mnist-full", "mnist-full@published", "mnist-full@32", "tall_mnist"):
        assert DOMAINS["usps"].fits(TASKS[name])
    assert not DOMAINS["usps"].fits(TASKS["svhn"])
    small = DOMAINS["usps"].entry(TASKS["mnist-full@32"])
    assert (small.size, small.source.id) == (32, "flwrlabs/usps")
    assert small.pixels != DOMAINS["usps"].entry(TASKS["mnist-full"]).pixels
    assert DOMAINS["cifar10"].entry(TASKS["stl10@32"]).name == "cifar10@32"


def test_what_a_suite_shows_under_a_domain():
    tasks = SUITES["vision14"].tasks
    assert [task.name for task in shown(tasks, Shift("domain:usps"))] == ["mnist-full"]
    assert list(shown(tasks, CLEAN)) == tasks
    shifts = [CLEAN, Shift("domain:usps"), Shift("domain:cifar10")]
    assert [entry.name for entry in sources(tasks, shifts)] == ["usps", "cifar10"]
    with pytest.raises(UserError, match="no task of pocket8 has images of domain:usps"):
        require_shown(SUITES["pocket8"].tasks, Shift("domain:usps"), "pocket8")
    with pytest.raises(UnknownNameError, match="no domain named 'usp'; did you mean 'usps'"):
        shown(tasks, Shift("domain:usp"))


def test_a_drawing_is_left_with_its_lines():
    drawing = '<svg xmlns="http://www.w3.org/2000/svg"><g id="color"><path d="M0,0"/></g>'
    drawing += '<g id="skin"/><g id="line"><circle r="2"/></g><g id="line-supplement"/></svg>'
    left = lines_of(drawing)
    assert "circle" in left
    assert "path" not in left
    assert left.count("id=") == 2


@pytest.mark.data
@pytest.mark.parametrize(("name", "task"), [("typefaces", "letters"), ("outlines", "emoji")])
def test_drawn_domains_are_those_of_their_entries(name, task):
    own, entry = TASKS[task], DOMAINS[name].entry(TASKS[task])
    given = DOMAINS[name].images(own)  # built, and compared with its entry
    assert len(given) == entry.sizes[TEST]
    assert set(given.labels) == set(range(own.num_classes))
    tested = load(own, "test")
    seen = {image.tobytes() for split in ("train", "test") for image in load(own, split).images}
    again = [image for image in given.images if image.tobytes() in seen]
    assert len(again) < 0.05 * len(given)  # an emoji may have no colours
    if name == "outlines":  # the very emoji of the test
        np.testing.assert_array_equal(np.bincount(given.labels), np.bincount(tested.labels))


def test_digits_of_another_hand_have_the_labels_of_the_task():
    for name, other in (("mnist", "optdigits"), ("optdigits", "mnist")):
        np.testing.assert_array_equal(DOMAINS[other].labels(TASKS[name]), np.arange(10))
        assert DOMAINS[other].entry(TASKS[name]) == TASKS[other]
