"""Which class of a folder is which class of a task: by name, by number, or not at all."""

import re
from dataclasses import replace

import pytest

from mergeshift import UserError
from tasks import TASKS, Task, load
from tasks.sources.class_names import renumbered
from tests.helpers.pictures import CLASSES, table, tree
from tests.tasks.sources.test_folder import expected, pixels_by_class


def task_of(*classes: str, name: str = "its") -> Task:
    return replace(TASKS["toy_two"], name=name, classes=classes)


@pytest.mark.parametrize(
    ("names", "classes", "wanted"),
    [
        (["AnnualCrop", "River"], ("river", "annual crop"), [1, 0]),  # by name
        (["polka-dotted", "striped"], ("striped", "polka dotted"), [1, 0]),
        (["1", "10", "2"], ("10", "2", "1"), [2, 0, 1]),  # numbers that are names, too
        (["0", "1", "10", "2"], ("zero", "one", "two", "ten"), [0, 1, 3, 2]),  # by number
        (["n01440764", "n01443537"], ("tench", "goldfish"), [0, 1]),  # by the alphabet
        (["c", "c++", "d"], ("d", "c++", "c"), [2, 1, 0]),  # alike but for what spelling differs in
    ],
)
def test_all_names_are_known_or_none_is(names, classes, wanted):
    for name in ("its", "local_its"):
        assert renumbered(names, task_of(*classes, name=name), "DIR").tolist() == wanted


@pytest.mark.parametrize(
    ("names", "classes", "said"),
    [
        (["Forest", "River", "Sea"], ("forest", "river", "lake"),
         "only some classes of DIR are those of its: unknown are 'Sea', missing are 'lake'; name"),
        (["1", "10", "2"], ("1", "2", "0"), "unknown are '10', missing are '0'"),
        (["a", "b b", "b_b"], ("a", "b b", "c"), "unknown are 'b_b', missing are 'c'"),
        (["a", *"stuvwxyz"], ("a", *"bcdefghi"),
         "unknown are 's', 't', 'u', 'v', 'w' and 3 more, missing are 'b', 'c', 'd', 'e', 'f' and"),
    ],
)  # fmt: skip
def test_some_names_are_an_error_that_names_the_rest(names, classes, said):
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        renumbered(names, task_of(*classes), "DIR")
    assert "\n" not in str(caught.value)


def test_a_copy_of_a_task_with_a_misspelt_class_is_no_copy(data_folder):
    classes = TASKS.listed("eurosat").classes
    tree(data_folder / "eurosat", [*classes[:-1], "see"], train=1, test=10)
    with pytest.raises(UserError, match="unknown are 'see', missing are 'lake or sea'"):
        TASKS["eurosat"]


@pytest.mark.parametrize("numbers", [True, False])
def test_tables_have_numbers_or_names(data_folder, numbers):
    """Classes of the table in the order of its labels: ant hill, bee, Cow."""
    from datasets import Value

    (data_folder / "zoo").mkdir()
    whole = table(CLASSES, "whole", 10)
    whole = whole.cast_column("label", Value("int64")) if numbers else whole
    whole.to_parquet(data_folder / "zoo" / "all.parquet")
    told = '{"classes": ["bee", "Cow", "ant hill"]}'  # numbers: another name for each
    (data_folder / "zoo" / "task.json").write_text(told)
    task = TASKS["local_zoo"]
    found = pixels_by_class(task, "train")["bee"]
    assert found < expected("whole", "ant hill" if numbers else "bee", 10)
    assert sorted(set(load(task, "test").labels.tolist())) == [0, 1, 2]


def test_own_names_may_be_changed_where_the_others_keep_their_places(data_folder):
    tree(data_folder / "zoo", CLASSES, whole=10)  # in the order of the alphabet: Cow, ant hill, bee
    about = data_folder / "zoo" / "task.json"
    about.write_text('{"classes": ["Cow", "a hill of ants", "bee"]}')
    found = pixels_by_class(TASKS["local_zoo"], "train")
    assert found["a hill of ants"] < expected("whole", "ant hill", 10)
    assert found["bee"] < expected("whole", "bee", 10)
    tree(data_folder / "farm", CLASSES, whole=10)
    (data_folder / "farm" / "task.json").write_text('{"classes": ["a hill of ants", "Cow", "bee"]}')
    with pytest.raises(UserError, match="unknown are 'ant hill', missing are 'a hill of ants'"):
        TASKS["local_farm"]
