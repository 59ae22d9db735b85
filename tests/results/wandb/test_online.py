"""The W&B mirror online: the real client uploads to a small service on the loopback interface."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from results.tables.comparison import compare
from results.tables.leaderboard import board
from results.wandb.login import mode
from results.wandb.runs import WandbUploader
from tests.helpers.result_frames import make_rows
from tests.helpers.wandb_file import log_out, one
from tests.helpers.wandb_server import ENTITY, Service, served

SHIFTS = [("clean", 0), ("contrast", 1), ("contrast", 3), ("pixelate", 1), ("pixelate", 3)]
ID = "main-pocket8-ties-0"


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Service]:
    log_out(monkeypatch, tmp_path)
    yield from served(monkeypatch)


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return make_rows(["ties", "average", "individual"], ["mnist", "letters"], SHIFTS, n=40)


def test_a_run_is_uploaded_whole(tmp_path, service: Service, rows: pd.DataFrame) -> None:
    mirror = WandbUploader(tmp_path, "main", mode("auto"))
    facts = {"method": "ties", "merge_s": 1.5, "nested": {"choice": {"scale": 0.3}}}
    curves = {"loss": [3.0, 2.0], "search_best": [0.4, 0.7]}
    mirror.log_run(facts, one(rows, "ties"), curves)
    assert mirror.mode == "online"
    assert mirror.advice() == "W&B: 1 runs in project mergeshift, group main"
    assert mirror.address == f"{service.url}/{ENTITY}/mergeshift/runs/{ID}"
    run = service.run(ID)
    assert (run.about["groupName"], run.about["jobType"]) == ("main", "run")
    assert run.about["tags"] == ["pocket", "pocket8", "ties"]
    assert run.exit_code == 0
    assert {name: run.config[name] for name in facts} == facts
    assert (run.config["line"], run.config["sweep"]) == ("TIES-Merging", "main")

    mine = one(rows, "ties")
    expected = compare(mine).cells["ties", "pixelate@3"]
    assert run.summary["acc/pixelate@3"] == pytest.approx(expected.value)
    assert run.summary["acc/pixelate@3/drop"] == pytest.approx(expected.drop)
    assert run.summary["cost/merge_s"] == 1.5
    assert run.summary["adapt/search_best"] == {"max": 0.7}
    assert not [name for name in run.summary if name.startswith("by_severity")]  # said already
    stored = mine[["task", "corruption", "severity", "metric", "value", "n"]]
    pd.testing.assert_frame_equal(
        run.table("cells"), stored.reset_index(drop=True), check_dtype=False
    )

    losses = [line["adapt/loss"] for line in run.history if "adapt/loss" in line]
    assert losses == [3.0, 2.0]
    accuracy = mine[mine["metric"] == "acc"].groupby("severity")["value"].mean()
    name = "by_severity/acc/mean"  # as many tasks under each corruption: the mean of all is theirs
    logged = {line["severity"]: line[name] for line in run.history if name in line}
    assert logged == {s: pytest.approx(accuracy[s]) for s in (0, 1, 3)}
    assert service.unknown == []


def test_curves_and_their_axes_are_defined(tmp_path, service: Service, rows: pd.DataFrame) -> None:
    WandbUploader(tmp_path, "main", "online").log_run({}, one(rows, "ties"))
    found = service.run(ID).config["_wandb"]["m"]
    names = [metric.get("1") or metric["2"] for metric in found]  # numbers of protobuf's fields
    assert set(names) >= {"adapt/step", "adapt/*", "severity", "by_severity/*"}
    axes = [names[metric["5"] - 1] for metric in found if metric.get("2") == "by_severity/*"]
    assert axes == ["severity"]


def test_where_corruptions_differ_there_is_no_mean(
    tmp_path, service: Service, rows: pd.DataFrame
) -> None:
    part = rows[(rows["corruption"] != "pixelate") | (rows["severity"] == 1)]
    WandbUploader(tmp_path, "main", "online").log_run({}, one(part, "ties"))
    names = {name for line in service.run(ID).history for name in line}
    assert "by_severity/acc/contrast" in names
    assert "by_severity/acc/mean" not in names


def test_a_run_that_is_there_is_written_over(
    tmp_path, service: Service, rows: pd.DataFrame
) -> None:
    mirror = WandbUploader(tmp_path, "main", "online")
    for value in (3.0, 4.0):
        mirror.log_run({"value": value}, one(rows, "ties"), {"loss": [value]})
    run = service.run(ID)
    assert [line["adapt/loss"] for line in run.history if "adapt/loss" in line] == [4.0]
    assert run.config["value"] == 4.0


def test_an_offline_run_is_uploaded_by_the_command_that_is_told(
    tmp_path, service: Service, rows: pd.DataFrame
) -> None:
    mirror = WandbUploader(tmp_path, "main", "offline", "elsewhere")
    mirror.log_run({"value": 3}, one(rows, "ties"), {"loss": [3.0, 2.0]})
    assert not service.runs
    told = mirror.advice().partition("; upload: ")[2]
    words = ["-m", "wandb", *told.removeprefix("wandb ").split()[:1]]
    folders = sorted(map(str, tmp_path.glob("wandb/offline-run-*")))
    done = subprocess.run(
        [sys.executable, *words, *folders],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    run = service.run(ID, "elsewhere")
    assert run.config["value"] == 3
    assert run.about["groupName"] == "main"
    assert [line["adapt/loss"] for line in run.history if "adapt/loss" in line] == [3.0, 2.0]
    expected = compare(one(rows, "ties")).cells["ties", "clean"].value
    assert run.summary["acc/clean"] == pytest.approx(expected)


def test_the_board_has_a_line_per_method(tmp_path, service: Service, rows: pd.DataFrame) -> None:
    costs = {"pocket8-ties-0": {"merge_s": 1.5, "adapt_s": 0.0, "parameters": 7},
             "pocket8-average-0": {"merge_s": 0.5, "adapt_s": 2.0, "parameters": 9}}  # fmt: skip
    table = compare(rows)
    WandbUploader(tmp_path, "main", "online").log_board(board(table, rows, costs), table)
    run = service.run("main-leaderboard")
    assert run.about["jobType"] == "leaderboard"
    shown = run.table("leaderboard").set_index("method")
    assert list(shown.index) == [entry.title for entry in table.entries]
    cell, line = table.cells["ties", "contrast@3"], shown.loc["TIES-Merging"]
    assert line["contrast@3"] == pytest.approx(100 * cell.value)
    assert line["contrast@3 low"] == pytest.approx(100 * cell.low)
    assert line["contrast@3 high"] == pytest.approx(100 * cell.high)
    assert line["contrast@3 drop"] == pytest.approx(100 * cell.drop)
    assert line["Retention"] == pytest.approx(100 * table.summary["retention"]["ties"])
    assert (line["merge s"], line["parameters"], line["runs"]) == (1.5, 7, 1)
    assert shown["adapt s"].tolist()[:2] == [2.0, 0.0]  # the average stands before TIES
    assert pd.isna(shown.loc["Individual", "merge s"])  # not known
    best = max(table.cells[key, "clean"].value for key in ("ties", "average"))
    assert run.summary["best/acc/clean"] == pytest.approx(best)  # individual is a reference
