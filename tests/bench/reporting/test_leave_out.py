"""Leave-k-out: which tasks are left out, and means over all choices of them."""

from collections import Counter
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from bench.plan import resolve
from bench.reporting.leave_out import choices, rows_by_choice, sweeps_of
from bench.sweeps import SWEEPS
from mergeshift import UserError
from results.tables.leave_out import leave_out

SMOKE = replace(SWEEPS["smoke"], tune=False, methods=("pretrained", "average", "individual"))
TASKS = ("toy_two", "toy_three", "toy_four")


@pytest.mark.parametrize(("count", "k", "rounds"), [(8, 1, 1), (8, 2, 1), (8, 3, 1), (14, 4, 2)])
def test_a_round_leaves_out_every_task_equally_often(count, k, rounds):
    names = [f"t{i:02}" for i in range(count)]
    found = choices(names, k, rounds)
    assert all(len(set(one)) == k and list(one) == sorted(one) for one in found)
    if rounds == 1:
        assert len(set(Counter(name for one in found for name in one).values())) == 1
    assert found == choices(names, k, rounds)
    assert found[: len(choices(names, k, 1))] == choices(names, k, 1)
    assert count == k + 1 or k == 1 or found != choices(names, k, rounds, seed=1)


def test_all_choices_are_all():
    assert choices(TASKS, 2) == list(combinations(TASKS, 2))
    assert sorted(choices(TASKS, 1, rounds=1)) == sorted(choices(TASKS, 1))


@pytest.mark.parametrize(("k", "rounds", "said"), [
    (3, 0, "--leave-out is 1 to 2 of 3 tasks; got 3"),
    (1, -1, "--leave-out-rounds is a number from 0"),
])  # fmt: skip
def test_mistakes_are_one_line(k, rounds, said):
    with pytest.raises(UserError, match=said):
        choices(TASKS, k, rounds)
    with pytest.raises(UserError, match="184,756 choices; give --leave-out-rounds"):
        choices([str(i) for i in range(20)], 10)
    with pytest.raises(UserError, match="leave out --unseen"):
        sweeps_of(replace(SMOKE, unseen=("toy_two",)), 1)


@pytest.fixture(scope="module")
def out(smoke, tmp_path_factory):
    """The smoke sweep without each task in turn, by the command line."""
    from bench.cli.app import main

    folder = tmp_path_factory.mktemp("leave")
    words = ["--methods", "pretrained,average,individual", "--no-tune", "--leave-out", "1"]
    words += ["--wandb", "off", "--jobs", "1", "--out", str(folder)]
    assert main(["sweep", "smoke", *words]) == 0
    return folder


def test_each_choice_is_a_sweep_of_its_own(out):
    name = next((out / "sweeps").glob("*.json")).name.split("-leave-1-out-")[0]
    every = sweeps_of(replace(SMOKE, name=name), 1)
    assert [one.unseen for one in every] == [("toy_two",), ("toy_three",), ("toy_four",)]
    assert len({run.id for one in every for run in resolve(one).runs}) == 9
    assert len(rows_by_choice(out, name, 1)) == 3
    with pytest.raises(UserError, match="that left out 2; run"):
        rows_by_choice(out, name, 2)


def test_means_over_the_choices(out, command):
    name = next((out / "sweeps").glob("*.json")).name.split("-leave-1-out-")[0]
    rows = rows_by_choice(out, name, 1)
    table = leave_out(rows)
    assert table.columns == ("clean", "contrast@5")
    for key in ("pretrained", "average", "individual"):
        for kind in ("seen", "unseen"):
            means = []
            for one in rows:
                here = one[(one["method"] == key) & (one["metric"] == "acc")]
                here = here[(here["severity"] == 0) & (here["seen"] == (kind == "seen"))]
                means.append(here["value"].mean())
            np.testing.assert_allclose(sorted(table.values[key, kind, "clean"]), sorted(means))
    floor, experts = (table.values[key, "unseen", "clean"] for key in ("pretrained", "individual"))
    np.testing.assert_array_equal(floor, experts)  # which stands in for experts that are not merged
    frame = table.frame().set_index(["entry", "column"])
    assert frame.loc[("average", "clean unseen"), "spread"] == pytest.approx(
        np.std(table.values["average", "unseen", "clean"], ddof=1)
    )
    for form in ("text", "md", "csv", "latex"):
        words = ("table", "--by", "leave-out", "--sweep", name, "--out", out, "--format", form)
        assert command(*words).code == 0
    said = " ".join(
        command("table", "--by", "leave-out", "--sweep", name, "--out", out).out.split()
    )
    assert "Mean over 3 choices of 1 unseen task; each of 3 tasks was unseen 1 time." in said
    with pytest.raises(UserError, match="not measured with the same methods"):
        leave_out([rows[0], rows[1][rows[1]["method"] != "average"]])
