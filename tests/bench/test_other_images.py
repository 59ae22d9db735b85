"""Shifts that show other images than clean, prior and domains, from the sweep to every table."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from bench.plan import resolve
from bench.reporting.submissions import plan_of
from bench.sweeps import SWEEPS
from corruptions.base import Shift
from mergeshift import UserError
from results.schema import unpack
from results.store import Store
from results.tables.comparison import compare
from results.tables.corruption_error import MEAN, corruption_errors
from results.tables.paired import falls, paired
from results.wandb.summaries import by_severity
from tasks import TASKS
from tasks.domains import DOMAINS, Domain
from tasks.prior import frequencies, rows_of
from tasks.sources.built import Built, Pool
from tasks.toy import _stripes
from tests.helpers.result_frames import make_rows
from tests.helpers.toy_sweep import measured, sweep_into

METHODS = ("pretrained", "individual", "average", "centroid_router")
SWEEP = replace(
    SWEEPS["smoke"], methods=METHODS, tune=False, name="others",
    shifts=("clean", "contrast@5", "prior", "domain:waves"),
)  # fmt: skip
ELSEWHERE = ("toy_three", "toy_four")


def waves() -> Pool:
    """Stripes of a fourth task, of three directions; all of them are to be tested on."""
    pool = _stripes("toy_waves", 3)
    return Pool(pool.images[:40], pool.labels[:40], np.full(40, 3, np.int8))


@pytest.fixture(scope="module")
def out(smoke, tmp_path_factory):
    """A sweep under both, of a domain that two of three tasks have."""
    from mergeshift import rng_of
    from tasks.sources.built import pixel_hash

    pool = waves()
    order = rng_of("order", "toy_waves", 3).permutation(40)
    entry = replace(
        TASKS["toy_three"], name="toy_waves", sizes=(0, 0, 0, 40), source=Built(waves),
        pixels=pixel_hash(pool.images[order], pool.labels[order].astype(np.int64)),
    )  # fmt: skip
    DOMAINS._items["waves"] = Domain("waves", "stripes of other waves", entry, ELSEWHERE)
    folder = tmp_path_factory.mktemp("others")
    sweep_into(folder, SWEEP)
    yield folder
    del DOMAINS._items["waves"]


def cell(out, method: str, task: str, shift: str) -> pd.Series:
    rows = measured(out).reset_index()
    names = {"method": method, "task": task, "corruption": shift, "metric": "acc"}
    for name, value in names.items():
        rows = rows[rows[name] == value]
    return rows.iloc[0]


def test_under_prior_the_very_answers_to_the_images_that_stay(out):
    for task in resolve(SWEEP).tasks:
        labels = resolve(SWEEP).data.labels(task, "test")
        rows = rows_of(labels, frequencies(task.num_classes, 0, task.name))
        for method in METHODS:
            clean, prior = (cell(out, method, task.name, shift) for shift in ("clean", "prior"))
            right = unpack(clean["hits"], 24)[rows]
            np.testing.assert_array_equal(unpack(prior["hits"], prior["n"]), right)
            assert (prior["severity"], prior["value"]) == (0, pytest.approx(right.mean()))


def test_a_domain_is_measured_on_the_tasks_that_have_it_and_that_is_said(out, command):
    rows = Store(out).read()
    waves = rows[rows["corruption"] == "domain:waves"]
    assert set(waves["task"]) == set(ELSEWHERE)
    assert set(waves["n"]) == {24}
    said = " ".join(command("table", "--out", out, "--notes").out.split())
    assert "another source of 2 of 3 tasks (toy_three, toy_four), 24 each" in said
    assert "prior: a part of the test images," in said
    told = command("table", "--out", out, "--by", "task", "--shift", "domain:waves").out
    assert "toy_four" in told
    assert "toy_two" not in told.split("Setting")[0]


def test_columns_average_over_the_cells_that_there_are(out):
    table = compare(Store(out).read())
    assert table.columns == ("clean", "contrast@5", "domain:waves", "prior")
    means = [cell(out, "average", task, "domain:waves")["value"] for task in ELSEWHERE]
    assert table.cells["average", "domain:waves"].value == pytest.approx(np.mean(means))
    on_clean = [cell(out, "average", task, "clean")["value"] for task in ELSEWHERE]
    assert table.cells["average", "domain:waves"].drop == pytest.approx(
        1 - np.mean(means) / np.mean(on_clean)
    )
    assert not np.isnan(table.cells["average", "prior"].low)
    experts = [cell(out, "individual", t.name, "contrast") for t in resolve(SWEEP).tasks]
    mine = [cell(out, "average", t.name, "contrast") for t in resolve(SWEEP).tasks]
    shares = [a["value"] / b["value"] for a, b in zip(mine, experts, strict=True)]
    assert table.summary["retention"]["average"] == pytest.approx(np.mean(shares))


def test_what_is_in_pairs_with_clean_leaves_them_out(out):
    rows = Store(out).read()
    assert set(falls(rows, "average")["corruption"]) == {"contrast"}
    assert list(paired(rows, "average", "pretrained").index) == [
        "clean", "contrast@5", "domain:waves", "prior"
    ]  # fmt: skip
    errors = corruption_errors(rows, "pretrained")
    assert set(errors.columns) == {MEAN, "clean", "contrast"}
    assert set(by_severity(rows[rows["method"] == "average"])) == {0, 5}


@pytest.mark.parametrize("by", ["shift", "severity", "corruption", "routing", "mce"])
@pytest.mark.parametrize("form", ["md", "csv", "latex"])
def test_every_table_can_be_made(out, command, by, form):
    assert command("table", "--out", out, "--by", by, "--format", form).code == 0


def test_the_page_has_them(out, command, tmp_path):
    page = tmp_path / "page.html"
    words = ("--examples", 1, "--shifts", "prior,domain:waves", "-o", page)
    assert command("report", "--out", out, *words).code == 0
    assert "domain:waves" in page.read_text()


def test_a_plan_says_how_many_images_stay_and_which_tasks_are_left_out(out, command):
    words = ("sweep", "smoke", "--dry-run", "--out", out, "--shifts")
    said = " ".join(command(*words, "prior,domain:waves").out.split())
    assert "images of a task remain" in said
    assert "domain:waves: stripes of other waves, for toy_three, toy_four; the other 1" in said
    error = command(*words, "domain:usps").error
    assert "no task of toy has images of domain:usps" in error
    error = command(*words, "domain:waves", "--adapt-on", "shifted").error
    assert "use another --adapt-on" in error


def test_predictions_from_elsewhere_are_of_the_test_images(out):
    with pytest.raises(UserError, match="shows other images than the test set"):
        plan_of(out, "others")


def test_a_task_may_lack_a_domain_for_all_methods_alone():
    rows = make_rows(["average", "ties"], shifts=[("clean", 0), ("domain:usps", 0)])
    first = rows["task"].iloc[0]
    elsewhere = rows["corruption"] == "domain:usps"
    assert compare(rows[~(elsewhere & (rows["task"] == first))]).cells["ties", "domain:usps"]
    with pytest.raises(UserError, match="ties lacks 1 of"):
        compare(rows[~(elsewhere & (rows["task"] == first) & (rows["method"] == "ties"))])
    with pytest.raises(UserError, match="average lacks 1 of"):
        compare(rows[~((rows["corruption"] == "clean") & (rows["task"] == first))])


@pytest.mark.parametrize("text", ["prior@3", "domain:", "domain:a/b", "domain:usps@3"])
def test_junk_is_refused_in_one_line(text):
    with pytest.raises(UserError, match=r"no severity|is written"):
        Shift.parse(text)
