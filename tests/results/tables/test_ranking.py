"""Ranks over tasks: the Friedman test and critical differences, against SciPy and papers."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mergeshift import UserError
from results.plots import ranking as plots
from results.render.text import render
from results.tables.ranking import Ranking, ranking
from tests.helpers.result_frames import make_rows

SHIFTS = [("clean", 0), ("contrast", 2)]
COMPETING = ("average", "task_arithmetic", "ties", "adamerging")


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return make_rows(("pretrained", *COMPETING, "individual"), shifts=SHIFTS)


@pytest.fixture(scope="module")
def found(rows: pd.DataFrame) -> Ranking:
    return ranking(rows)


def given(values: list[list[float]]) -> pd.DataFrame:
    """Rows with these values, a line per method, a column per task."""
    tasks = ["mnist", "letters", "animals", "landcover", "texture"][: len(values[0])]
    rows = make_rows(COMPETING[: len(values)], tasks, [("clean", 0)])
    rows = rows[rows["metric"] == "nll"].reset_index(drop=True)
    for method, line in zip(COMPETING, values, strict=False):
        for task, value in zip(tasks, line, strict=True):
            rows.loc[(rows["method"] == method) & (rows["task"] == task), "value"] = value
    return rows


def test_a_block_is_a_task_averaged_over_shifts(rows: pd.DataFrame, found: Ranking) -> None:
    accuracies = rows[(rows["metric"] == "acc") & rows["method"].isin(COMPETING)]
    means = accuracies.groupby(["method", "task"])["value"].mean().unstack()
    expected = stats.friedmanchisquare(*means.to_numpy())
    assert (found.statistic, found.p) == pytest.approx((expected.statistic, expected.pvalue))
    ranks = means.rank(ascending=False).mean(axis=1)
    assert found.mean_ranks == pytest.approx(ranks.to_dict())
    assert [entry.key for entry in found.entries] == list(ranks.sort_values().index)


def test_ranks_by_hand() -> None:
    """Lower is better; equals share a rank: 1.5 1.5 3 on the second task."""
    found = ranking(given([[0.1, 0.2], [0.3, 0.2], [0.2, 0.9]]), "nll")
    assert found.mean_ranks == {"average": 1.25, "task_arithmetic": 2.25, "ties": 2.5}
    assert found.frame().groupby("entry")["rank"].first()["ties"] == 2.0


@pytest.mark.parametrize(("methods", "q"), [(3, 2.343), (4, 2.569)])
def test_the_critical_difference_is_that_of_published_tables(methods: int, q: float) -> None:
    """q at 5 % as printed in Demsar 2006, table 5."""
    rng = np.random.default_rng(0)
    found = ranking(given(rng.random((methods, 5)).tolist()), "nll")
    assert found.critical_difference == pytest.approx(
        q * np.sqrt(methods * (methods + 1) / 30), rel=1e-3
    )


def test_methods_that_are_not_told_apart_are_joined() -> None:
    """Five tasks, ranks 1 2 3 4 on all: 2.10 apart is too little, 3 is enough."""
    found = ranking(given([[0.1] * 5, [0.2] * 5, [0.3] * 5, [0.4] * 5]), "nll")
    assert found.critical_difference == pytest.approx(2.098, abs=1e-3)
    assert found.cliques == [list(COMPETING[:3]), list(COMPETING[1:])]
    assert found.p == pytest.approx(stats.chi2.sf(15, 3))  # the largest that there can be


def test_equal_methods_are_alike() -> None:
    found = ranking(given([[0.1, 0.2]] * 3), "nll")
    assert (found.statistic, found.p) == (0, 1)
    assert len(found.cliques) == 1


def test_what_cannot_be_ranked(rows: pd.DataFrame) -> None:
    with pytest.raises(UserError, match="need three methods and two tasks; got 2 methods"):
        ranking(rows[rows["method"].isin(["average", "ties", "individual"])])
    with pytest.raises(UserError, match=r"4 methods .* and 1 tasks"):
        ranking(rows[rows["task"] == "mnist"])


@pytest.mark.parametrize("form", ["text", "md", "latex", "csv"])
def test_every_format_has_the_ranks(found: Ranking, form: str) -> None:
    written = " ".join(render(found, form).split())
    best = found.entries[0]
    assert best.title.split(" ")[0] in written
    mean = found.mean_ranks[best.key]
    assert (f"{mean}" if form == "csv" else f"{mean:.2f}") in written
    if form != "csv":
        assert "Friedman" in written


def test_the_diagram_shows_every_method_once(rows: pd.DataFrame, found: Ranking) -> None:
    figure = plots.critical_difference(rows)
    (axes,) = figure.axes
    texts = [text.get_text() for text in axes.texts]
    for entry in found.entries:
        name = f"{entry.title} ({found.mean_ranks[entry.key]:.2f})"
        assert texts.count(name) == 1
    bars = [line for line in axes.lines if line.get_linewidth() == 4]
    assert len(bars) == len(found.cliques)
