"""Variants of a method in one sweep: how they are written, run, stored, named and chosen."""

import json
from dataclasses import replace

import pandas as pd
import pytest

from bench.config import Sweep
from bench.plan import resolve
from bench.reporting.sweep_index import load_sweep, rows_of
from bench.stages.build import bind
from bench.sweeps import SWEEPS
from bench.variants import Variant, canonical_name, normalise_name, parse, split
from mergeshift import UserError
from methods import METHODS
from results.tables.comparison import compare
from results.tables.paired import paired
from tests.helpers.result_frames import make_rows
from tests.helpers.toy_sweep import sweep_into

TOY = Sweep(suite="toy", shifts=("clean",), limit=24)
LINES = ("ties[keep=0.5,scale=1]", "average", "ties", "ties[keep=0.1]", "individual")


# -- how they are written ------------------------------------------------------------------------


def test_a_comma_in_brackets_parts_nothing():
    assert split("a,b[x=1,y=2],c") == ["a", "b[x=1,y=2]", "c"]
    assert split("b[x=1,y=2],,") == ["b[x=1,y=2]"]
    assert split("") == []


def test_a_line_is_a_method_and_fields():
    assert parse("ties") == Variant("ties", {})
    assert parse(" ties[keep=0.1,merge=sum] ") == Variant("ties", {"keep": "0.1", "merge": "sum"})
    assert parse("ties [ keep = 0.1 ]") == Variant("ties", {"keep": "0.1"})
    assert normalise_name("ties[keep=0.1,merge=sum]") == normalise_name(
        "ties [keep=0.1, merge=sum]"
    )


@pytest.mark.parametrize("text", [
    "ties[keep=0.1,merge=sum]", "ties[merge=sum,keep=0.1]", " ties [ keep = 1e-1 ,merge=sum ] ",
    "ties[keep=.10, merge=sum]",
])  # fmt: skip
def test_a_line_is_found_in_whatever_words(text):
    line = "ties [keep=0.1, merge=sum]"
    assert canonical_name(text, ["ties", "ties [keep=0.1]", line]) == line


@pytest.mark.parametrize(("text", "lines", "found"), [
    ("a[x=TRUE]", ["a", "a [x=true]"], "a [x=true]"),
    ("a[steps=3.0]", ["a [steps=3]"], "a [steps=3]"),
    ("a[x=Sum]", ["a [x=sum]"], "a [x=Sum]"),  # another text is another value
    ("a[x=1,y=2]", ["a [x=1]"], "a [x=1, y=2]"),  # none: as tables would write it
    ("a[x=1]", ["b [x=1]", "a"], "a [x=1]"),
    ("a[mine]", ["a [mine]"], "a [mine]"),  # no line: the name of weights from elsewhere
    ("a[x=1]", ["a[x=1]"], "a[x=1]"),
])  # fmt: skip
def test_what_differs_is_not_found(text, lines, found):
    assert canonical_name(text, lines) == found


@pytest.mark.parametrize("text", [
    "ties[keep]", "ties[keep=0.1", "ties]", "ties[]", "ties[keep=1,keep=2]", "ties[=1]",
    "ties[keep=0.1]x", "ties[[keep=1]]", "ties[keep=1][scale=1]",
])  # fmt: skip
def test_anything_else_is_one_line(text):
    with pytest.raises(UserError, match=r"METHOD or METHOD\[FIELD=VALUE,FIELD=VALUE\]") as caught:
        replace(TOY, methods=(text,))
    assert repr(text) in str(caught.value)
    assert "\n" not in str(caught.value)


# -- what they run -------------------------------------------------------------------------------


def test_every_line_is_a_run_of_its_own_and_a_method_by_its_name():
    plan = resolve(replace(TOY, methods=LINES))
    assert [run.method for run in plan.runs] == ["ties", "average", "ties", "ties", "individual"]
    assert list(plan.lines.values()) == [
        "ties [keep=0.5, scale=1.0]", "average", "ties", "ties [keep=0.1]", "individual",
    ]  # fmt: skip
    assert len(plan.lines) == 5
    keeps = [json.loads(run.config)["keep"] for run in plan.runs if run.method == "ties"]
    assert keeps == [0.5, METHODS["ties"].Config().keep, 0.1]


def test_a_bracket_is_what_a_setting_is():
    """The same run as of a sweep that sets these fields for the whole method."""
    set_ = replace(TOY, methods=("ties",), settings=("ties.keep=0.1",))
    assert resolve(replace(TOY, methods=("ties[keep=0.1]",))).runs == resolve(set_).runs


def test_a_fixed_field_is_not_searched_and_a_setting_holds_for_all_variants():
    sweep = replace(TOY, methods=("ties[keep=0.5]", "ties"), settings=("ties.merge=sum",))
    first, second = resolve(sweep).runs
    tried = [json.loads(text) for text in bind(first).candidates]
    assert {(one["keep"], one["merge"]) for one in tried} == {(0.5, "sum")}
    tried = [json.loads(text) for text in bind(second).candidates]
    assert {one["merge"] for one in tried} == {"sum"}
    assert len({one["keep"] for one in tried}) > 1
    (run,) = resolve(replace(sweep, methods=("ties[merge=mean]",))).runs
    assert json.loads(run.config)["merge"] == "mean"  # the nearer one wins


def test_the_same_in_other_words_is_done_once():
    lines = ("ties[keep=0.10,scale=1]", "ties[scale=1.0,keep=0.1]", "oracle_router",
             "oracle_router[null_route=False]")  # fmt: skip
    plan = resolve(replace(TOY, methods=lines))
    assert list(plan.lines.values()) == ["ties [keep=0.1, scale=1.0]", "oracle_router"]
    (variant,) = resolve(replace(TOY, methods=lines[3:])).variants.values()
    assert variant == "null_route=false"


def test_a_preset_may_stand_in_brackets():
    (run,) = resolve(replace(TOY, methods=("adamerging[preset=fusionbench,steps=3]",))).runs
    config = json.loads(run.config)
    assert (config["steps"], config["clamp"]) == (3, False)


@pytest.mark.parametrize(("methods", "settings", "said"), [
    (("tie[keep=0.1]",), (), "no method named 'tie'; did you mean 'ties'?"),
    (("ties[kep=0.1]",), (), "no setting 'kep'; did you mean 'keep'"),
    (("ties[keep=20]",), (), "ties.keep must be a number in (0, 1]; got 20"),
    (("ties[keep=0.1]",), ("average.x=1",), "'average' is not in this sweep"),
])  # fmt: skip
def test_mistakes_in_brackets_are_one_line(methods, settings, said):
    with pytest.raises(UserError) as caught:
        resolve(replace(TOY, methods=methods, settings=settings))
    assert said in str(caught.value)


# -- how tables name them ------------------------------------------------------------------------


def test_variants_are_named_by_what_is_in_brackets_in_the_order_of_the_sweep():
    parts = [("scale=2.0", 2.0), ("", 0.3), ("keep=0.1", 0.3)]
    rows = [
        make_rows(["ties"], shifts=[("clean", 0)], config=json.dumps({"keep": 0.1 * i, "scale": s}),
                  run_id=f"ties-{i}").assign(variant=variant)
        for i, (variant, s) in enumerate(parts)
    ]  # fmt: skip
    plain = make_rows(["average", "individual"], shifts=[("clean", 0)]).assign(variant="")
    rows = pd.concat([plain, *rows], ignore_index=True)
    table = compare(rows)
    assert [entry.title for entry in table.entries] == [
        "Weight Averaging", "TIES-Merging [scale=2.0]", "TIES-Merging", "TIES-Merging [keep=0.1]",
        "Individual",
    ]  # fmt: skip
    line = paired(rows, "ties [keep=0.1]", "ties").iloc[0]
    assert line["difference"] == 0


def test_a_sweep_of_variants(smoke, tmp_path, command):
    """Run, stored, recorded; shown by name, by method and alone; only what is asked for."""
    sweep = replace(TOY, name="lines", methods=LINES, tune=False)
    sweep_into(tmp_path, sweep)
    record = load_sweep(tmp_path, "lines")
    table = compare(rows_of(tmp_path, record))
    assert {entry.key for entry in table.entries} == set(resolve(sweep).lines.values())
    named = [entry.key for entry in table.entries if entry.method == "ties"]
    assert named == ["ties [keep=0.5, scale=1.0]", "ties", "ties [keep=0.1]"]  # as in the sweep
    some = rows_of(tmp_path, record, ["ties[keep=0.1]", "average"])
    assert set(some["variant"]) == {"keep=0.1", ""}
    assert set(rows_of(tmp_path, record, ["ties"])["variant"]) == {
        "", "keep=0.1", "keep=0.5, scale=1.0"}  # fmt: skip
    shown = command("table", "--out", tmp_path, "--methods", "average,ties[keep=0.5,scale=1.0]")
    assert "TIES [keep=0.5, scale=1.0]" in shown.out
    assert "keep=0.1" not in shown.out
    shown = command("table", "--out", tmp_path, "--methods", "average,ties[scale=1, keep=5e-1]")
    assert "TIES [keep=0.5, scale=1.0]" in shown.out
    assert "keep=0.1" not in shown.out
    for text in ("ties[keep=0.1]", "ties[ keep = 1e-1 ]"):
        shown = command("table", "--out", tmp_path, "--paired", text, "average")
        assert "ties [keep=0.1] - average (points)" in " ".join(shown.out.split())
    error = command("table", "--out", tmp_path, "--methods", "ties[keep=0.9]").error
    assert error == (
        "no results of ties [keep=0.9]; there are: ties [keep=0.5, scale=1.0], average, ties, "
        "ties [keep=0.1], individual"
    )


def test_a_sweep_on_the_command_line(command, tmp_path):
    words = ("sweep", "smoke", "--dry-run", "--out", tmp_path, "--methods",
             "average,ties[keep=0.5,merge=sum]", "ties[keep=0.1]")  # fmt: skip
    shown = command(*words)
    assert "methods  average, ties [keep=0.5, merge=sum], ties [keep=0.1]\n" in shown.out
    assert "3 runs x 2 shifts" in shown.out
    assert "NAME[FIELD=VALUE,...]" in command("sweep", "--help").out


def test_a_record_from_before_there_were_variants_is_read(smoke):
    record = load_sweep(smoke)
    assert [variant for _, variant in record["variants"]] == [""] * len(record["runs"])
    old = {name: value for name, value in record.items() if name != "variants"}
    rows = rows_of(smoke, old)
    assert set(rows["method"]) == set(SWEEPS["smoke"].methods)
    assert set(rows["variant"]) == {""}
