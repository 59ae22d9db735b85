"""Tables of a setting as a merging problem: task by task, and beside others."""

import csv
import io
from dataclasses import replace

import numpy as np
import pytest

from results.diagnosis import measures
from results.render.text import render
from results.tables.diagnosis import beside, by_task
from tests.helpers.diagnosed import invented


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def lines(text: str) -> dict[str, list[str]]:
    """Second column -> the rest."""
    found = [cells(line) for line in text.splitlines() if line.startswith("|")]
    return {name: rest for _, name, *rest in found}


def test_a_column_for_each_task_and_the_mean():
    setting = invented(3)
    text = render(by_task(setting), "md")
    found = lines(text)
    assert found["quantity"] == ["task0", "task1", "task2", "mean"]
    zero = [*setting.zero_shot.values()]
    assert found["zero-shot"] == [f"{100 * x:.1f}" for x in [*zero, np.mean(zero)]]
    assert "Tsv (scale 0.3)" in found
    assert "All on 100 validation images a task." in text
    assert "Group" in text
    assert "Method" not in text


def test_of_many_tasks_the_extremes_are_shown_and_the_file_has_all():
    setting = invented(12)
    found = lines(render(by_task(setting), "md"))
    zero = [*setting.zero_shot.values()]
    assert found["zero-shot"] == [f"{100 * x:.1f}" for x in (min(zero), max(zero), np.mean(zero))]
    rows = list(csv.DictReader(io.StringIO(render(by_task(setting), "csv"))))
    assert {row["column"] for row in rows} == {*setting.tasks, "mean"}
    values = {row["column"]: float(row["value"]) for row in rows if row["quantity"] == "zero-shot"}
    assert values == pytest.approx({**setting.zero_shot, "mean": np.mean(zero)})


def test_deviations_over_sets_of_experts():
    setting = invented(3, seeds=3)
    found = lines(render(by_task(setting), "md"))
    (one,) = [one for one in measures(setting) if one.name == "expert"]
    assert found["expert"][-1] == f"{100 * one.mean:.1f} \u00b1{100 * one.sd:.1f}"
    assert "standard deviation over 3 sets" in render(by_task(setting), "text")


@pytest.mark.parametrize("form", ["text", "md", "csv", "latex"])
def test_settings_stand_beside_each_other_in_every_format(form):
    table = beside(invented(2, label="published"), [invented(3, label="first")])
    text = render(table, form)
    assert "first" in text
    assert "rank correlation (Spearman)" in text


def test_settings_of_one_name_are_told_apart():
    settings = [invented(3, key="aaaaaaaa"), invented(3, key="bbbbbbbb")]
    table = beside(invented(3, label="published"), settings)
    assert table.columns == ("published", "ours aaaaaa", "ours bbbbbb")


def test_what_one_setting_lacks_is_a_dash():
    ours, theirs = invented(3), invented(3, label="published")
    one = theirs.sets["0"]
    bare = replace(theirs, probe={}, sets={"0": replace(one, norm={}, own_line={}, kept={})})
    found = lines(render(beside(bare, [ours]), "md"))
    for name in ("linear probe", "length / that of the base", "s = 0.5", "5 % of the rank"):
        assert found[name][0] == "-"
        assert found[name][1] != "-"
    assert found["rank correlation (Spearman)"][0] == "-"
