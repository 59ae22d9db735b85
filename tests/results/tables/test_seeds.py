"""Seeds in tables: what does not depend on one is measured once; the others have a spread."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mergeshift import UserError
from results.render.text import render, text
from results.schema import COLUMNS, check
from results.store import Store
from results.tables.comparison import compare
from results.tables.grid import arrange
from results.tables.paired import paired
from results.wandb.summaries import wide
from tests.helpers.result_frames import TASKS, hits_of, make_rows

CLEAN = [("clean", 0)]
SEEDS = (0, 1, 2)


def fixed(methods: list[str], seed: int = 0, **overrides: object) -> pd.DataFrame:
    return make_rows(methods, seeds=(seed,), seeded=False, **{"shifts": CLEAN, **overrides})


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    learned = make_rows(["adamerging"], seeds=SEEDS, shifts=CLEAN)
    return pd.concat([fixed(["average", "individual"]), learned], ignore_index=True)


def means(seeds: tuple[int, ...] = SEEDS) -> list[float]:
    """Clean accuracy of adamerging, seed by seed."""
    return [
        float(np.mean([hits_of("adamerging", task, CLEAN[0], seed, 120).mean() for task in TASKS]))
        for seed in seeds
    ]


# -- one seed for all


def test_what_does_not_depend_on_its_seed_stands_for_every_seed(rows: pd.DataFrame) -> None:
    grid = arrange(rows)
    assert grid.seeds == ((0, 0), (1, 0), (2, 0))
    average = grid.values[grid.position("average")]  # [T, S, R]
    assert (average == average[..., :1]).all()
    assert [entry.seeded for entry in grid.entries] == [False, True, False]
    table = compare(rows)
    assert table.cells["adamerging", "clean"].value == pytest.approx(np.mean(means()))
    once = compare(fixed(["average", "individual"]))
    for method in ("average", "individual"):
        assert table.cells[method, "clean"][:3] == pytest.approx(once.cells[method, "clean"][:3])


def test_it_is_paired_with_the_mean_over_seeds(rows: pd.DataFrame) -> None:
    differences = []
    for task in TASKS:
        learned = np.mean([hits_of("adamerging", task, CLEAN[0], s, 120) for s in SEEDS], axis=0)
        differences.append(learned - hits_of("average", task, CLEAN[0], 0, 120))
    found = paired(rows, "adamerging", "average").loc["clean"]
    assert found["difference"] == pytest.approx(np.mean([d.mean() for d in differences]))
    error = np.sqrt(sum(d.var(ddof=1) / 120 for d in differences)) / len(TASKS)
    assert found["high"] - found["difference"] == pytest.approx(1.959964 * error, rel=1e-5)


def test_its_own_seed_need_not_be_among_theirs() -> None:
    learned = make_rows(["adamerging"], seeds=(1, 2), shifts=CLEAN)
    rows = pd.concat([fixed(["average"]), learned], ignore_index=True)
    assert arrange(rows).seeds == ((1, 0), (2, 0))
    assert compare(rows).cells["adamerging", "clean"].value == pytest.approx(np.mean(means((1, 2))))


def test_two_measured_for_different_seeds_stand_beside_each_other() -> None:
    rows = pd.concat([fixed(["average"]), fixed(["ties"], seed=5)], ignore_index=True)
    alone = compare(fixed(["ties"], seed=5)).cells["ties", "clean"].value
    assert compare(rows).cells["ties", "clean"].value == alone


def test_other_experts_are_another_thing(rows: pd.DataFrame) -> None:
    more = make_rows(["adamerging"], seeds=(0,), shifts=CLEAN, expert_seed=1)
    with pytest.raises(UserError, match=r"average lacks 4 of 16 .* seed=0 expert_seed=1"):
        compare(pd.concat([rows, more], ignore_index=True))


def test_a_method_that_depends_on_its_seed_needs_all_of_them(rows: pd.DataFrame) -> None:
    once = make_rows(["ties"], shifts=CLEAN)  # seed 0 alone
    with pytest.raises(UserError, match=r"ties lacks 8 of 12 cells, .* seed=1"):
        compare(pd.concat([rows, once], ignore_index=True))


def test_a_shift_that_was_not_measured_is_still_refused(rows: pd.DataFrame) -> None:
    more = make_rows(["adamerging"], seeds=SEEDS, shifts=[("contrast", 1)])
    with pytest.raises(UserError, match=r"average lacks 12 of 24 .* shift=contrast@1"):
        compare(pd.concat([rows, more], ignore_index=True))


# -- spread


def test_spread_is_the_standard_deviation_over_seeds_of_the_mean(rows: pd.DataFrame) -> None:
    table = compare(rows)
    assert table.cells["adamerging", "clean"].spread == pytest.approx(np.std(means(), ddof=1))
    assert np.isnan(table.cells["average", "clean"].spread)  # nothing is seen of a spread
    assert np.isnan(compare(fixed(["average"])).cells["average", "clean"].spread)
    (one,) = set(make_rows(["ties"], shifts=CLEAN)["seed"])
    assert one == 0
    assert np.isnan(compare(make_rows(["ties"], shifts=CLEAN)).cells["ties", "clean"].spread)


def test_two_seeds_by_hand() -> None:
    """Tasks at 0.5 and 0.7 for seed 0, 0.6 and 0.8 for seed 1: means 0.6 and 0.7, sd 0.0707."""
    rows = make_rows(["ties"], ["mnist", "letters"], CLEAN, seeds=(0, 1), n=10)
    rows = rows[rows["metric"] == "nll"]
    rows = rows.assign(value=[0.5, 0.7, 0.6, 0.8])
    cell = compare(rows, "nll").cells["ties", "clean"]
    assert cell.value == pytest.approx(0.65)
    assert cell.spread == pytest.approx(0.1 / np.sqrt(2))


def test_sets_of_experts_spread_what_has_no_seed() -> None:
    parts = [fixed(["average"]), fixed(["average"], expert_seed=1)]
    rows = pd.concat(parts, ignore_index=True)
    rows.loc[(rows["expert_seed"] == 1) & (rows["metric"] == "nll"), "value"] += 0.5
    cell = compare(rows, "nll").cells["average", "clean"]
    assert cell.spread == pytest.approx(0.5 / np.sqrt(2))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_spread_is_printed_and_explained(width: int) -> None:
    shifts = [*CLEAN, ("contrast", 1)]
    learned = make_rows(["adamerging"], seeds=SEEDS, shifts=shifts)
    rows = pd.concat([fixed(["average"], shifts=shifts), learned], ignore_index=True)
    table = compare(rows)
    written = text(table, width)
    spread = f"sd {100 * table.cells['adamerging', 'clean'].spread:.1f}"
    assert spread in written
    assert max(map(len, written.splitlines())) <= width
    assert "do not depend on the seed" in " ".join(written.split())
    assert written.count("sd ") == 2  # of adamerging alone, in two columns


def test_spread_is_in_every_format(rows: pd.DataFrame) -> None:
    table = compare(rows)
    spread = table.cells["adamerging", "clean"].spread
    assert f"sd {100 * spread:.1f}" in render(table, "md")
    assert f"sd~{100 * spread:.1f}" in render(table, "latex")
    assert "sd: standard deviation of this mean over seeds" in render(table, "latex")
    header, *lines = [line.split(",") for line in render(table, "csv").splitlines()]
    found = {line[header.index("entry")]: line[header.index("spread")] for line in lines}
    assert float(found["adamerging"]) == pytest.approx(100 * spread)
    assert found["average"] == ""
    line = wide(table).set_index("method").loc["AdaMerging"]
    assert line["clean sd"] == pytest.approx(100 * spread)


def test_one_seed_says_nothing_of_spread() -> None:
    table = compare(make_rows(["ties", "average"], shifts=CLEAN))
    assert "spread" not in table.notes
    for form in ("text", "md", "latex"):
        assert "sd" not in render(table, form).replace("pdf", "")


# -- rows of before there was the column


def test_rows_without_the_column_are_seeded_if_they_saw_data() -> None:
    rows = make_rows(["average", "adamerging"], shifts=CLEAN).drop(columns="seeded")
    checked = check(rows)
    assert list(checked) == list(COLUMNS)
    assert checked.groupby("method")["seeded"].first().to_dict() == {
        "adamerging": True,
        "average": False,
    }


def test_files_without_the_column_are_read_beside_new_ones(tmp_path) -> None:
    store = Store(tmp_path)
    old = make_rows(["average"], shifts=CLEAN)
    run = old["run_id"][0]
    path = store.write(run, "clean", old)
    table = pa.Table.from_pandas(old.drop(columns="seeded"), preserve_index=False)
    pq.write_table(table, path, write_page_checksum=True)
    new = make_rows(["adamerging"], seeds=SEEDS, shifts=CLEAN)
    for run_id, part in new.groupby("run_id"):
        store.write(str(run_id), "clean", part)
    read = store.read()
    assert list(read) == list(COLUMNS)
    assert read.groupby("method")["seeded"].first().to_dict() == {
        "adamerging": True,
        "average": False,
    }
    assert compare(read).cells["average", "clean"].value > 0


# -- what a method was adapted on


@pytest.mark.parametrize(
    ("adapt_on", "name", "said"),
    [
        ("adapt", "AdaMerging", "adapts on held-out clean images"),
        ("test", "AdaMerging (transductive)", "adapts on the clean test images"),
        ("shifted", "AdaMerging (adapted per shift)", "adapts on the shifted test images"),
    ],
)
@pytest.mark.parametrize("form", ["text", "md", "latex", "csv"])
def test_every_table_says_what_was_adapted_on(
    adapt_on: str, name: str, said: str, form: str
) -> None:
    learned = make_rows(["adamerging"], shifts=CLEAN, adapt_on=adapt_on)
    table = compare(pd.concat([fixed(["average"]), learned], ignore_index=True))
    written = " ".join(render(table, form).split())
    plain = written.replace("\\", "")
    assert said in plain
    mark = {"text": "\u2020", "md": "\u2020", "latex": r"$^{\dagger}$", "csv": ","}[form]
    assert f"{name}{mark}" in written
    if form == "csv":
        assert f",{adapt_on},data used" in written.replace('"', "")


def test_reading_the_test_stream_is_transductive_whatever_is_adapted_on() -> None:
    rows = make_rows(["adamerging"], shifts=CLEAN, needs="unlabelled images, test stream")
    (entry,) = compare(rows).entries
    assert entry.title == "AdaMerging (transductive)"


def test_two_ways_to_adapt_are_two_lines() -> None:
    parts = [
        make_rows(["adamerging"], shifts=CLEAN, adapt_on=on, run_id=f"ada-{on}")
        for on in ("adapt", "test")
    ]
    titles = [entry.title for entry in compare(pd.concat(parts, ignore_index=True)).entries]
    assert titles == [
        "AdaMerging [adapted on adapt]", "AdaMerging [adapted on test] (transductive)"
    ]  # fmt: skip


def test_the_oracle_router_is_a_reference() -> None:
    rows = pd.concat([
        make_rows(["ties"], shifts=CLEAN, method="oracle_router", title="Oracle Router",
                  run_id="oracle"),
        make_rows(["pretrained", "average", "ties", "adamerging", "individual"], shifts=CLEAN),
    ], ignore_index=True)  # fmt: skip
    table = compare(rows)
    assert [entry.key for entry in table.entries][-2:] == ["oracle_router", "individual"]
    assert set(table.printed_ranks("clean")) == {"adamerging", "ties"}
