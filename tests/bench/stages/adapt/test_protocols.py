"""Learning from the adapt split, from test images or under each shift; and what goes wrong."""

import io
import json
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console

from bench.plan import inspect, resolve
from bench.stages import artifacts
from bench.stages.adapt import learn
from bench.stages.build import BoundRun, bind
from bench.sweep import execute
from bench.zoo.encoders import ENCODERS
from corruptions.base import CLEAN, Shift
from mergeshift import DamagedFileError, UserError
from methods.common.weights import save_checkpoint
from results.store import Store
from tasks import load, suite
from tests.helpers.learning_methods import SWEEP, by_hand, coefficient, register, run_of
from tests.helpers.toy_sweep import leftovers, measured, sweep_into

CONTRAST = Shift("contrast", 5)


@pytest.fixture(autouse=True)
def learners(monkeypatch, smoke) -> None:
    """There are methods that learn, and experts for them."""
    register(monkeypatch)


# -- the protocols -------------------------------------------------------------------------------


def test_under_each_shift_it_learns_once_per_shift(tmp_path, trained):
    sweep = replace(SWEEP, adapt_on="shifted")
    sweep_into(tmp_path, sweep)
    assert trained == [("learner", "clean"), ("learner", "contrast@5")]
    store, run = Store(tmp_path), run_of(sweep)
    names = [file.name for file in artifacts.files(store, run.id)]
    assert names == ["learned-clean.safetensors", f"learned-{CONTRAST.key}.safetensors"]
    clean, contrast = (coefficient(tmp_path, sweep, shift) for shift in (CLEAN, CONTRAST))
    assert clean != contrast
    assert artifacts.metadata(artifacts.path(store, run.id, CONTRAST))["shift"] == CONTRAST.key
    sweep_into(tmp_path, replace(sweep, shifts=("contrast@1", *sweep.shifts)))
    assert trained[2:] == [("learner", "contrast@1")]

    # clean test images are those of the transductive protocol: alike in all but the name
    test = replace(SWEEP, adapt_on="test")
    sweep_into(tmp_path / "test", test)
    assert coefficient(tmp_path / "test", test) == clean
    sweep_into(tmp_path / "adapt", SWEEP)
    assert coefficient(tmp_path / "adapt") != clean
    rows = {
        on: measured(tmp_path / on if on != "shifted" else tmp_path)["value"].xs(
            "nll", level="metric"
        )
        for on in ("adapt", "test", "shifted")
    }
    same = rows["test"].xs("clean", level="corruption")
    pd.testing.assert_series_equal(same, rows["shifted"].xs("clean", level="corruption"))
    assert not rows["adapt"].equals(rows["test"])


def test_the_protocol_concerns_the_methods_that_look_at_images_and_no_other():
    sweep = replace(SWEEP, methods=("learner", "on_test", "average", "ties"))
    before = {run.method: run for run in resolve(sweep).runs}
    after = {run.method: run for run in resolve(replace(sweep, adapt_on="test")).runs}
    assert [run.adapt_on for run in after.values()] == ["test", "test", "", ""]
    changed = {name for name in before if before[name].id != after[name].id}
    assert changed == {"learner", "on_test"}


def test_a_method_without_a_trainer_learns_too(tmp_path):
    sweep = replace(SWEEP, methods=("on_test",))
    plan = inspect(resolve(sweep), Store(tmp_path))
    assert (len(plan.to_learn), plan.steps) == (1, 1)
    sweep_into(tmp_path, sweep)
    images = [by_hand(load(task, "test").images[:24]) for task in suite("toy")]
    expected = np.concatenate(images).std(ddof=1)
    assert coefficient(tmp_path, sweep) == pytest.approx(expected, rel=1e-5)
    assert artifacts.metadata(artifacts.path(Store(tmp_path), run_of(sweep).id))["curves"] == {}


def test_tuning_learns_for_every_candidate_and_never_from_test_images(tmp_path, monkeypatch):
    seen: dict[str, set[str]] = defaultdict(set)
    original = BoundRun.adaptation_data

    def watched(bound, shift, schedule):
        data = original(bound, shift, schedule)
        seen["learned" if list(tmp_path.glob("cells/*/run.json")) else "tuned"].add(data.adapt_on)
        return data

    monkeypatch.setattr(BoundRun, "adaptation_data", watched)
    sweep = replace(SWEEP, methods=("tuned",), adapt_on="test", shifts=("clean",))
    sweep_into(tmp_path, sweep)
    assert seen == {"tuned": {"adapt"}, "learned": {"test"}}
    run = run_of(sweep)
    tuning = Store(tmp_path).run(run.id)["tuning"]
    assert [json.loads(trial["config"])["steps"] for trial in tuning["trials"]] == [1, 4]
    chosen = json.loads(tuning["config"])["steps"]
    assert artifacts.metadata(artifacts.path(Store(tmp_path), run.id))["steps"] == chosen
    assert set(Store(tmp_path).read()["config"]) == {tuning["config"]}


# -- what goes wrong -----------------------------------------------------------------------------


def test_a_loss_that_diverges_is_one_line_and_leaves_nothing(tmp_path):
    sweep = replace(SWEEP, methods=("diverging",))
    with pytest.raises(UserError, match=r"learned NaN or infinity in coef.*learning rate") as said:
        sweep_into(tmp_path, sweep)
    assert "\n" not in str(said.value)
    assert artifacts.files(Store(tmp_path), run_of(sweep).id) == []


@pytest.mark.parametrize("how", ["cut", "empty", "bit", "bare"])
def test_a_damaged_file_is_named_and_made_anew_with_force(how, tmp_path, command):
    sweep_into(tmp_path, SWEEP)
    before, scale = measured(tmp_path), coefficient(tmp_path)
    file = artifacts.path(Store(tmp_path), run_of(SWEEP).id)
    data = file.read_bytes()
    if how == "bare":  # a checkpoint, but not one of these
        from safetensors.torch import save_file

        save_file({"coef": torch.tensor(0.3)}, file)
    else:
        file.write_bytes(
            {"cut": data[:-2], "empty": b"", "bit": data[:-1] + bytes([data[-1] ^ 1])}[how]
        )
    with pytest.raises(DamagedFileError, match=f"{file} .*--force"):
        sweep_into(tmp_path, SWEEP)
    with pytest.raises(DamagedFileError, match=f"{file} .*--force"):
        artifacts.load(file)
    execute(resolve(SWEEP), tmp_path, 1, force=True, dry_run=True, console=Console(quiet=True))
    assert file.exists()  # a dry run only says what would be done
    sweep_into(tmp_path, SWEEP, force=True)
    assert coefficient(tmp_path) == scale
    pd.testing.assert_frame_equal(measured(tmp_path), before, check_exact=True)


def test_a_full_disk_is_one_line_and_then_it_goes_on(tmp_path, fill):
    fill("*/learned.safetensors")
    with pytest.raises(UserError, match=r"cannot write .*learned\.safetensors.*free some space"):
        sweep_into(tmp_path, SWEEP)
    assert not leftovers(tmp_path)
    fill()
    sweep_into(tmp_path, SWEEP)
    assert coefficient(tmp_path) > 0


def test_what_was_never_learned_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no checkpoint at"):
        artifacts.metadata(artifacts.path(Store(tmp_path), "toy-average-0"))


def test_learning_here_gives_what_the_sweep_keeps(tmp_path):
    """`learn` is what a unit of work does, and all of what it does is in the file."""
    sweep_into(tmp_path, SWEEP)
    run = run_of(SWEEP)
    method, facts = learn(bind(run), run.config, None)
    stored = artifacts.metadata(artifacts.path(Store(tmp_path), run.id))
    assert float(method.learned.coef) == coefficient(tmp_path)
    assert facts["curves"] == stored["curves"]


def test_a_table_of_several_seeds_shows_who_has_one_too(tmp_path, command):
    """Methods without chance, and weights from elsewhere, beside methods that learn."""
    path, out, base = (tmp_path / name for name in ("mine.toml", "out", "base.safetensors"))
    path.write_text('suite = "toy"\nmethods = ["learner", "average"]\nseeds = [0, 1]\n'
                    'shifts = ["clean"]\nlimit = 24\n')  # fmt: skip
    save_checkpoint(base, ENCODERS["toy-vit"].base())
    quick = ("--jobs", 1, "--out", out)
    assert command("sweep", path, *quick, "--wandb", "off").code == 0
    assert command("evaluate", "--weights", base, "--sweep", path, *quick).code == 0
    shown = command("table", "--format", "csv", "--out", out)
    assert shown.code == 0, shown.err
    table = pd.read_csv(io.StringIO(shown.out)).set_index("method")["value"]
    rows = 100 * measured(out)["value"].xs("acc", level="metric").groupby("method").mean()
    assert set(table.index) == {"learner", "average", "base"}
    pd.testing.assert_series_equal(table.sort_index(), rows[sorted(rows.index)], check_names=False)
