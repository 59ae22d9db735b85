"""The W&B mirror, through the real client: offline runs are read back from their files."""

import os
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from mergeshift import UserError
from results.tables.comparison import compare
from results.wandb.login import mode
from results.wandb.runs import WandbUploader
from tests.helpers.result_frames import make_rows
from tests.helpers.routed_frames import routed_rows
from tests.helpers.wandb_file import Run, log_out, one, runs


@pytest.fixture(autouse=True)
def nobody_is_logged_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    log_out(monkeypatch, tmp_path)


@pytest.fixture(scope="module", autouse=True)
def service() -> Iterator[None]:
    """W&B's own process ends with this file's tests."""
    yield
    import wandb

    wandb.teardown()


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    shifts = [("clean", 0), ("contrast", 1), ("contrast", 3)]
    return make_rows(["ties", "average", "individual"], ["mnist", "letters"], shifts, n=40)


def test_a_run_is_logged_whole(tmp_path, rows: pd.DataFrame) -> None:
    mirror = WandbUploader(tmp_path, "main", mode("auto"))
    facts = {"method": "ties", "tuning": {"choice": {"scale": 0.3}}, "merge_s": 1.5, "params": 123}
    mirror.log_run(facts, one(rows, "ties"), {"loss": [3.0, 2.0, 1.0], "lr": [0.1]})
    (run,) = runs(tmp_path).values()
    assert run.run.project == "mergeshift"
    assert run.run.run_group == "main"
    assert run.run.run_id == "main-pocket8-ties-0"
    assert run.run.display_name == "ties seed 0 experts 0"
    assert list(run.run.tags) == ["pocket", "pocket8", "ties"]
    assert run.exit_code == 0
    assert {name: run.config[name] for name in facts} == facts
    assert run.summary["cost/merge_s"] == 1.5
    assert run.summary["cost/params"] == 123

    expected = compare(one(rows, "ties")).cells
    assert run.summary["acc/clean"] == pytest.approx(expected["ties", "clean"].value)
    assert run.summary["acc/contrast@3/drop"] == pytest.approx(expected["ties", "contrast@3"].drop)
    assert run.summary["acc/clean/low"] == pytest.approx(expected["ties", "clean"].low)
    for row in one(rows, "ties").itertuples():
        shift = f"{row.corruption}@{row.severity}" if row.severity else "clean"
        assert run.summary[f"cell/{row.metric}/{shift}/{row.task}"] == pytest.approx(row.value)


def test_a_variant_is_named_as_one(tmp_path, rows: pd.DataFrame) -> None:
    mirror = WandbUploader(tmp_path, "main", "offline")
    mirror.log_run({}, one(rows, "ties").assign(variant="keep=0.1"))
    (run,) = runs(tmp_path).values()
    assert run.run.display_name == "ties [keep=0.1] seed 0 experts 0"
    assert run.summary["acc/clean"] == compare(one(rows, "ties")).cells["ties", "clean"].value


def test_curves_have_their_own_axes(tmp_path, rows: pd.DataFrame) -> None:
    mirror = WandbUploader(tmp_path, "main", "offline")
    mirror.log_run({}, one(rows, "ties"), {"loss": [3.0, 2.0], "lr": [0.1]})
    (run,) = runs(tmp_path).values()
    steps = {metric.glob_name or metric.name: metric.step_metric for metric in run.metrics}
    assert steps["adapt/*"] == "adapt/step"
    assert steps["by_severity/*"] == "severity"
    losses = [(h["adapt/step"], h["adapt/loss"]) for h in run.history if "adapt/loss" in h]
    assert losses == [(0, 3.0), (1, 2.0)]
    means = one(rows, "ties").groupby(["metric", "severity", "corruption"])["value"].mean()
    name = "by_severity/acc/contrast"
    logged = {h["severity"]: h[name] for h in run.history if name in h}
    assert logged == {s: pytest.approx(means["acc", s, "contrast"]) for s in (1, 3)}


def test_coefficients_are_a_table_and_a_picture(tmp_path, rows: pd.DataFrame) -> None:
    coefficients = {
        "": {},
        "clean": {"proj": {"mnist": 0.3, "letters": 0.1}},
        "contrast@1": {"proj": {"mnist": 0.2, "letters": 0.4}},
    }
    curves = {"loss": [3.0], "contrast@1/loss": [2.0, 1.0]}
    WandbUploader(tmp_path, "main", "offline").log_run({}, one(rows, "ties"), curves, coefficients)
    (run,) = runs(tmp_path).values()
    found = run.table("coefficients").set_index(["shift", "layer"])
    assert found.to_dict("index") == {
        (shift, "proj"): row["proj"] for shift, row in coefficients.items() if row
    }
    assert picture_of(run, "coefficients_map").size[0] > 300
    losses = [h["adapt/contrast@1/loss"] for h in run.history if "adapt/contrast@1/loss" in h]
    assert losses == [2.0, 1.0]
    assert not list(run.folder.glob("files/media/*/routing*"))


def test_routing_weights_are_a_table_and_a_picture(tmp_path) -> None:
    routed = routed_rows(["twin_merging"], ["mnist", "letters"], [("clean", 0), ("contrast", 1)])
    WandbUploader(tmp_path, "main", "offline").log_run({}, routed)
    (run,) = runs(tmp_path).values()
    table = run.table("routing").set_index(["shift", "task", "route"])["weight"]
    for (shift, task, route), weight in table.items():
        where = (routed["task"] == task) & (routed["metric"] == f"route:{route}")
        where &= routed["severity"] == (0 if shift == "clean" else 1)
        assert routed[where]["value"].tolist() == [pytest.approx(weight)]
    assert len(table) == 2 * 2 * 2
    assert picture_of(run, "routing_map").size[0] > 300
    assert run.summary["oracle_acc/clean"] > 0
    assert run.summary["cell/route_acc/clean/mnist"] > 0
    assert not [name for name in run.summary if "route:" in name]  # tasks x tasks x shifts


def picture_of(run: Run, name: str) -> Image.Image:
    (path,) = run.folder.glob(f"files/media/images/{name}_*.png")
    return Image.open(path)


def test_the_table_of_cells_is_the_rows(tmp_path, rows: pd.DataFrame) -> None:
    WandbUploader(tmp_path, "main", "offline").log_run({}, one(rows, "average"))
    (run,) = runs(tmp_path).values()
    expected = one(rows, "average")[["task", "corruption", "severity", "metric", "value", "n"]]
    pd.testing.assert_frame_equal(
        run.table("cells"), expected.reset_index(drop=True), check_dtype=False
    )


def test_a_sweep_ends_in_a_comparison(tmp_path, rows: pd.DataFrame) -> None:
    mirror = WandbUploader(tmp_path, "main sweep/1", "offline")
    for method in ("ties", "individual"):
        mirror.log_run({}, one(rows, method))
    table = compare(rows)
    mirror.log_comparison(table)
    found = runs(tmp_path)
    assert {run.run.run_group for run in found.values()} == {"main sweep/1"}
    run = found["main sweep/1 comparison"]
    assert run.run.run_id == "main-sweep-1-comparison-acc-shift"
    assert run.run.job_type == "comparison"
    assert run.config["title"] == table.title
    assert run.config["world"] == "pocket"
    wide = run.table("comparison").set_index("method")
    assert list(wide.index) == [entry.title for entry in table.entries]
    cell = table.cells["ties", "contrast@3"]
    assert wide.loc["TIES-Merging", "contrast@3"] == pytest.approx(100 * cell.value)
    assert wide.loc["TIES-Merging", "contrast@3 +-"] == pytest.approx(100 * cell.margin)
    assert wide.loc["TIES-Merging", "Norm. acc."] == pytest.approx(
        100 * table.summary["normalised"]["ties"]
    )
    assert len(run.table("comparison_numbers")) == len(table.cells)
    assert run.summary["acc/ties/clean"] == pytest.approx(table.cells["ties", "clean"].value)
    command = f"wandb sync {tmp_path}/wandb/offline-run-*"
    assert mirror.advice() == f"W&B: 3 runs logged offline; upload: {command}"


def settings_in_environment() -> dict[str, str]:
    """W&B's variables but the one by which it finds its own process."""
    return {k: v for k, v in os.environ.items() if k.startswith("WANDB_") and k != "WANDB_SERVICE"}


def test_nothing_is_written_elsewhere_and_nothing_printed(
    tmp_path, rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    before = settings_in_environment()
    WandbUploader(tmp_path / "out", "main", "offline").log_run({}, one(rows, "ties"))
    assert settings_in_environment() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "work"]  # no home, no netrc
    assert not list(work.iterdir())
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["wandb"]
    printed = capfd.readouterr()
    assert printed.out + printed.err == ""


def test_off_does_nothing(tmp_path, rows: pd.DataFrame) -> None:
    mirror = WandbUploader(tmp_path / "out", "main", "off")
    mirror.log_run({}, one(rows, "ties"))
    mirror.log_comparison(compare(rows))
    assert not (tmp_path / "out").exists()
    assert mirror.advice() == "W&B: nothing logged"


def test_a_folder_that_cannot_be_made_is_a_user_error(tmp_path, rows: pd.DataFrame) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        WandbUploader(tmp_path / "file" / "out", "main", "offline").log_run({}, one(rows, "ties"))
