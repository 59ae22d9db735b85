"""Code that changed: what changes its hash, and what sweeps and tables say then."""

import json
import shutil
from pathlib import Path

import pytest

from bench import index
from bench.config import Sweep
from bench.plan import resolve
from bench.stages import source
from mergeshift import UserError
from tests.helpers.toy_sweep import stamps, sweep_into

TOY = Sweep(name="mine", suite="toy", methods=("average", "individual"), limit=24, tune=False,
            shifts=("clean",))  # fmt: skip
SAID = "average.py changed since these results: raise its version, or --force"


@pytest.mark.parametrize(("before", "after", "same"), [
    ("x = 1", "x = 1  # a comment\n\n", True),
    ("def f():\n    return 1", 'def f():\n    """Says one."""\n    return 1', True),
    ("class C:\n    '''Old.'''\n    a = 1", "class C:\n    '''New.'''\n    a = 1", True),
    ("f(1,2)", "f(\n    1,\n    2,\n)", True),
    ("x = 'a'", 'x = "a"', True),
    ("x = 1", "x = 2", False),
    ("x = 1", "x = 1.0", False),
    ("a - b", "b - a", False),
    ("f('text')", "f('other')", False),
    ("def f(x=1): return x", "def f(x=2): return x", False),
    ("if a:\n    b()\nc()", "if a:\n    b()\n    c()", False),
])  # fmt: skip
def test_what_is_another_code(before, after, same):
    assert (source.normalised(before) == source.normalised(after)) is same


def test_a_method_is_its_file_or_folder_and_those_it_is_made_from():
    assert list(source.source_of("ties")) == ["ties.py"]
    assert set(source.source_of("bd_merging")) >= {"bd_merging/"}
    assert "routing/" in source.source_of("twin_merging")
    assert source.source_of("somebody's") == {}


@pytest.fixture
def edited(monkeypatch, tmp_path):
    """The files of methods, copied: edit one by its name."""
    shutil.copytree(index.ROOT / "methods", tmp_path / "code" / "methods")
    monkeypatch.setattr(index, "ROOT", tmp_path / "code")

    def edit(name: str, text: str) -> None:
        path = tmp_path / "code" / "methods" / name
        path.write_text(path.read_text() + text)

    return edit


def test_old_numbers_do_not_come_back_in_silence(edited, command, tmp_path):
    out = tmp_path / "out"
    sweep_into(out, TOY)
    words = ("sweep", "smoke", "--methods", "average,individual", "--no-tune", "--jobs", 1,
             "--wandb", "off", "--out", out)  # fmt: skip
    table = ("table", "--out", out, "--sweep", "mine")
    assert "changed" not in command(*table).out
    edited("average.py", "\n# a comment\n")
    assert "changed since" not in command(*table).out
    edited("average.py", "\nNEW = 1\n")
    assert "average.py changed since this was measured" in " ".join(command(*table).out.split())
    assert "average.py changed since" in command(*table, "--format", "csv").out
    before = stamps(out)
    sweep_into(out, TOY)  # finished: nothing is measured
    assert stamps(out) == before
    with pytest.raises(UserError) as caught:
        sweep_into(out, Sweep(**{**vars(TOY), "shifts": ("clean", "contrast@5")}))
    assert str(caught.value) == SAID
    assert SAID in command(*words, "--shifts", "clean", "contrast@5").error
    told = " ".join(command(*words, "--shifts", "clean").out.split())
    assert SAID in told
    sweep_into(out, TOY, force=True)
    assert "changed since" not in command(*table).out


def test_results_from_before_there_were_hashes_say_nothing(edited, command, tmp_path):
    out = tmp_path / "out"
    sweep_into(out, TOY)
    for run in resolve(TOY).runs:
        path = out / "cells" / run.id / "run.json"
        facts = json.loads(path.read_text())
        assert facts.pop("source")
        path.write_text(json.dumps(facts))
    edited("average.py", "\nNEW = 1\n")
    before = stamps(out)
    sweep_into(out, TOY)
    assert stamps(out) == before
    shown = command("table", "--out", Path(out))
    assert "changed since" not in shown.out + shown.err
