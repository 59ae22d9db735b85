"""Tasks that have left: known where results name them, and nowhere else."""

import pytest

from mergeshift import UserError
from tasks import SUITES, TASKS, load
from tasks.former import Left

FORMER = {"solardefect": "SolarDefect", "games": "Games", "face": "Face", "leaf": "Leaf",
          "arrowhead": "ArrowHead"}  # fmt: skip


@pytest.mark.parametrize("name", list(FORMER))
def test_a_former_task_keeps_its_title_and_gives_no_images(name):
    task = TASKS[name]
    assert (task.name, task.title) == (name, FORMER[name])
    assert not task.source.is_ready(task)
    for ask in (lambda: load(task, "test"), lambda: task.source.prepare(task)):
        with pytest.raises(UserError, match=f"^the task {name} has left: .*cannot be measured"):
            ask()


def test_no_suite_and_no_list_has_a_former_task():
    assert not set(FORMER) & set(TASKS)
    assert not set(FORMER) & {name for suite in SUITES.values() for name in suite.names}
    assert set(TASKS.former) == set(FORMER)
    assert all(isinstance(task.source, Left) for task in TASKS.former.values())
    assert TASKS["solardefect"].non_commercial


def test_a_task_of_the_same_name_comes_first(monkeypatch):
    monkeypatch.setitem(TASKS.former, "mnist", TASKS["face"])
    assert TASKS["mnist"].title == "MNIST"
