"""Seen and unseen tasks side by side: tables that never average over both, and what they say."""

import io
import json
from dataclasses import replace

import pandas as pd
import pytest

from bench.sweeps import SWEEPS
from mergeshift import UserError
from results.tables.comparison import compare
from results.tables.routing import breakdown
from tests.helpers.result_frames import TASKS, make_rows
from tests.helpers.routed_frames import routed_rows
from tests.helpers.toy_sweep import sweep_into

METHODS = ("average", "centroid_router", "oracle_router", "individual")
SWEEP = replace(SWEEPS["smoke"], name="unseen", methods=METHODS, unseen=("toy_three",), tune=False)
HIDDEN = ("animals", "landcover")


@pytest.fixture(scope="module")
def out(smoke, tmp_path_factory):
    """A sweep that leaves out one of three experts."""
    folder = tmp_path_factory.mktemp("unseen")
    sweep_into(folder, SWEEP)
    return folder


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    plain = make_rows(["pretrained", "ties", "individual"])
    routed = routed_rows(["twin_merging"], routes=TASKS[:2] + HIDDEN)
    both = pd.concat([plain, routed], ignore_index=True)
    both = both.assign(seen=~both["task"].isin(HIDDEN))
    gone = ~both["seen"] & both["metric"].isin(["oracle_acc", "route_acc"])
    return both[~gone].reset_index(drop=True)


def test_seen_and_unseen_are_never_averaged(rows):
    table = compare(rows, by="seen")
    assert table.columns == tuple(
        f"{name} {kind}" for name in ("clean", "L1", "L2", "L3") for kind in ("seen", "unseen")
    )
    acc = rows[(rows["metric"] == "acc") & (rows["method"] == "ties")]
    for seen, kind in ((True, "seen"), (False, "unseen")):
        part = acc[acc["seen"] == seen]
        clean = part[part["severity"] == 0]["value"].mean()
        level = part[part["severity"] == 2]["value"].mean()
        assert table.cells["ties", f"clean {kind}"].value == pytest.approx(clean)
        assert table.cells["ties", f"L2 {kind}"].value == pytest.approx(level)
        assert table.cells["ties", f"L2 {kind}"].drop == pytest.approx(1 - level / clean)
    assert "means over 2 seen and over 2 unseen tasks" in table.notes["metric"]
    assert table.notes["unseen"].startswith(
        "Unseen tasks (their experts were not merged): animals, landcover"
    )
    assert "L1, L2, L3: mean over 7 corruptions" in table.notes["levels"]


def test_a_table_says_who_answers_for_missing_experts(rows):
    said = "the pretrained model stands in for methods that need the true task's expert"
    assert said in compare(rows).notes["unseen"]
    assert said not in compare(rows[rows["method"] != "individual"]).notes["unseen"]


def test_columns_by_seen_need_unseen_tasks(rows):
    with pytest.raises(UserError, match="every task is seen in these results; run a sweep with"):
        compare(rows[rows["seen"]], by="seen")
    mixed = rows.assign(seen=rows["seen"] | (rows["method"] == "ties"))
    with pytest.raises(UserError, match="under one choice of unseen tasks; animals is unseen in"):
        compare(mixed)


def test_errors_are_split_on_seen_tasks_alone(rows):
    found = breakdown(rows)
    again = breakdown(rows[rows["seen"]])
    assert found.losses == again.losses
    assert (
        "Seen tasks only; the experts of animals, landcover were not merged."
        in found.notes["unseen"]
    )
    assert "unseen" not in again.notes


@pytest.mark.parametrize("form", ["text", "md", "csv", "latex"])
def test_every_format_has_the_columns(out, command, form):
    shown = command("table", "--by", "seen", "--format", form, "--out", out)
    assert shown.code == 0
    flat = " ".join(shown.out.split())
    assert "unseen" in flat
    if form == "csv":
        lines = pd.read_csv(io.StringIO(shown.out))
        assert set(lines["column"]) == {
            f"{s} {k}" for s in ("clean", "contrast@5") for k in ("seen", "unseen")}  # fmt: skip
    else:
        assert "Unseen tasks (their experts were not merged): toy" in flat.replace("\\", "")


def test_a_sweep_on_the_command_line(out, command, tmp_path):
    words = ("sweep", "smoke", "--dry-run", "--methods", "average", "--out", tmp_path)
    shown = command(*words, "--unseen", "toy_four,toy_two")
    assert "unseen   toy_four, toy_two: measured, their experts not merged" in shown.out
    assert "1 experts to fine-tune" in shown.out or "0 experts to fine-tune" in shown.out
    assert "sweep smoke-" in shown.out  # a name of its own
    assert "has no 'toy_six'" in command(*words, "--unseen", "toy_six").error


def test_routing_commands_work_with_unseen_tasks(out, command, tmp_path):
    shown = command("table", "--by", "routing", "--out", out)
    note = "Seen tasks only; the experts of toy_three were not merged"
    assert note in " ".join(shown.out.split())
    words = ("plot", "routing", "--methods", "centroid_router", "--out", out)
    assert command(*words, "-o", tmp_path / "r.png").code == 0
    assert command("table", "--metric", "route_acc", "--out", out).code == 0
    assert command("table", "--metric", "route_entropy", "--out", out).code == 0
    assert json.loads(next((out / "sweeps").glob("*.json")).read_text())["sweep"]["unseen"]
