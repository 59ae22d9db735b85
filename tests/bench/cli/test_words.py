"""Numbers, names and lists as people type them: ranges, commas, blanks; what is refused."""

import io
import json
from pathlib import Path

import pytest
import typer

from bench.cli.app import main
from bench.cli.options import numbers, setting_words, shift_words, whole, words
from bench.cli.sweep import chosen_sweep
from mergeshift import UserError

QUICK = ("--suite", "toy", "--methods", "adamerging_task", "--shifts", "clean", "--jobs", 1,
         "--wandb", "off")  # fmt: skip


@pytest.mark.parametrize(("texts", "meant"), [
    (["0-2"], (0, 1, 2)),
    (["0,1,2"], (0, 1, 2)),
    (["0", "1", "2"], (0, 1, 2)),
    (["0,", "1"], (0, 1)),
    (["1-3"], (1, 2, 3)),
    (["3-3,5", "0-1"], (3, 5, 0, 1)),
    (["2,2,1-2"], (2, 1)),
    (["0 1-2, 5"], (0, 1, 2, 5)),
])  # fmt: skip
def test_numbers_are_lists_and_ranges(texts, meant):
    assert numbers(texts, "seeds") == meant
    assert chosen_sweep("smoke", seeds=texts).seeds == meant


@pytest.mark.parametrize("text", [
    "-1", "2-0", "0..2", "0:2", "1.5", "1e3", "1_000", "+3", "a", "0--2", "-2-1", "\u0661", ",",
    "0-1000000000", "9" * 40, "0 - 2", "0\u20132",
])  # fmt: skip
def test_what_is_no_such_number_is_refused_and_never_guessed(text):
    with pytest.raises(UserError, match="seeds"):
        numbers([text], "seeds")


@pytest.mark.parametrize("text", ["0-2", "0-1", "1_0", "2.0", "1e2", "+1", "", "x", "9" * 40, "-1"])
@pytest.mark.parametrize("option", ["--limit", "--jobs"])
def test_one_number_is_no_range(option, text, command):
    said = command("sweep", "smoke", option, text).error
    assert said.startswith(f"{option} is a whole number, ")
    assert repr(text) in said


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "1_0", "20GB"])
def test_one_share_of_a_disk_is_a_number(text, command):
    assert (
        "--image-budget is a number from 0 on" in command("sweep", f"--image-budget={text}").error
    )


def test_a_default_may_stand_outside_the_bounds():
    assert whole("--limit")(-1) == -1


@pytest.mark.parametrize(("values", "meant"), [
    (["clean,L1"], ["clean", "L1"]),
    (["clean", "L1"], ["clean", "L1"]),
    (["clean, L1,", "contrast@5"], ["clean", "L1", "contrast@5"]),
    (["gaussian_noise@1,3,5"], ["gaussian_noise@1,3,5"]),
    (["gaussian_noise@1-3,contrast@5,clean"], ["gaussian_noise@1,2,3", "contrast@5", "clean"]),
    (["contrast@1", "3", "5", "clean"], ["contrast@1,3,5", "clean"]),
    (["clean L1", "contrast@1, 3"], ["clean", "L1", "contrast@1,3"]),
])  # fmt: skip
def test_shifts_are_joined_by_commas_or_blanks(values, meant):
    assert shift_words(values) == meant
    assert chosen_sweep("smoke", shifts=values).shifts == tuple(meant)


def test_other_lists_too():
    assert words(["ties[keep=0.1,merge=sum], average", "tsv"]) == [
        "ties[keep=0.1,merge=sum]", "average", "tsv"
    ]  # fmt: skip
    assert setting_words(["ties.keep=0.1, ties.merge=sum"]) == ["ties.keep=0.1", "ties.merge=sum"]


def test_a_terminal_without_these_letters_is_no_end(smoke, monkeypatch):
    """A latin-1 or ASCII terminal, or a file: what it cannot show is written as an escape."""
    stream = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr("sys.stdout", stream)
    assert main(["table", "--format", "md", "--out", str(smoke)]) == 0
    stream.flush()
    assert rb"\xb1" in stream.buffer.getvalue()


def test_a_range_of_seeds_is_run(command, tmp_path):
    said = command("sweep", *QUICK, "--seeds", "0-2", "--dry-run", "--out", tmp_path / "out").out
    assert "3 runs x 1 shifts = 3 cells" in " ".join(said.split())
    assert "seed 0 or" not in said
    for seeds in ("--seeds=-2", "--seeds=2-0"):
        error = command("sweep", *QUICK, seeds, "--dry-run", "--out", tmp_path / "out").error
        assert error.startswith("seeds are whole numbers from 0")


def test_seeds_below_0_are_refused_in_a_file(command, tmp_path):
    (tmp_path / "mine.toml").write_text('suite = "toy"\nseeds = [-2]\n')
    assert "seeds of a sweep are whole numbers from 0; got -2" in command(
        "sweep", tmp_path / "mine.toml", "--dry-run"
    ).error  # fmt: skip


# -- one style of error --------------------------------------------------------------------------


@pytest.mark.parametrize(("line", "said"), [
    ("sweep --no-such", "no such option: --no-such"),
    ("swep", "no such command 'swep'"),
    ("table --format xml", "'--format'"),
    ("table --by", "--by"),
    ("evaluate", "missing option '--weights'"),
    ("results add", "missing argument"),
    ("zoo lst", "no such command 'lst'"),
    ("list", "missing argument"),
    ("sweep a b", "unexpected extra argument"),
])  # fmt: skip
def test_a_mistake_in_words_is_one_line_that_names_the_help(line, said, command):
    error = command(*line.split()).error
    assert said.lower() in error.lower()
    assert "--help`" in error


def test_no_words_show_the_help(command):
    for line in ((), ("results",), ("zoo",)):
        done = command(*line)
        assert done.code == 0
        assert "Usage" in done.out
        assert done.err == ""


def test_an_interrupted_question_and_a_full_path_are_one_line(monkeypatch, command, tmp_path):
    def abort(*_: object, **__: object) -> None:
        raise typer.Abort

    monkeypatch.setattr("bench.cli.app.made", lambda _: abort)
    assert command("list", "shifts").error == "stopped"


def test_advice_says_of_which_command_an_option_is(command, smoke, tmp_path):
    """``table`` has no --force, ``report`` neither."""
    import shutil

    out = Path(shutil.copytree(smoke, tmp_path / "out"))
    cell = next(iter(sorted(out.glob("cells/*/*.parquet"))))
    cell.write_bytes(cell.read_bytes()[:100])
    for words_ in (("table",), ("report", "-o", tmp_path / "page.html"), ("plot", "heatmap")):
        error = command(*words_, "--out", out).error
        assert "`--force` measures it again; --force is an option of `sweep`" in error
    error = command("sweep", "smoke", "--placement", "native").error
    assert error.endswith("use --corrupt-at input")


# -- names of lines from elsewhere ---------------------------------------------------------------


@pytest.fixture
def out(smoke, tmp_path) -> Path:
    import shutil

    return Path(shutil.copytree(smoke, tmp_path / "out"))


@pytest.fixture
def frame(command, out, tmp_path):
    import pandas as pd

    path = tmp_path / "template.parquet"
    assert command("results", "template", "-o", path, "--out", out).code == 0
    return pd.read_parquet(path).assign(prediction=0)


@pytest.mark.parametrize("name", [
    "average", "Average", "AVERAGE", " Average ", "Task Arithmetic", "task-arithmetic",
    "ties [keep=0.1]", "\uff21verage", "TIES!",
])  # fmt: skip
def test_the_name_of_a_method_is_refused_however_it_is_written(name, add, frame):
    error = add(frame.assign(method=name)).error
    assert "a method here" in error or "reads like the method" in error


def test_lines_from_elsewhere_are_marked_in_every_table(command, add, frame, out, tmp_path):
    assert add(frame.assign(method="Averages")).code == 0
    for words_ in ((), ("--by", "task"), ("--by", "severity"), ("--metric", "acc"),
                   ("--format", "md"), ("--format", "csv"), ("--format", "latex")):  # fmt: skip
        assert "Averages (external)" in command("table", *words_, "--out", out).out, words_
    path = tmp_path / "page.html"
    assert command("report", "-o", path, "--out", out).code == 0
    assert "Averages (external)" in path.read_text()


def test_a_used_name_wants_force(command, add, frame, out):
    assert add(frame.assign(method="mine")).code == 0
    assert add(frame.assign(method="mine")).code == 0  # the same again
    before = command("table", "--format", "csv", "--out", out).out
    other = frame.assign(method="mine", prediction=1)
    error = add(other).error
    assert error.startswith("'mine' stands in the tables of sweep smoke already")
    assert command("table", "--format", "csv", "--out", out).out == before
    assert add(other, "--force").code == 0
    assert command("table", "--format", "csv", "--out", out).out != before


def test_weights_under_a_used_name_want_force_too(command, add, frame, out, tmp_path):
    from safetensors.torch import save_file

    from bench.zoo.encoders import ENCODERS

    assert add(frame.assign(method="mine")).code == 0
    save_file(dict(ENCODERS["toy-vit"].base()), tmp_path / "w.safetensors")
    words_ = ("evaluate", "--weights", tmp_path / "w.safetensors", "--sweep", "smoke", "--jobs", 1,
              "--out", out, "--name")  # fmt: skip
    assert "reads like the method average" in command(*words_, "Average").error
    assert "'mine' stands in the tables" in command(*words_, "mine").error
    assert command(*words_, "other").code == 0
    assert command(*words_, "other").code == 0
    assert command(*words_, "mine", "--force").code == 0
    assert json.loads(command("list", "shifts", "--json").out)
    assert main(["table", "--out", str(out)]) == 0
