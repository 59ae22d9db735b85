"""Intervals, against closed forms, SciPy, and simulated experiments."""

import numpy as np
import pytest
from scipy import stats

from results.statistics import (
    Interval,
    bootstrap_interval,
    effective_n,
    holm,
    mean_interval,
    over_experts,
    paired_interval,
    score_interval,
    wilson,
)

Z = 1.959963984540054


@pytest.mark.parametrize(("k", "n"), [(0, 10), (1, 10), (5, 10), (10, 10), (437, 500), (999, 1000)])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_wilson_agrees_with_scipy(k: int, n: int, level: float) -> None:
    expected = stats.binomtest(k, n).proportion_ci(confidence_level=level, method="wilson")
    assert wilson(k, n, level) == pytest.approx(tuple(expected), abs=1e-12)


def test_wilson_by_hand() -> None:
    # k = n = 10, z = 1.96: centre = (1 + z^2/20) / (1 + z^2/10), low = n / (n + z^2) = 10 / 13.8415
    low, high = wilson(10, 10)
    assert low == pytest.approx(10 / (10 + Z**2))
    assert high == 1.0


def test_wilson_limits_solve_the_score_equation() -> None:
    k, n = 37.5, 60.0  # fractions occur: seeds are averaged, and n may be an effective number
    for p in wilson(k, n):
        assert (p - k / n) ** 2 == pytest.approx(Z**2 * p * (1 - p) / n)


@pytest.mark.parametrize(("k", "n"), [(-1, 10), (11, 10), (0, 0)])
def test_wilson_refuses_impossible_counts(k: int, n: int) -> None:
    with pytest.raises(ValueError, match="wilson needs"):
        wilson(k, n)


def test_effective_n_of_single_answers_is_n() -> None:
    scores = (np.random.default_rng(0).random(200) < 0.7).astype(float)
    assert effective_n(scores, repeats=1) == pytest.approx(200)
    assert effective_n(np.ones(50), repeats=7) == 50
    assert effective_n(np.zeros(50), repeats=7) == 50


def test_effective_n_lies_between_copies_and_fresh_images() -> None:
    rng = np.random.default_rng(1)
    hits = rng.random((4_000, 7)) < 0.7
    independent = effective_n(hits.mean(axis=1), repeats=7)  # 7 answers per image, unrelated
    assert independent == pytest.approx(28_000, rel=0.05)
    copies = np.repeat(hits[:, :1], 7, axis=1).mean(axis=1)  # 7 times the same answer
    assert effective_n(copies, repeats=7) == pytest.approx(4_000)
    assert effective_n(np.full(10, 0.5), repeats=2) == 20  # no variance left: the upper bound


def test_mean_of_one_task_is_wilson() -> None:
    assert mean_interval([0.8], [50]) == pytest.approx((0.8, *wilson(40, 50)))


def test_mean_of_two_tasks_by_hand() -> None:
    # 8 of 10 and 30 of 40: margins are the halves of the root of the summed squared distances.
    (low_a, high_a), (low_b, high_b) = wilson(8, 10), wilson(30, 40)
    below = np.hypot(0.8 - low_a, 0.75 - low_b) / 2
    above = np.hypot(high_a - 0.8, high_b - 0.75) / 2
    found = mean_interval([0.8, 0.75], [10, 40])
    assert found == pytest.approx((0.775, 0.775 - below, 0.775 + above))
    assert found.margin == pytest.approx(max(below, above))


def test_mean_interval_covers_the_truth_as_often_as_it_says() -> None:
    """2,000 experiments with 4 tasks of 60 images; 95 % +- 3 standard errors."""
    rng = np.random.default_rng(2)
    truth = np.array([0.97, 0.9, 0.7, 0.5])
    shares = rng.binomial(60, truth, size=(2_000, 4)) / 60
    found = np.array([mean_interval(row, [60] * 4) for row in shares])
    covered = ((found[:, 1] <= truth.mean()) & (truth.mean() <= found[:, 2])).mean()
    assert covered == pytest.approx(0.95, abs=3 * (0.95 * 0.05 / 2_000) ** 0.5)


def test_interval_of_repeated_answers_covers_the_truth() -> None:
    """Images of different difficulty, each answered 7 times: naive n * 7 would cover 60 %."""
    rng = np.random.default_rng(3)
    covered = {"effective": 0, "naive": 0}
    for _ in range(600):
        difficulty = rng.beta(1.4, 0.6, size=100)  # mean 0.7
        scores = (rng.random((100, 7)) < difficulty[:, None]).mean(axis=1)
        for name, n in (("effective", effective_n(scores, 7)), ("naive", 700.0)):
            _, low, high = mean_interval([scores.mean()], [n])
            covered[name] += low <= 0.7 <= high
    assert covered["effective"] / 600 == pytest.approx(0.95, abs=0.03)
    assert covered["naive"] / 600 < 0.8


def test_paired_interval_is_the_normal_interval_of_the_differences() -> None:
    d = np.random.default_rng(4).integers(-1, 2, size=80).astype(float)
    se = d.std(ddof=1) / np.sqrt(80)
    expected = stats.norm.interval(0.95, loc=d.mean(), scale=se)
    assert paired_interval([d])[1:] == pytest.approx(expected)


def test_paired_interval_stratifies_by_task() -> None:
    rng = np.random.default_rng(5)
    parts = [rng.normal(0.1, 0.3, 50), rng.normal(-0.3, 0.1, 200)]
    # var = (s1^2 / 50 + s2^2 / 200) / 4: the gap between the tasks adds nothing
    se = np.sqrt(parts[0].var(ddof=1) / 50 + parts[1].var(ddof=1) / 200) / 2
    mean = (parts[0].mean() + parts[1].mean()) / 2
    assert paired_interval(parts) == pytest.approx((mean, mean - Z * se, mean + Z * se))


def test_pairing_is_narrower_than_two_separate_intervals() -> None:
    rng = np.random.default_rng(6)
    hard = rng.random(500)
    a, b = (hard < 0.80).astype(float), (hard < 0.77).astype(float)  # b is right where a is
    paired = paired_interval([a - b])
    unpaired = np.hypot(*(mean_interval([x.mean()], [500]).margin for x in (a, b)))
    assert paired.margin < unpaired / 2
    assert paired.low > 0


def test_bootstrap_agrees_with_resampling_images_one_by_one() -> None:
    rng = np.random.default_rng(7)
    parts = [rng.integers(-1, 2, size=40).astype(float), rng.choice([-0.5, 0.0, 1.0], size=70)]
    draws = np.zeros(20_000)
    for d in parts:  # independent way: draw the images themselves
        draws += d[rng.integers(0, len(d), size=(20_000, len(d)))].mean(axis=1) / 2
    found = bootstrap_interval(parts, np.random.default_rng(8))
    assert found.value == pytest.approx(np.mean([d.mean() for d in parts]))
    assert found[1:] == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.006)


def test_bootstrap_is_close_to_the_closed_form_and_repeatable() -> None:
    parts = [np.random.default_rng(t).integers(-1, 2, size=300).astype(float) for t in range(4)]
    first = bootstrap_interval(parts, np.random.default_rng(9))
    assert first == bootstrap_interval(parts, np.random.default_rng(9))
    assert first[1:] == pytest.approx(paired_interval(parts)[1:], abs=0.003)


def test_a_method_against_itself_is_no_difference() -> None:
    nothing = [np.zeros(30), np.zeros(20)]
    assert paired_interval(nothing) == Interval(0, 0, 0)
    assert bootstrap_interval(nothing, np.random.default_rng(0)) == Interval(0, 0, 0)


# -- sets of experts


def test_one_set_leaves_an_interval_as_it_is() -> None:
    images = Interval(0.5, 0.4, 0.61)
    found = over_experts(images, [0.5])
    assert found.interval == images
    assert np.isnan([found.p, found.df]).all()


def test_sets_of_experts_against_scipy() -> None:
    """Images' standard error .02; sets .50 .53 .56: their mean has the variance .0009 / 3."""
    images = Interval(0.53, 0.53 - 0.02 * Z, 0.53 + 0.02 * Z)
    found = over_experts(images, [0.50, 0.53, 0.56])
    likely = 0.0003 * 2 / stats.chi2.median(2)
    df = 2 * ((0.0004 + likely) / likely) ** 2
    low, high = stats.t.interval(0.95, df, loc=0.53, scale=0.0007**0.5)
    assert found == pytest.approx((0.53, low, high, 2 * stats.t.sf(0.53 / 0.0007**0.5, df), df))


def test_sets_that_agree_leave_a_normal_interval() -> None:
    images = Interval(0.1, 0.1 - Z, 0.1 + Z)
    found = over_experts(images, [0.1, 0.1])
    assert found[:3] == pytest.approx(images, abs=1e-5)
    assert found.p == pytest.approx(2 * stats.norm.sf(0.1), abs=1e-5)
    assert over_experts(Interval(0, 0, 0), [0, 0]).p == 1
    assert over_experts(Interval(0.1, 0.1, 0.1), [0.1, 0.1]).p == 0


@pytest.mark.parametrize("sets", [2, 3, 5])
def test_experts_alone_give_students_interval(sets: int) -> None:
    values = np.random.default_rng(sets).normal(size=sets)
    mean = float(values.mean())
    found = over_experts(Interval(mean, mean, mean), values.tolist())
    expected = stats.ttest_1samp(values, 0)
    assert found[1:3] == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert (found.p, found.df) == pytest.approx((expected.pvalue, expected.df))


# -- score intervals


def test_score_interval_is_newcombes_square_and_add() -> None:
    """Fagerland, Lydersen & Laake 2014 (Statistics in Medicine 33:2850-2875), airway data."""
    first, second = np.zeros(21), np.zeros(21)
    first[[0, 1]], second[[0, *range(2, 9)]] = 1, 1  # 1 1 / 7 12
    found = score_interval([first], [second])
    assert found == pytest.approx((-6 / 21, -0.507, -0.026), abs=5e-4)
    reverse = score_interval([second], [first])
    assert reverse[1:] == pytest.approx((-found.high, -found.low))


def test_score_interval_without_correlation_is_that_of_two_samples() -> None:
    """Shares .5 and .5 on crossed halves: margins are roots of sums of Wilson's squares."""
    first = np.tile([1.0, 1.0, 0.0, 0.0], 5)
    second = np.tile([1.0, 0.0, 1.0, 0.0], 5)
    low, high = wilson(10, 20)
    expected = np.hypot(0.5 - low, high - 0.5)
    assert score_interval([first], [second]) == pytest.approx((0, -expected, expected))
    both = score_interval([first, first], [second, second])  # two tasks of the same kind
    assert both.high == pytest.approx(expected / 2**0.5)


def test_score_interval_covers_where_the_normal_one_does_not() -> None:
    rng = np.random.default_rng(0)
    truth, n = 0.02, 60
    hits = {"score": 0, "normal": 0}
    for _ in range(400):
        first = (rng.random(n) < 0.95).astype(float)
        second = first - (first > 0) * (rng.random(n) < truth / 0.95)
        for name, found in (("score", score_interval([first], [second])),
                            ("normal", paired_interval([first - second]))):  # fmt: skip
            hits[name] += found.low <= truth <= found.high
    assert hits["score"] / 400 >= 0.93
    assert hits["normal"] / 400 < 0.8


# -- several tests at once


def test_holm_by_hand() -> None:
    assert holm([]) == []
    assert holm([0.05]) == [True]
    assert holm([0.01, 0.02, 0.03]) == [True, True, True]  # .05/3, .05/2, .05
    assert holm([0.03, 0.04, 0.005]) == [False, False, True]  # .03 > .025: the rest with it
