"""What methods cost: one frame, from which the leaderboard and the page take the same numbers."""

import math

import pandas as pd
import pytest

from results.report.panels import costs
from results.tables.comparison import compare
from results.tables.leaderboard import board, costs_of
from tests.helpers.result_frames import make_rows

FIRST, SECOND, OTHER = "pocket8-ties-0", "pocket8-ties-1", "pocket8-average-0"
FACTS = {
    FIRST: {"merge_s": 1.0, "adapt_s": 2.0, "parameters": 3e6, "config": "{}"},
    SECOND: {"merge_s": 2.0, "parameters": 5e6},
}


@pytest.fixture
def rows() -> pd.DataFrame:
    """Two runs of TIES and one of average; the second TIES run took its time."""
    ties = make_rows(["ties"], shifts=[("clean", 0)], seeds=(0, 1), n=30)
    other = make_rows(["average"], shifts=[("clean", 0)], n=30).assign(seeded=False)
    timed = ties[ties["metric"] == "acc"].assign(metric="eval_s", hits=b"")
    timed["value"] = timed["seed"].map({0: 0.3, 1: 1.5})
    return pd.concat([ties, other, timed], ignore_index=True)


def test_means_over_the_runs_of_a_line(rows):
    """Merged in 1 and 2 s, learned in 2 s and not at all: built in 3 and 2 s.

    .3 s for 30 images are 10 ms an image, 1.5 s are 50 ms.
    """
    found = costs_of(rows, FACTS)
    wanted = {"merge_s": 1.5, "adapt_s": 2, "parameters": 4e6, "build_s": 2.5, "predict_ms": 30}
    assert found.loc["ties", list(wanted)].to_dict() == pytest.approx(wanted)
    assert math.isnan(found.loc["ties", "peak_mb"])
    assert found.loc["average"].isna().all()


def test_the_leaderboard_and_the_page_say_the_same(rows):
    lines = board(compare(rows), rows, FACTS).set_index("method")
    keys = ["average", "ties"]
    page = {one["name"]: one["values"] for one in costs(rows, FACTS, keys)}
    ties = lines.filter(like="TIES", axis="index").iloc[0]
    assert page["Time to predict"] == [None, pytest.approx(ties["ms per image"])]
    assert page["Parameters kept to predict"] == [None, ties["parameters"] / 1e6]
    assert ties["ms per image"] == pytest.approx(30)
    assert ties["runs"] == 2
    assert "peak MB" not in lines
