"""What is read from the files is what the registries hold."""

import subprocess
import sys
from ast import literal_eval
from pathlib import Path

import pytest

from bench import index
from bench.sweeps import SWEEPS
from corruptions.base import CORRUPTIONS, SHIFT_SETS
from methods import METHODS
from tasks import SUITES, TASKS
from tasks.domains import DOMAINS

ROOT = Path(__file__).resolve().parents[2]


def from_files(expression: str) -> str:
    """What a process that has imported nothing else prints."""
    code = f"import sys\nfrom bench import index\nprint({expression})\n"
    code += "assert not {'torch', 'pandas', 'numpy'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_methods_and_their_order():
    assert from_files("index.method_order()") == str(index.method_order())
    years = {name: cls.paper.year for name, cls in METHODS.items()}
    assert literal_eval(from_files("index.method_years()")) == years


def test_suites_sweeps_and_shifts():
    assert sorted(index.suites()) == sorted(SUITES)
    assert index.sweeps() == list(SWEEPS)
    names = [*SHIFT_SETS, *sorted(CORRUPTIONS)]
    others = ["prior", *sorted(f"domain:{name}" for name in DOMAINS)]
    assert index.shifts() == [
        "clean", "L1", "L2", "L3", *(f"{name}@3" for name in names), *others
    ]  # fmt: skip


def test_tasks_are_those_that_files_name():
    named = set(index.tasks())
    assert named <= set(TASKS)
    wanted = {task for suite in ("pocket20", "vision20") for task in SUITES[suite].names}
    assert wanted - named == {"mnist-full"}  # its name is put together when the program runs


def test_a_new_file_is_known_at_once(tmp_path, monkeypatch):
    (tmp_path / "methods").mkdir()
    monkeypatch.setattr(index, "ROOT", tmp_path)
    monkeypatch.delitem(sys.modules, "methods")
    (tmp_path / "methods" / "mine.py").write_text(
        'class Base(M):\n    paper = Paper(key="x", year=2031)\n\n'
        '@METHODS.register("mine")\nclass Mine(Base):\n    pass\n'
    )
    assert index.method_years() == {"mine": 2031}


@pytest.mark.parametrize("damage", ["", "{", '{"key": "old", "rows": []}'])
def test_a_listing_is_remembered_until_a_file_changes(tmp_path, monkeypatch, damage):
    monkeypatch.setenv("MERGESHIFT_HOME", str(tmp_path / "home"))
    (tmp_path / "things").mkdir()
    monkeypatch.setattr(index, "ROOT", tmp_path)
    made = []

    def make() -> list[dict]:
        made.append(len(made))
        return [{"name": f"row {len(made)}", "yes": True}]

    (tmp_path / "things" / "a.py").write_text("A = 1\n")
    assert index.remembered("things", make) == index.remembered("things", make)
    assert len(made) == 1
    if damage:
        (tmp_path / "home" / "index" / "things.json").write_text(damage)
    else:
        (tmp_path / "things" / "b.py").write_text("B = 1\n")
    assert index.remembered("things", make)[0]["name"] == "row 2"
    assert index.remembered("things", make)[0]["name"] == "row 2"


def test_a_data_folder_that_cannot_be_written_is_no_obstacle(tmp_path, monkeypatch):
    (tmp_path / "home").write_text("a file")
    monkeypatch.setenv("MERGESHIFT_HOME", str(tmp_path / "home"))
    assert index.remembered("nothing_of_ours", lambda: [{"name": "a"}]) == [{"name": "a"}]
