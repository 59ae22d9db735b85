"""``table --published`` and ``list published``, as a user runs them."""

import pytest

from bench.cli.app import spread_lists
from results.published import sources
from results.schema import check
from tests.bench.cli.test_table_and_plot import record
from tests.helpers.published import line, publish
from tests.helpers.result_frames import make_rows

MEAN = {"mean": 0.6}


@pytest.fixture
def out(tmp_path, monkeypatch):
    """Results, and a folder of publications in the place of the one that comes along."""
    monkeypatch.setattr(sources, "FOLDER", tmp_path / "published")
    csv = f"{line('average', MEAN)}\n{line('fisher', {'mean': 0.65})}"
    publish(tmp_path / "published", csv)
    rows = make_rows(["average", "task_arithmetic"], shifts=(("clean", 0), ("contrast", 1)))
    record(tmp_path, check(rows))
    return tmp_path


def test_the_option_takes_no_word_or_several():
    assert spread_lists(["table", "--published"]) == ["table", "--published", "own"]
    assert spread_lists(["table", "--published", "--by", "task"]) == [
        "table", "--published", "own", "--by", "task"]  # fmt: skip
    assert spread_lists(["table", "--published", "a", "b", "-o", "x"]) == [
        "table", "--published", "a", "--published", "b", "-o", "x"]  # fmt: skip


def test_table_published(command, out):
    shown = command("table", "--published", "--out", out)
    assert shown.code == 0
    assert "clean, Fake & Co" in shown.out
    assert "60.0" in shown.out
    assert "Fisher" not in shown.out
    named = command("table", "--published", "fake", "--out", out)
    assert "Fisher Merging" in named.out
    error = command("table", "--published", "fak", "--out", out).error
    assert "no published source named 'fak'; did you mean 'fake'?" in error
    error = command("table", "--published", "--metric", "nll", "--out", out).error
    assert "leave out --metric nll" in error
    error = command("table", "--published", "--by", "routing", "--out", out).error
    assert "published numbers stand by shift, task, seen" in error
    path = out / "beside.tex"
    words = ("table", "--published", "--format", "latex", "--standalone", "-o", path, "--out", out)
    assert command(*words).code == 0
    assert r"\end{document}" in path.read_text()


def test_without_experts_of_the_family_there_is_nothing(command, out):
    publish(out / "published", line("average", MEAN), checkpoints="task_vectors")
    assert "no published numbers of pocket8" in command("table", "--published", "--out", out).error
    assert command("table", "--published", "fake", "--out", out).code == 0


def test_list_published(command, out):
    shown = command("list", "published")
    assert shown.code == 0
    assert "Fake & Co" in shown.out
    assert "average, fisher" in shown.out
    assert command("list", "published", "--markdown").out.count("\n") == 3
