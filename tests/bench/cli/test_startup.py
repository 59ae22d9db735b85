"""Commands import what they need, and nothing that makes a user wait."""

import subprocess
import sys
from ast import literal_eval
from pathlib import Path

import pytest

from bench.cli.app import COMMANDS, load
from bench.cli.options import METRICS as METRIC_NAMES
from bench.cli.table import PRESET_NAMES
from bench.cli.wandb import PROJECT
from bench.profiling.startup import commands
from results.latex.presets import PRESETS
from results.schema import METRICS
from results.wandb import runs

ROOT = Path(__file__).resolve().parents[3]
HEAVY = ("torch", "lightning", "torchvision", "scipy", "datasets", "wandb", "optuna", "open_clip")
DATA = ("pandas", "numpy", "pyarrow", "matplotlib")
WATCH = """
import atexit, sys
atexit.register(lambda: print("MODULES", *(m for m in {names!r} if m in sys.modules)))
"""


def imported(arguments: list[str], environment: dict[str, str], tmp_path: Path) -> set[str]:
    """The heavy modules that a process holds when it ends."""
    (tmp_path / "sitecustomize.py").write_text(WATCH.format(names=HEAVY + DATA))
    path = f"{tmp_path}:{ROOT}"
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": path, "HOME": str(tmp_path), "COLUMNS": "100",
             "MERGESHIFT_HOME": str(tmp_path / "home"), **environment},
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("MODULES")]
    assert len(lines) == 1, done.stdout + done.stderr
    return set(lines[0].split()[1:])


@pytest.mark.parametrize(
    "name", ["--help", "--version", "an unknown command", "a wrong option", "completion"]
)
def test_words_wait_for_nothing(name, tmp_path):
    arguments, environment, _ = commands(tmp_path, tmp_path / "x.png")[name]
    assert imported(arguments, environment, tmp_path) == set()


ONE_BY_ONE = """
import contextlib, io, sys
from bench.cli.app import main
found = []
for words in {lines!r}:
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = main(words)
    found.append((code, bool(said.getvalue()), [m for m in {names!r} if m in sys.modules]))
print(found)
"""


def after_each(lines: list[list[str]], names: tuple[str, ...], home: Path) -> list[tuple]:
    """Exit code, whether something was printed, and the modules that are held after each command.

    One process runs one after the other: whatever one of them imports is there ever after.
    """
    done = subprocess.run(
        [sys.executable, "-c", ONE_BY_ONE.format(lines=lines, names=names)],
        capture_output=True, text=True, cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "HOME": str(home), "COLUMNS": "100",
             "MERGESHIFT_HOME": str(home / "home")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return literal_eval(done.stdout)


def test_the_help_of_a_command_waits_for_nothing(tmp_path):
    lines = [[command, "--help"] for command in COMMANDS]
    found = after_each(lines, HEAVY + DATA, tmp_path)
    assert dict(zip(COMMANDS, found, strict=True)) == dict.fromkeys(COMMANDS, (0, True, []))


def test_stored_results_are_shown_without_torch(smoke, tmp_path):
    figure = ["-o", str(tmp_path / "figure.png")]
    lines = [
        ["table"], ["table", "--by", "task", "--format", "latex"],
        ["table", "--paired", "ties", "average"],
        ["plot", "severity", *figure], ["plot", "heatmap", *figure],
    ]  # fmt: skip
    lines = [[*words, "--out", str(smoke)] for words in lines]
    found = after_each(lines, HEAVY, tmp_path)
    assert [(code, held) for code, _, held in found] == [(0, [])] * len(lines)
    assert (tmp_path / "figure.png").exists()


def test_a_listing_of_methods_is_remembered(tmp_path):
    assert "torch" in imported(["-m", "bench", "list", "methods"], {}, tmp_path)
    assert imported(["-m", "bench", "list", "methods"], {}, tmp_path) == set()


@pytest.mark.parametrize(("line", "wanted"), [
    ("mergeshift sw", "sweep"),
    ("mergeshift sweep --methods ti", "ties"),
    ("mergeshift sweep --methods ties ave", "average"),
    ("mergeshift sweep --suite pocket1", "pocket14"),
    ("mergeshift sweep bd-un", "bd-unseen"),
    ("mergeshift table --sweep mai", "main"),
    ("mergeshift table --metric bri", "brier"),
])  # fmt: skip
def test_a_shell_completes_names(line, wanted, tmp_path):
    code = "import sys; sys.argv[0] = 'mergeshift'; from bench.cli.app import main; main([])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "_TYPER_COMPLETE_ARGS": line,
             "_MERGESHIFT_COMPLETE": "complete_zsh"},
    )  # fmt: skip
    assert wanted in done.stdout, done.stderr


def test_every_command_is_there_and_its_first_line_says_something():
    for name, command in COMMANDS.items():
        assert load(name).name == name
        assert command.help.endswith(".")


def test_texts_of_options_are_those_of_the_registries():
    assert METRIC_NAMES.split(" | ") == [name for name in METRICS if ":" not in name]
    assert PRESET_NAMES.split(" | ") == list(PRESETS)
    assert PROJECT == runs.PROJECT


@pytest.mark.parametrize(
    ("former", "now"),
    [
        (["time", "--help"], "Time a fast way"),
        (["speed", "--help"], "Time a fast way"),
    ],
)
def test_former_words_are_understood_but_not_shown(command, former, now):
    assert now in command(*former).out
    assert f" {former[0]} " not in command("--help").out
