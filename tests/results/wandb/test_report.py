"""``python -m bench leaderboard`` and its W&B Report, as the real client uploads them."""

import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from wandb_workspaces.reports.v2 import Report

from bench.index import method_order
from mergeshift import UserError
from results.plots.style import LINE_STYLES
from results.render.text import render
from results.store import Store
from results.tables.comparison import compare
from results.wandb.report import Place, save
from tests.helpers.result_frames import NASTY, make_rows
from tests.helpers.routed_frames import routed_rows
from tests.helpers.wandb_file import log_out, runs
from tests.helpers.wandb_server import ENTITY, Service, served

SHIFTS = [("clean", 0), ("contrast", 1), ("contrast", 3)]


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Service]:
    log_out(monkeypatch, tmp_path)
    yield from served(monkeypatch)


@pytest.fixture
def out(smoke: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(smoke, tmp_path / "out"))


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    plain = make_rows(["ties", "individual"], ["mnist", "letters"], SHIFTS, seeds=(0, 1))
    return pd.concat([plain, routed_rows(["twin_merging"], ["mnist", "letters"], SHIFTS, (0, 1))])


def place(service: Service, sweep: str = "main") -> Place:
    service.projects.add("P")
    board = f"{service.url}/{ENTITY}/P/runs/main-leaderboard"
    return Place(project="P", entity=ENTITY, sweep=sweep, board=board)


def spec_of(service: Service) -> dict[str, Any]:
    (view,) = service.views.values()
    return json.loads(view["spec"])


def grids(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Heading -> the grid of panels below it."""
    found, heading = {}, ""
    for block in spec["blocks"]:
        if block["type"] == "heading":
            heading = block["children"][0]["text"]
        elif block["type"] == "panel-grid":
            found[heading] = block["metadata"]
    return found


def panels(grid: dict[str, Any]) -> list[dict[str, Any]]:
    return grid["panelBankSectionConfig"]["panels"]


def test_a_report_has_table_curves_routing_and_links(tmp_path, service, rows) -> None:
    table = compare(rows)
    address = save(place(service), table, rows, tmp_path, with_coefficients=1)
    (view,) = service.views.values()
    assert address.startswith(f"{service.url}/{ENTITY}/P/reports/MergeShift:-main--")
    assert (view["displayName"], view["type"]) == ("MergeShift: main", "runs")
    assert view["description"] == f"{table.title}. Setting: pocket (small ViT, 32 px; not CLIP)."
    spec = spec_of(service)
    (markdown,) = [b["content"] for b in spec["blocks"] if b["type"] == "markdown-block"]
    assert markdown == render(table, "md")

    found = grids(spec)
    assert list(found) == ["Leaderboard", "Severity curves", "Routing", "Coefficients"]
    for grid, job in zip(found.values(), ("leaderboard", "run", "run", "run"), strict=True):
        (chosen,) = grid["runSets"]
        filters = {f["key"]["name"]: f["value"] for f in chosen["filters"]["filters"]}
        assert filters == {"sweep": "main", "jobType": job}
        assert chosen["project"] == {"name": "P", "entityName": ENTITY, "id": "p7"}
    assert "leaderboard" in json.dumps(panels(found["Leaderboard"]))
    curves = [panel["config"] for panel in panels(found["Severity curves"])]
    assert [curve["metrics"] for curve in curves] == [
        ["by_severity/acc/mean"], ["by_severity/acc/contrast"]]  # fmt: skip
    assert {curve["xAxis"] for curve in curves} == {"severity"}
    for heading, name in (("Routing", "routing_map"), ("Coefficients", "coefficients_map")):
        assert panels(found[heading])[0]["config"]["mediaKeys"] == [name]

    links = re.findall(rf"{service.url}/{ENTITY}/P/runs/([\w.-]+)", json.dumps(spec["blocks"][-2]))
    runs = [f"main-{run}" for run in rows["run_id"].unique()]
    assert sorted(links) == sorted(["main-leaderboard", *runs])
    assert service.unknown == []


def test_a_line_has_the_colour_that_it_has_in_figures(tmp_path, service, rows) -> None:
    save(place(service), compare(rows), rows, tmp_path)
    grid = grids(spec_of(service))["Severity curves"]
    assert grid["runSets"][0]["grouping"] == [{"section": "config", "name": "line.value"}]
    colours = {key.partition("line")[2]: value for key, value in grid["customRunColors"].items()}
    assert sorted(colours.values()) == sorted(
        LINE_STYLES[name].colour for name in ("ties", "individual", "twin_merging"))  # fmt: skip
    (ties,) = [value for key, value in colours.items() if "TIES" in key]
    assert ties == LINE_STYLES["ties"].colour


def test_what_there_is_nothing_of_is_left_out(tmp_path, service) -> None:
    rows = make_rows(["ties", "average"], ["mnist"], [("clean", 0), ("contrast", 3)])
    save(place(service), compare(rows), rows, tmp_path)
    assert list(grids(spec_of(service))) == ["Leaderboard"]


def test_a_report_is_updated_in_place(tmp_path, service, rows) -> None:
    other = Report(project="P", entity=ENTITY, title="by hand")
    here = place(service)
    other.save()
    first = save(here, compare(rows), rows, tmp_path)
    before = {key: view["spec"] for key, view in service.views.items()}
    fewer = rows[rows["method"] != "twin_merging"]
    assert save(here, compare(fewer), fewer, tmp_path) == first
    changed = [key for key, view in service.views.items() if view["spec"] != before[key]]
    assert set(service.views) == set(before)
    assert [service.views[key]["displayName"] for key in changed] == ["MergeShift: main"]
    assert save(place(service, "routed"), compare(rows), rows, tmp_path) != first
    assert len(service.views) == 3


def test_any_name_will_do(tmp_path, service) -> None:
    """A name is neither markdown nor a filter's code; and a title is not too long for W&B."""
    rows = make_rows(["ties", "average"], ["mnist"], SHIFTS, title=NASTY, method="m")
    rows = rows[rows["config"] == rows["config"].iloc[0]]
    sweep = "it's = \"a\" & 'b'" + 40 * " \u4e2d <i>"
    save(place(service, sweep), compare(rows), rows, tmp_path)
    spec = spec_of(service)
    (view,) = service.views.values()
    assert view["displayName"] == f"MergeShift: {sweep}"[:128]
    chosen = grids(spec)["Leaderboard"]["runSets"][0]["filters"]["filters"]
    assert re.fullmatch(r"[\w.-]+", chosen[0]["value"], re.ASCII)
    links = spec["blocks"][-2]["children"]
    assert any(item["children"][0]["children"][0]["text"] == f"{NASTY}: " for item in links)


def test_the_command_uploads_and_updates(command, out, service) -> None:
    words = ("leaderboard", "--project", "P", "--out", out, "--methods", "average", "ties")
    first = command(*words)
    assert first.code == 0, first
    stored = Store(out).read()
    stored = stored[stored["method"].isin(["average", "ties"])]
    ids = [f"smoke-{run}" for run in stored["run_id"].unique()]
    assert {name for project, name in service.runs if project == "P"} == {*ids, "smoke-leaderboard"}
    table = compare(stored, order=method_order())
    shown = service.run("smoke-leaderboard", "P").table("leaderboard")
    assert shown["method"].tolist() == [entry.title for entry in table.entries]
    cells = [100 * table.cells[entry.key, "contrast@5"].value for entry in table.entries]
    assert shown["contrast@5"].tolist() == pytest.approx(cells)
    for run, name in zip(stored["run_id"].unique(), stored["title"].unique(), strict=True):
        cost = Store(out).run(run)["cost"]["merge_s"]
        assert shown.set_index("method").loc[name, "merge s"] == pytest.approx(cost)
    (report,) = re.findall(r"report: (http://127\S+)", first.out)

    second = command(*words)
    assert "0 runs and the leaderboard, online" in second.out
    assert report in second.out
    assert len(service.views) == 1
    assert service.unknown == []
    assert command(*words, "--entity", ENTITY, "--sweep", "other").error.startswith("no sweep")


def test_without_a_login_one_line_says_what_is_missing(
    command, out, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_out(monkeypatch, tmp_path)
    words = ("leaderboard", "--out", out, "--methods", "average")
    assert command(*words).error == (
        "no W&B API key; run `wandb login` or set WANDB_API_KEY, or take --wandb offline, "
        "which writes no report"
    )
    monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody listens
    assert command(*words).error.startswith("W&B cannot be reached (http://127.0.0.1:9")
    assert not list(out.glob("wandb/*-run-*"))
    monkeypatch.delenv("WANDB_API_KEY")
    done = command(*words, "--wandb", "offline", "--project", "P")
    assert done.code == 0
    assert f"upload: wandb sync {out}" in done.out.replace("\n", "")
    assert "no report" in done.out
    board = runs(out)["smoke leaderboard"]
    assert board.run.project == "P"
    assert board.table("leaderboard")["method"].tolist() == ["Average"]


def test_what_a_service_did_not_take_is_uploaded_by_the_next_call(
    command, out, service, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("leaderboard", "--out", out, "--methods", "average")
    with monkeypatch.context() as broken:
        broken.setattr(Service, "on_upsert_bucket", None)
        failed = command(*words)
    assert failed.code == 2
    assert failed.out.count("W&B cannot be reached") == 1
    assert failed.err.startswith("error: no report was written")
    assert "upload: wandb sync" in failed.err
    assert not service.views
    assert "1 runs and the leaderboard, online" in command(*words).out
    assert {run.about["jobType"] for run in service.runs.values()} == {"run", "leaderboard"}
    assert len(service.views) == 1


def test_what_is_not_installed_or_refused_is_one_line(
    command, tmp_path, out, service, rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Service, "on_upsert_view", None)
    with pytest.raises(UserError, match=r"W&B took no report: .*upsertView") as refused:
        save(place(service), compare(rows), rows, tmp_path)
    assert "\n" not in str(refused.value)
    monkeypatch.setitem(sys.modules, "wandb_workspaces.reports", None)
    monkeypatch.setitem(sys.modules, "wandb_workspaces.reports.v2", None)
    told = command("leaderboard", "--out", out).error
    assert told == "a W&B Report needs wandb-workspaces; run `pip install wandb-workspaces`"
