"""Paired contrasts: method against method, shifted against clean, severity against severity."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mergeshift import UserError
from results.schema import pack
from results.tables.paired import NO_VERDICT, falls, monotone, null_cells, paired
from tests.helpers.result_frames import TASKS, hits_of, make_rows

CLEAN = [("clean", 0)]


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return make_rows(["ties", "adamerging"])


def test_paired_difference_against_numpy(rows: pd.DataFrame) -> None:
    line = paired(rows, "adamerging", "ties").loc["clean"]
    d = [
        hits_of("adamerging", t, ("clean", 0), 0, 120).astype(float)
        - hits_of("ties", t, ("clean", 0), 0, 120)
        for t in TASKS
    ]
    se = np.sqrt(sum(x.var(ddof=1) / 120 for x in d)) / len(TASKS)
    low, high = stats.norm.interval(0.95, loc=np.mean(d), scale=se)
    assert (line["difference"], line["low"], line["high"]) == pytest.approx((np.mean(d), low, high))
    assert (line["boot_low"], line["boot_high"]) == pytest.approx((low, high), abs=0.006)
    assert line["verdict"] == NO_VERDICT  # of one set of experts
    reverse = paired(rows, "ties", "adamerging").loc["clean"]
    assert reverse["difference"] == -line["difference"]


def test_null_cells_are_those_whose_fall_may_be_zero() -> None:
    shifts = [*CLEAN, ("contrast", 1), ("fog", 1)]
    rows = make_rows(["individual"], ["mnist"], shifts, n=200)
    clean = np.arange(200) < 180
    answers = {
        "clean": clean,
        "contrast": clean & (np.arange(200) > 1),
        "fog": np.arange(200) < 120,
    }
    for corruption, hits in answers.items():
        where = (rows["corruption"] == corruption) & (rows["metric"] == "acc")
        rows.loc[where, ["value", "hits"]] = [hits.mean(), pack(hits)]
    found = falls(rows, "individual")
    assert found["fall"].tolist() == pytest.approx([2 / 200, 60 / 200])
    assert null_cells(rows, "individual")["corruption"].tolist() == ["contrast"]  # .01 +- .014
    assert null_cells(rows, "individual", by_task=True)["task"].tolist() == ["mnist"]
    with pytest.raises(UserError, match="add `clean` to the shifts"):
        null_cells(rows[rows["corruption"] != "clean"], "individual")


def test_monotone_reports_curves_and_rises() -> None:
    accuracies = {("clean", 0): 90, ("fog", 1): 80, ("fog", 2): 83, ("fog", 5): 60, ("snow", 1): 70,
                  ("snow", 2): 71}  # fmt: skip
    rows = make_rows(["individual"], ["mnist"], list(accuracies), n=100)
    for (corruption, severity), k in accuracies.items():
        where = (rows["corruption"] == corruption) & (rows["severity"] == severity)
        rows.loc[where & (rows["metric"] == "acc"), ["value", "hits"]] = [
            k / 100,
            pack(np.arange(100) < k),
        ]
    table = monotone(rows, "individual")
    assert table.loc["fog", [0, 1, 2, 5]].tolist() == [0.9, 0.8, 0.83, 0.6]
    assert table["falls"].tolist() == [True, False]
    assert table["largest_rise"].tolist() == pytest.approx([0.03, 0.01])
