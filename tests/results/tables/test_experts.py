"""Several sets of experts in tables: intervals over images and sets, and what is in bold."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mergeshift import UserError
from results.render.text import render, text
from results.statistics import FEW_DISCORDANT, effective_n, mean_interval, score_interval
from results.tables.comparison import Table, compare
from results.tables.grid import arrange
from results.tables.leaderboard import board
from results.tables.paired import NO_VERDICT, paired
from results.tables.ranking import ranking
from results.wandb.summaries import wide
from tests.helpers.result_frames import TASKS, hits_of, make_rows

CLEAN, L1 = ("clean", 0), ("contrast", 1)
SETS = (0, 1, 2)
METHODS = ("pretrained", "average", "task_arithmetic", "ties", "adamerging", "individual")


def of_set(expert_seed: int, methods: tuple[str, ...] = METHODS, **more: object) -> pd.DataFrame:
    """Rows of one set of experts: its answers are those that another seed would give."""
    rows = make_rows(methods, seeds=(expert_seed,), **{"shifts": [CLEAN], **more})
    return rows.assign(seed=0, expert_seed=expert_seed, seeded=False)


def of_sets(methods: tuple[str, ...] = METHODS, **more: object) -> pd.DataFrame:
    parts = [of_set(s, methods if s == 0 else methods[1:], **more) for s in SETS]
    return pd.concat(parts, ignore_index=True)  # pretrained: of the first alone


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return of_sets()


@pytest.fixture(scope="module")
def table(rows: pd.DataFrame) -> Table:
    return compare(rows)


def answers(method: str, shift: tuple[str, int] = CLEAN) -> np.ndarray:
    """``[K, T, N]``, as they are drawn."""
    seeds = (0, 0, 0) if method == "pretrained" else SETS
    return np.array([[hits_of(method, t, shift, s, 120) for t in TASKS] for s in seeds], float)


def limits(value: float, image_variance: float, sets: np.ndarray) -> tuple[float, float, float]:
    """Value and limits, by SciPy."""
    part = np.var(sets, ddof=1) / len(sets)
    likely = part * (len(sets) - 1) / stats.chi2.median(len(sets) - 1)
    df = (len(sets) - 1) * (1 + image_variance / likely) ** 2
    return value, *stats.t.interval(0.95, df, loc=value, scale=np.sqrt(image_variance + part))


# -- intervals


def test_the_interval_of_a_line_has_images_and_sets(table: Table) -> None:
    hits = answers("ties")
    scores = hits.mean(axis=0)  # [T, N]
    low, high = mean_interval(
        scores.mean(axis=1).tolist(), [effective_n(one, 3) for one in scores]
    )[1:]
    value, sets = hits.mean(), hits.mean(axis=(1, 2))
    cell = table.cells["ties", "clean"]
    assert cell.value == pytest.approx(value)
    for side, found in ((low, cell.low), (high, cell.high)):
        expected = limits(value, ((side - value) / stats.norm.ppf(0.975)) ** 2, sets)
        assert found == pytest.approx(expected[1 if side < value else 2])
    assert cell.low < low < high < cell.high
    assert cell.df > 2
    assert cell.spread == pytest.approx(np.std(sets, ddof=1))


def test_the_pretrained_model_is_of_every_set(table: Table) -> None:
    cell = table.cells["pretrained", "clean"]
    alone = compare(of_set(0)).cells["pretrained", "clean"]
    assert cell.interval == pytest.approx(alone.interval)
    assert np.isnan(cell.spread)


def test_paired_differences_have_images_and_sets(rows: pd.DataFrame) -> None:
    first, second = answers("adamerging"), answers("average")
    d = (first - second).mean(axis=0)  # [T, N]
    variance = np.sum(d.var(axis=1, ddof=1) / d.shape[1]) / len(TASKS) ** 2
    sets = (first - second).mean(axis=(1, 2))
    line = paired(rows, "adamerging", "average").loc["clean"]
    assert (line["difference"], line["low"], line["high"]) == pytest.approx(
        limits(d.mean(), variance, sets)
    )
    part = np.var(sets, ddof=1) / 3
    t = d.mean() / np.sqrt(variance + part)
    assert line["p"] == pytest.approx(2 * stats.t.sf(t, line["df"]))
    assert line["verdict"] == "adamerging"
    reverse = paired(rows, "average", "adamerging").loc["clean"]
    assert (reverse["p"], reverse["verdict"]) == (pytest.approx(line["p"]), "adamerging")


def test_one_set_gives_no_verdict() -> None:
    one = of_set(0)
    line = paired(one, "adamerging", "average").loc["clean"]
    assert line["low"] > 0
    assert line["verdict"] == NO_VERDICT
    assert np.isnan([line["p"], line["df"]]).all()
    found = compare(one)
    assert found.leaders == {}
    assert "alone" in found.notes["interval"]
    assert found.notes["verdict"].startswith("No verdict: one set of experts")
    assert "**" not in render(found, "md").split("\n", 1)[1]
    assert r"\textbf{7" not in render(found, "latex")


def test_sets_weigh_the_same_whatever_their_seeds() -> None:
    learned = [
        make_rows(["adamerging"], seeds=seeds, shifts=[CLEAN]).assign(expert_seed=s)
        for s, seeds in enumerate([(0, 1), (2,)])
    ]
    grid = arrange(pd.concat(learned, ignore_index=True))
    assert grid.seeds == ((0, 0), (1, 0), (2, 1))
    sets = [
        np.mean([hits_of("adamerging", t, CLEAN, s, 120) for s in seeds for t in TASKS])
        for seeds in ((0, 1), (2,))
    ]
    assert grid.set_values[0].mean(axis=(0, 1)) == pytest.approx(sets)
    assert grid.means.mean() == pytest.approx(np.mean(sets))
    scores = np.mean([grid.scores(0, t, [0]).mean() for t in range(len(TASKS))])
    assert scores == pytest.approx(np.mean(sets))


def test_few_images_that_differ_get_a_score_interval() -> None:
    both = of_sets(("pretrained", "task_arithmetic", "ties"), tasks=["mnist"])
    first, second = (answers(m)[:, 0].mean(axis=0) for m in ("ties", "task_arithmetic"))
    assert 0 < (first != second).sum() < FEW_DISCORDANT
    images = score_interval([first], [second], 3)
    line = paired(both, "ties", "task_arithmetic").loc["clean"]
    assert line["low"] < images.low < images.high < line["high"]


# -- what is set in bold


def test_leaders_are_the_best_and_what_is_not_significantly_below(
    rows: pd.DataFrame, table: Table
) -> None:
    """AdaMerging is 6 points better than the next; those and averaging lie 8 apart."""
    assert table.leaders["clean"] == {"adamerging"}
    lines = rows[rows["method"] != "adamerging"]
    assert compare(lines).leaders["clean"] == {"task_arithmetic", "ties"}
    assert compare(lines).leaders["normalised"] == {"task_arithmetic", "ties"}
    two = rows[rows["method"].isin(["pretrained", "ties", "individual"])]
    assert compare(two).leaders["clean"] == frozenset()  # nobody to compare with
    assert "fewer than two" in compare(two).notes["verdict"]


def test_lines_without_single_answers_are_compared_with_nothing(rows: pd.DataFrame) -> None:
    known = rows[rows["metric"] == "acc"].reset_index(drop=True)
    known.loc[known["method"] == "ties", "hits"] = [b""] * int((known["method"] == "ties").sum())
    found = compare(known)
    assert found.leaders["clean"] == frozenset()
    assert "not known of every method" in found.notes["verdict"]


def test_other_metrics_have_no_verdict(rows: pd.DataFrame) -> None:
    found = compare(rows, "nll")
    assert found.leaders == {}
    assert found.notes["verdict"].startswith("No verdict")


def test_every_format_shows_leaders_and_both_sources(rows: pd.DataFrame, table: Table) -> None:
    cell = table.cells["adamerging", "clean"]
    value, margin = f"{100 * cell.value:.1f}", f"{100 * cell.margin:.1f}"
    assert f"**{value}** \u00b1{margin} sd {100 * cell.spread:.1f}" in render(table, "md")
    assert rf"\textbf{{{value}}}" in render(table, "latex")
    assert f"\x1b[1m{value}" in text(table, 140, colour=True)
    for form in ("text", "md", "latex"):
        said = " ".join(render(table, form).replace("\\", "").split())
        assert "over 3 sets of experts (Student's t, " in said
        assert "Holm's correction" in said
        assert "between the 3 sets of experts" in said
    frame = table.frame().set_index(["entry", "column"])
    assert frame.loc[("adamerging", "clean"), "df"] == cell.df
    assert "df" in render(table, "csv").splitlines()[0].split(",")


# -- shares of what the experts reach


def weighted(weights: np.ndarray, shifts: list[tuple[str, int]], name: str) -> float:
    """A share of what experts reach, with every image counted ``weights[T, N]`` times."""

    def means(method: str, shift: tuple[str, int]) -> np.ndarray:  # [T]
        return (answers(method, shift).mean(axis=0) * weights).sum(axis=1) / weights.sum(axis=1)

    if name == "recovered":
        low, one, high = (np.mean([means(m, s) for s in shifts]) for m in
                          ("pretrained", "ties", "individual"))  # fmt: skip
        return float((one - low) / (high - low))
    below = CLEAN if name == "normalised" else None
    ratios = [means("ties", s) / means("individual", below or s) for s in shifts]
    return float(np.mean(ratios))


@pytest.mark.parametrize("name", ["normalised", "retention", "recovered"])
def test_shares_have_the_variance_that_counting_an_image_more_often_shows(name: str) -> None:
    """Their derivatives by numbers: of each image's weight (infinitesimal jackknife)."""
    table = compare(of_sets(shifts=[CLEAN, L1]))
    shifts, ones, h = [L1] if name == "retention" else [CLEAN], np.ones((len(TASKS), 120)), 1e-4
    value = weighted(ones, shifts, name)
    slopes = np.zeros_like(ones)
    for t in range(len(TASKS)):
        for i in range(0, 120, 3):  # every third is enough of a check, and counted thrice
            more = ones.copy()
            more[t, i] += h
            slopes[t, i] = (weighted(more, shifts, name) - value) / h
    variance = 3 * np.sum(slopes**2)
    sets = {
        "recovered": lambda p, a, i: (a.mean() - p.mean()) / (i.mean() - p.mean()),
        "normalised": lambda p, a, i: (a.mean(axis=1) / i.mean(axis=1)).mean(),
        "retention": lambda p, a, i: (a.mean(axis=1) / i.mean(axis=1)).mean(),
    }[name]
    by_set = np.array([sets(*lines) for lines in zip(
        *(answers(m, shifts[0]) for m in ("pretrained", "ties", "individual")), strict=True
    )])  # fmt: skip
    found = table.limits["ties", name]
    expected = limits(value, variance, by_set)
    assert found.value == table.summary[name]["ties"] == pytest.approx(value)
    assert found.high - found.low == pytest.approx(expected[2] - expected[1], rel=0.12)


def test_recovered_is_0_for_the_floor_and_1_for_the_experts(table: Table) -> None:
    shares = table.summary["recovered"]
    assert (shares["pretrained"], shares["individual"]) == (0, 1)
    assert table.limits["individual", "recovered"].margin == pytest.approx(0)
    low, one, high = (table.cells[m, "clean"].value for m in ("pretrained", "ties", "individual"))
    assert shares["ties"] == pytest.approx((one - low) / (high - low))
    assert table.cells["ties", "clean"].recovered == shares["ties"]


def test_recovered_needs_both_ends(rows: pd.DataFrame) -> None:
    for end in ("pretrained", "individual"):
        found = compare(rows[rows["method"] != end])
        assert "recovered" not in found.summary
        assert np.isnan(found.cells["ties", "clean"].recovered)


def test_recovered_is_in_every_door(rows: pd.DataFrame, table: Table) -> None:
    limits = table.limits["ties", "recovered"]
    printed = f"{100 * limits.value:.1f}", f"{100 * limits.margin:.1f}"
    assert "{} \u00b1{}".format(*printed) in render(table, "md")
    assert r"{}\,{{\scriptsize $\pm${}}}".format(*printed) in render(table, "latex")
    assert "Recovered: share of the gap" in " ".join(render(table, "text").split())
    line = wide(table).set_index("method").loc["TIES-Merging"]
    assert line["Recovered"] == pytest.approx(100 * limits.value)
    assert line["Recovered +-"] == pytest.approx(100 * limits.margin)
    line = board(table, rows, {}).set_index("method").loc["TIES-Merging"]
    assert line["Recovered low"] == pytest.approx(100 * limits.low)


def test_the_leaderboard_says_who_leads_and_the_mean_rank(rows: pd.DataFrame, table: Table) -> None:
    lines = board(table, rows, {}).set_index("method")
    assert lines.loc["AdaMerging", "leads"].split(", ")[0] == "clean"
    assert lines.loc["Weight Averaging", "leads"] == ""
    expected = ranking(rows).mean_ranks
    assert lines.loc["AdaMerging", "mean rank"] == expected["adamerging"]
    assert np.isnan(lines.loc["Individual", "mean rank"])
    assert "leads" not in board(compare(of_set(0)), of_set(0), {})


def test_recovered_columns_of_csv(table: Table) -> None:
    head = render(table, "csv").splitlines()[0].split(",")
    assert {"recovered", "recovered_low", "recovered_high"} <= set(head)


def test_a_line_of_one_set_is_refused_beside_lines_of_three(rows: pd.DataFrame) -> None:
    lacking = (rows["method"] == "ties") & (rows["expert_seed"] > 0)
    with pytest.raises(UserError, match=r"ties lacks 8 of 12 cells, .* expert_seed=1"):
        compare(rows[~lacking])
