"""mCE and relative mCE against NumPy, by hand, and a bootstrap that draws images one by one."""

import math

import numpy as np
import pytest

from mergeshift import UserError
from results.render.text import render
from results.tables.corruption_error import CLEAN, MEAN, corruption_errors
from tests.helpers.result_frames import TASKS, hits_of, make_rows

NAMES, LEVELS, N = ("contrast", "pixelate", "spatter"), (1, 3), 120
SHIFTS = (("clean", 0), *((name, level) for name in NAMES for level in LEVELS))
METHODS = ("pretrained", "ties", "individual")


@pytest.fixture(scope="module")
def rows():
    return make_rows(METHODS, shifts=SHIFTS, n=N)


def errors(method: str, pick=slice(None)) -> np.ndarray:
    """Error under each shift, mean over tasks; of some images of each task.  ``[S]``"""
    hits = [[hits_of(method, task, shift, 0, N)[pick].mean() for task in TASKS] for shift in SHIFTS]
    return 1 - np.mean(hits, axis=1)


def ratios(ours: np.ndarray, theirs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """CE and relative CE of each corruption."""
    a, b = (one[1:].reshape(len(NAMES), len(LEVELS)) for one in (ours, theirs))
    return a.sum(1) / b.sum(1), (a - ours[0]).sum(1) / (b - theirs[0]).sum(1)


@pytest.mark.parametrize("reference", ["pretrained", "ties"])
@pytest.mark.parametrize("method", METHODS)
def test_ratios_are_those_of_the_paper(rows, method, reference):
    found = corruption_errors(rows, reference)
    ce, relative = ratios(errors(method), errors(reference))
    for number, name in enumerate(NAMES):
        line = found.lines[method, name]
        assert line.ce.value == pytest.approx(ce[number])
        assert line.relative.value == pytest.approx(relative[number])
        assert line.error == pytest.approx(errors(method)[1:].reshape(3, 2)[number].mean())
    line = found.lines[method, MEAN]
    assert (line.ce.value, line.relative.value) == pytest.approx((ce.mean(), relative.mean()))
    assert found.lines[method, CLEAN].error == pytest.approx(errors(method)[0])
    assert math.isnan(found.lines[method, CLEAN].ce.value)


def test_the_reference_is_one_without_doubt(rows):
    found = corruption_errors(rows, "ties")
    for name in (MEAN, *NAMES):
        line = found.lines["ties", name]
        assert tuple(line.ce) == tuple(line.relative) == (1, 1, 1)
    assert found.reference == "ties"


def test_intervals_are_those_of_a_plain_bootstrap(rows):
    """Images of a task are drawn once for all shifts and for both methods."""
    rng, draws = np.random.default_rng(0), []
    for _ in range(600):
        sums = {method: np.zeros(len(SHIFTS)) for method in ("ties", "pretrained")}
        for task in TASKS:
            pick = rng.integers(0, N, N)
            for method, total in sums.items():
                total += [1 - hits_of(method, task, shift, 0, N)[pick].mean() for shift in SHIFTS]
        ours, theirs = (total / len(TASKS) for total in sums.values())
        draws.append([one.mean() for one in ratios(ours, theirs)])
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    line = corruption_errors(rows).lines["ties", MEAN]
    for k, interval in enumerate((line.ce, line.relative)):
        assert interval.low == pytest.approx(low[k], abs=0.15 * (high[k] - low[k]))
        assert interval.high == pytest.approx(high[k], abs=0.15 * (high[k] - low[k]))


def test_without_single_answers_there_is_no_margin(rows):
    bare = rows.copy()
    bare.loc[bare["method"] == "ties", "hits"] = b""
    found = corruption_errors(bare)
    assert math.isnan(found.lines["ties", MEAN].ce.margin)
    assert found.lines["ties", MEAN].ce.value == pytest.approx(
        corruption_errors(rows).lines["ties", MEAN].ce.value
    )
    assert not math.isnan(found.lines["individual", MEAN].ce.margin)


def test_a_reference_that_does_not_fall_has_no_relative_error():
    rising = make_rows(METHODS, shifts=SHIFTS, n=N)
    under = (rising["corruption"] == "spatter") & (rising["method"] == "pretrained")
    clean = (rising["corruption"] == "clean") & (rising["method"] == "pretrained")
    for task in TASKS:
        mine = rising["task"] == task
        for metric in ("acc",):
            chosen = rising["metric"] == metric
            source = rising[clean & mine & chosen].iloc[0]
            for index in rising.index[under & mine & chosen]:
                rising.at[index, "value"], rising.at[index, "hits"] = (
                    source["value"],
                    source["hits"],
                )
    line = corruption_errors(rising).lines["ties", "spatter"]
    assert math.isnan(line.relative.value)
    assert line.ce.value > 0
    assert math.isnan(corruption_errors(rising).lines["ties", MEAN].relative.value)


def test_what_is_lacking_is_one_line(rows):
    for spoilt, said in (
        (rows[rows["corruption"] != "clean"], "add the shift clean"),
        (rows[rows["corruption"] == "clean"], "no corruption was measured"),
        (rows[~((rows["corruption"] == "spatter") & (rows["severity"] == 3))], "spatter lacks 1"),
    ):
        with pytest.raises(UserError, match=said) as caught:
            corruption_errors(spoilt)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="'tie' is not one line of these results"):
        corruption_errors(rows, "tie")


@pytest.mark.parametrize("form", ["text", "md", "html", "csv", "json", "latex"])
def test_every_format_prints_it(rows, form):
    found = corruption_errors(rows)
    text = render(found, form)
    mce = found.lines["ties", MEAN].ce.value
    assert (f"{100 * mce:.3f}"[:5] if form in ("csv", "json") else f"{100 * mce:.1f}") in text
    if form in ("text", "md"):
        assert "of that of Pretrained (reference)" in " ".join(text.split())
