"""Comparison tables: numbers against NumPy, refusals, entries and notes."""

import json

import numpy as np
import pandas as pd
import pytest

from corruptions.base import PROTOCOL
from mergeshift import UserError
from results.schema import pack
from results.statistics import mean_interval, wilson
from results.tables.comparison import compare
from results.tables.paired import paired
from tests.helpers.result_frames import MAIN_SHIFTS, METHODS, TASKS, hits_of, make_rows

CLEAN = [("clean", 0)]
LEVEL2 = [(name, 2) for name in PROTOCOL]


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return make_rows()


def accuracy(method: str, shifts: list, n: int = 120, tasks: tuple = TASKS) -> float:
    return float(np.mean([hits_of(method, t, s, 0, n).mean() for t in tasks for s in shifts]))


# -- numbers


def test_means_and_drops_by_level(rows: pd.DataFrame) -> None:
    table = compare(rows)
    assert table.columns == ("clean", "L1", "L2", "L3")
    clean, level2 = accuracy("ties", CLEAN), accuracy("ties", LEVEL2)
    assert table.cells["ties", "clean"].value == pytest.approx(clean)
    assert table.cells["ties", "L2"].value == pytest.approx(level2)
    assert table.cells["ties", "L2"].drop == pytest.approx((clean - level2) / clean)
    assert np.isnan(table.cells["ties", "clean"].drop)


def test_normalised_and_retention_are_ratios_per_task(rows: pd.DataFrame) -> None:
    table = compare(rows)
    merged, ceiling = (
        np.array([[hits_of(m, t, s, 0, 120).mean() for s in CLEAN + LEVEL2] for t in TASKS])
        for m in ("ties", "individual")
    )
    cell = table.cells["ties", "L2"]
    normalised = (merged[:, 1:].mean(axis=1) / ceiling[:, 0]).mean()
    assert cell.normalised == pytest.approx(normalised)
    assert cell.retention == pytest.approx((merged[:, 1:] / ceiling[:, 1:]).mean())
    assert table.summary["normalised"]["ties"] == pytest.approx((merged / ceiling)[:, 0].mean())
    assert table.cells["individual", "L2"].retention == 1
    retained = np.mean([table.cells["ties", level].retention for level in ("L1", "L2", "L3")])
    assert table.summary["retention"]["ties"] == pytest.approx(retained)
    assert [name in table.notes["summary"] for name in ("Norm. acc.", "Retention")] == [True, True]
    clean = compare(rows[rows["corruption"] == "clean"])  # its notes tell of no column it lacks
    assert [name in clean.notes["summary"] for name in ("Norm. acc.", "Retention")] == [True, False]


def test_interval_on_clean_is_stratified_wilson(rows: pd.DataFrame) -> None:
    shares = [hits_of("ties", task, ("clean", 0), 0, 120).mean() for task in TASKS]
    expected = mean_interval(shares, [120] * len(TASKS))
    assert compare(rows).cells["ties", "clean"][:3] == pytest.approx(expected)
    by_task = compare(rows, by="task")
    assert by_task.cells["ties", "mnist"][:3] == pytest.approx(
        (shares[0], *wilson(shares[0] * 120, 120))
    )
    assert by_task.cells["ties", "mean"][:3] == pytest.approx(expected)


def test_interval_of_a_level_counts_an_image_once(rows: pd.DataFrame) -> None:
    """Seven corruptions of the same 120 images are not 840 images."""
    cell = compare(rows).cells["ties", "L2"]
    fewest = mean_interval([cell.value] * 4, [120] * 4).margin
    most = mean_interval([cell.value] * 4, [840] * 4).margin
    assert most < cell.margin < fewest


def test_seeds_are_averaged_first_and_do_not_add_images() -> None:
    both = make_rows(["ties"], seeds=(0, 1), shifts=CLEAN)
    one, two = compare(make_rows(["ties"], shifts=CLEAN)), compare(both)
    per_seed = [
        both[(both["metric"] == "acc") & (both["seed"] == s)]["value"].mean() for s in (0, 1)
    ]
    assert two.cells["ties", "clean"].value == pytest.approx(np.mean(per_seed))
    assert two.cells["ties", "clean"].margin > 0.9 * one.cells["ties", "clean"].margin
    assert "seeds 0, 1" in two.notes["images"]
    assert "averaged over seeds first" in two.notes["images"]


def test_columns_by_task_severity_and_corruption(rows: pd.DataFrame) -> None:
    assert compare(rows, by="task").columns == (*TASKS, "mean")
    shifted = compare(rows, by="task", shift="contrast@3")
    assert (
        shifted.cells["ties", "mnist"].value
        == hits_of("ties", "mnist", ("contrast", 3), 0, 120).mean()
    )
    severity = compare(rows, by="severity")
    assert severity.columns == ("0", "1", "2", "3")
    assert severity.cells["ties", "2"].value == pytest.approx(accuracy("ties", LEVEL2))
    corruption = compare(rows, by="corruption")
    assert corruption.columns == ("clean", *PROTOCOL)
    contrast = accuracy("ties", [("contrast", s) for s in (1, 2, 3)])
    assert corruption.cells["ties", "contrast"].value == pytest.approx(contrast)


def test_other_metrics_have_means_but_no_interval(rows: pd.DataFrame) -> None:
    table = compare(rows, "nll")
    cell = table.cells["ties", "clean"]
    assert cell.value == pytest.approx(2 - accuracy("ties", CLEAN))
    assert np.isnan([cell.low, cell.high, cell.drop, cell.retention]).all()
    assert table.printed_ranks("clean")["adamerging"] == 1  # lower is better
    assert "interval" not in table.notes


def test_without_hits_the_interval_is_wilsons_and_nothing_is_paired() -> None:
    rows = make_rows(["ties", "average"], ["mnist"], CLEAN)
    rows = rows[rows["metric"] == "acc"].assign(hits=[b"", b""])
    share = hits_of("ties", "mnist", ("clean", 0), 0, 120).mean()
    assert compare(rows).cells["ties", "clean"][1:3] == pytest.approx(wilson(share * 120, 120))
    with pytest.raises(UserError, match="ties has no answers to single images"):
        paired(rows, "ties", "average")


# -- refusals


def test_unequal_cells_are_refused_and_named(rows: pd.DataFrame) -> None:
    gone = (rows["method"] == "ties") & (rows["severity"] == 3) & rows["task"].isin(TASKS[:2])
    gone &= rows["corruption"].isin(PROTOCOL[:6])
    with pytest.raises(UserError) as error:
        compare(rows[~gone])
    assert str(error.value) == (
        "ties lacks 12 of 88 cells, e.g. task=mnist shift=motion_blur@3; "
        "finish the sweep or filter the rows"
    )


def test_every_method_that_lacks_cells_is_named() -> None:
    rows = make_rows(["ties", "average"], seeds=(0, 1), shifts=[*CLEAN, ("contrast", 1)])
    keep = (rows["method"] == "ties") | ((rows["task"] != "mnist") & (rows["seed"] == 0))
    with pytest.raises(UserError, match=r"average lacks 10 of 16 cells, .*shift=clean seed=0"):
        compare(rows[keep])
    ragged = rows[(rows["task"] != "mnist") | (rows["corruption"] == "clean")]
    with pytest.raises(UserError, match=r"average lacks 2 of 16 .* \(also lacking: ties \(2\)\)"):
        compare(ragged)  # all methods lack the same, but L1 and clean would be of other tasks


@pytest.mark.parametrize(
    ("column", "value"),
    [("suite", "pocket14"), ("world", "toy"), ("limit", 50), ("placement", "native")],
)
def test_two_settings_are_not_mixed(rows: pd.DataFrame, column: str, value: object) -> None:
    other = make_rows(["average"], **{column: value})
    mixed = pd.concat([rows[rows["method"] == "ties"], other], ignore_index=True)
    with pytest.raises(UserError, match=f"compares methods under one {column}; got 2"):
        compare(mixed)


def test_the_same_images_are_demanded() -> None:
    rows = pd.concat([make_rows(["ties"], n=120), make_rows(["average"], n=100)])
    with pytest.raises(UserError, match=r"counted 1\d0 images on task=mnist .* the same images"):
        compare(rows)


def test_a_run_measured_twice_is_refused(rows: pd.DataFrame) -> None:
    again = make_rows(["ties"], run_id="pocket8-ties-again")
    with pytest.raises(UserError, match="ties was measured 2 times on task=mnist shift=clean"):
        compare(pd.concat([rows, again], ignore_index=True))


def test_unknown_metric_and_no_rows(rows: pd.DataFrame) -> None:
    with pytest.raises(UserError, match="no metric named 'ac'; did you mean 'acc'"):
        compare(rows, "ac")
    with pytest.raises(UserError, match="no rows of metric 'eval_s'"):
        compare(rows, "eval_s")


# -- entries, ranks, notes


def test_order_is_floor_by_year_ceiling_or_as_given(rows: pd.DataFrame) -> None:
    assert [entry.key for entry in compare(rows).entries] == list(METHODS)
    table = compare(rows, order=["adamerging", "ties"])
    assert [entry.key for entry in table.entries][:3] == ["adamerging", "ties", "pretrained"]


def test_variants_of_a_method_are_told_apart_by_what_differs(rows: pd.DataFrame) -> None:
    variants = [
        make_rows(["ties"], shifts=CLEAN, config=json.dumps({"keep": keep, "scale": 1.0}),
                  tuned=False, run_id=f"ties-{keep}")
        for keep in (0.1, 0.2)
    ]  # fmt: skip
    both = pd.concat([make_rows(shifts=CLEAN), *variants], ignore_index=True)
    keys = [entry.key for entry in compare(both).entries]
    assert keys[3:6] == ["ties [default, keep=0.1]", "ties [default, keep=0.2]", "ties [tuned]"]
    assert compare(both).entries[3].title == "TIES-Merging [default, keep=0.1]"
    difference = paired(both, "ties [default, keep=0.1]", "ties [tuned]")
    assert difference["difference"].tolist() == [0.0]
    with pytest.raises(UserError, match="'ties' is not one line of these results"):
        paired(both, "ties", "average")


def test_one_method_tuned_for_two_sets_of_experts_is_one_line() -> None:
    parts = [
        make_rows(["ties"], shifts=CLEAN, expert_seed=seed, config=json.dumps({"scale": seed}))
        for seed in (0, 1)
    ]
    (entry,) = compare(pd.concat(parts, ignore_index=True)).entries
    assert (entry.key, entry.config) == ("ties", "")


def test_ranks_are_as_printed_and_leave_out_references() -> None:
    hits = {"average": 70, "task_arithmetic": 80, "ties": 80, "adamerging": 60, "individual": 95}
    rows = make_rows(list(hits), ["mnist"], CLEAN, n=100)
    for method, k in hits.items():
        where = (rows["method"] == method) & (rows["metric"] == "acc")
        rows.loc[where, ["value", "hits"]] = [k / 100, pack(np.arange(100) < k)]
    found = compare(rows)
    assert found.printed_ranks("clean") == {"task_arithmetic": 1, "ties": 1, "average": 2}
    assert found.leaders == {}  # of one set of experts
    assert (
        compare(rows[rows["method"] == "ties"]).printed_ranks("clean") == {}
    )  # nobody to compare with


def test_notes_say_what_a_reader_must_know(rows: pd.DataFrame) -> None:
    table = compare(rows)
    text = " ".join(table.notes.values())
    facts = [
        "pocket (small ViT, 32 px; not CLIP)",
        "mean over 4 tasks",
        "120 images",
        "seed 0",
        "95 % Wilson",
    ]
    facts += ["L1, L2, L3", "cifar10-c", "tuned on validation data: Task Arithmetic, TIES-Merging"]
    for fact in facts:
        assert fact in text
    assert "pocket8" in table.title
    assert list(table.allowances) == [
        "data used: unlabelled images; adapts on held-out clean images",
        "task id at test time; storage: one model per task",
    ]


def test_a_large_sweep_is_compared_quickly() -> None:
    """20 tasks x 22 shifts x 6 methods: every number of the table is there, and finite."""
    rows = make_rows(tasks=[f"task{i:02d}" for i in range(20)], shifts=MAIN_SHIFTS, n=16)
    frame = compare(rows).frame()
    assert len(frame) == 6 * 4
    assert np.isfinite(frame[["value", "low", "high", "normalised", "retention"]]).all(axis=None)
