"""Runs as TensorBoard and CSV files have them, and everything where there is no wandb."""

import csv
import sys

import pytest

from results.store import Store
from results.wandb import login
from tests.helpers.toy_sweep import stamps

CHOICE = ("sweep", "smoke", "--methods", "average", "ties", "--shifts", "clean", "--limit", 12,
          "--jobs", 1)  # fmt: skip


@pytest.fixture
def no_wandb(monkeypatch):
    """A machine where nobody installed it."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "wandb"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "wandb", None)


def test_runs_are_logged_as_csv_and_for_tensorboard_without_wandb(no_wandb, command, tmp_path):
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import RecordWriter  # noqa: F401  (what wrote it is installed)

    loggers = ("--logger", "csv", "tensorboard", "--out", tmp_path)
    done = command(*CHOICE, *loggers)
    assert done.code == 0, done.err
    assert "W&B" not in done.out
    rows = Store(tmp_path).read()
    (sweep,) = (tmp_path / "csv").iterdir()
    assert {path.name for path in sweep.iterdir()} == set(rows["run_id"])
    for run, part in rows.groupby("run_id"):
        with (sweep / run / "metrics.csv").open() as file:
            lines = list(csv.DictReader(file))
        accuracy = part.loc[part["metric"] == "acc", "value"].mean()
        (told,) = [line["acc/clean"] for line in lines if line.get("acc/clean")]
        assert float(told) == pytest.approx(accuracy, abs=1e-6)
        assert part["method"].iloc[0] in (sweep / run / "hparams.yaml").read_text()
        (events,) = (tmp_path / "tensorboard" / sweep.name / run).glob("events.out.*")
        assert b"acc/clean" in events.read_bytes()
    scores = [line["adapt/tune_score"] for line in lines if line.get("adapt/tune_score")]
    assert len(scores) == 1 or len(scores) > 4  # of ties, which tried its grid
    before = stamps(tmp_path, "cells/**/*.parquet")
    assert command(*CHOICE, *loggers).code == 0  # written anew, and nothing is measured again
    assert stamps(tmp_path, "cells/**/*.parquet") == before
    assert len(list(sweep.iterdir())) == 2
    assert Event


def test_all_else_runs_without_wandb_and_what_needs_it_says_so(no_wandb, command, smoke, tmp_path):
    assert login.mode("auto") == login.mode("off") == "off"
    for words in (("table", "--out", smoke), ("plot", "heatmap", "--out", smoke, "-o",
                  tmp_path / "h.png"), ("report", "--out", smoke, "-o", tmp_path / "r.html"),
                  ("list", "methods")):  # fmt: skip
        assert command(*words).code == 0
    for words in ((*CHOICE, "--wandb", "offline"), ("wandb-sweep", "smoke"),
                  ("leaderboard", "--wandb", "offline", "--out", smoke)):  # fmt: skip
        assert "W&B needs the package wandb: pip install wandb" in command(*words).error


def test_a_package_that_cannot_be_imported_stops_no_sweep(command, tmp_path, monkeypatch):
    def fail() -> str:
        return "ImportError: of protobuf"

    monkeypatch.setattr("bench.reporting.wandb.broken", fail)
    done = command(*CHOICE, "--out", tmp_path)
    assert done.code == 0, done.err
    assert "W&B: nothing logged, as wandb cannot be imported (ImportError: of protobuf)" in done.out


def test_another_logger_is_refused_before_the_work(command, tmp_path, monkeypatch):
    error = command(*CHOICE, "--logger", "mlflow", "--out", tmp_path).error
    assert error == "--logger is tensorboard or csv; got 'mlflow'"
    monkeypatch.setattr("results.loggers.find_spec", lambda name: None)
    error = command(*CHOICE, "--logger", "tensorboard", "--out", tmp_path).error
    assert "pip install tensorboardX, or take --logger csv" in error
    assert not list(tmp_path.iterdir())
