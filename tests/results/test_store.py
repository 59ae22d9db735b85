"""The row schema, the store of finished cells, and the choice of rows and columns."""

import numpy as np
import pandas as pd
import pytest

from corruptions.base import PROTOCOL, ShiftName
from mergeshift import DamagedFileError, UserError
from results.schema import COLUMNS, check, pack, unpack
from results.store import Store
from results.tables.columns import spans
from results.tables.grid import arrange
from tests.helpers.result_frames import make_rows

CLEAN = (("clean", 0),)


@pytest.fixture
def rows() -> pd.DataFrame:
    return make_rows(["ties"], ["mnist", "letters"], CLEAN, n=10)


# -- schema


@pytest.mark.parametrize("n", [1, 7, 8, 9, 500])
def test_hits_survive_packing(n: int) -> None:
    hits = np.random.default_rng(n).random(n) < 0.5
    assert len(pack(hits)) == -(-n // 8)
    assert unpack(pack(hits), n).tolist() == hits.tolist()


def test_check_orders_columns_and_types(rows: pd.DataFrame) -> None:
    messy = rows[list(reversed(COLUMNS))].assign(limit=None, severity=np.int8(0))
    checked = check(messy)
    assert list(checked) == list(COLUMNS)
    assert checked["limit"].tolist() == [0] * len(rows)
    assert checked["severity"].dtype == np.int64


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("metric", "acc1", "no metric named 'acc1'; did you mean 'acc'"),
        ("severity", 3, "what corrupts nothing .clean, prior, domain:NAME. has severity 0"),
        ("severity", "0.5", "column 'severity' holds integers"),
        ("n", 0, "n is at least one image"),
        ("value", np.inf, "value is a finite number"),
        ("value", 0.99, "hits are n bits and their share is the value"),
        ("hits", b"\xff", "hits are n bits|only acc, oracle_acc, attack_rate carry hits"),
        ("tuned", "no", "column 'tuned' holds truths"),
        ("title", None, "column 'title' has 6 missing values"),
    ],
)
def test_check_refuses_rows_that_contradict_themselves(
    rows: pd.DataFrame, column: str, value: object, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        check(rows.assign(**{column: [value] * len(rows)}))


def test_check_names_missing_and_unknown_columns(rows: pd.DataFrame) -> None:
    with pytest.raises(UserError, match=r"missing \['suite'\], unknown \['sweet'\]"):
        check(rows.rename(columns={"suite": "sweet"}))


def test_published_numbers_need_no_hits(rows: pd.DataFrame) -> None:
    published = rows[rows["metric"] == "acc"].assign(hits=[b"", b""], value=0.123)
    assert check(published)["value"].tolist() == [0.123, 0.123]


# -- store


def test_store_gives_back_what_was_written(tmp_path, rows: pd.DataFrame) -> None:
    store = Store(tmp_path)
    run_id = rows["run_id"][0]
    assert not store.has(run_id, "clean")
    path = store.write(run_id, "clean", rows)
    assert path == tmp_path / "cells" / run_id / "clean.parquet"
    assert store.has(run_id, "clean")
    assert store.run_ids() == [run_id]
    assert store.shift_keys(run_id) == ["clean"]
    pd.testing.assert_frame_equal(store.read(), rows, check_dtype=False)
    assert [p.name for p in path.parent.iterdir()] == ["clean.parquet"]  # no temporary file is left


def test_store_reads_the_runs_asked_for(tmp_path) -> None:
    store = Store(tmp_path)
    for method in ("ties", "average"):
        for shift in (("clean", 0), ("contrast", 3)):
            part = make_rows([method], ["mnist"], [shift], n=10)
            store.write(part["run_id"][0], shift[0], part)
    assert len(store.read()) == 12
    assert set(store.read(["pocket8-ties-0"])["method"]) == {"ties"}
    with pytest.raises(UserError, match="run `python -m bench sweep` first"):
        store.read(["pocket8-nothing-0"])


def test_store_refuses_rows_of_another_run_or_of_two_shifts(tmp_path, rows: pd.DataFrame) -> None:
    store = Store(tmp_path)
    with pytest.raises(UserError, match="cannot be saved as run 'other'"):
        store.write("other", "clean", rows)
    two = make_rows(["ties"], ["mnist"], [("clean", 0), ("contrast", 3)], n=10)
    with pytest.raises(UserError, match="one file holds one shift"):
        store.write("pocket8-ties-0", "clean", two)
    assert not store.has("other", "clean")
    assert not store.has("pocket8-ties-0", "clean")


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "foreign"])
def test_store_names_a_damaged_file(tmp_path, rows: pd.DataFrame, damage: str) -> None:
    store = Store(tmp_path)
    path = store.write(rows["run_id"][0], "clean", rows)
    whole = path.read_bytes()
    if damage == "foreign":  # a file copied from another run's folder
        (target := tmp_path / "cells" / "pocket8-other-0" / "clean.parquet").parent.mkdir()
        path = path.rename(target)
    elif damage == "flipped":  # one bit inside a page of data
        path.write_bytes(whole[:60] + bytes([whole[60] ^ 1]) + whole[61:])
    else:
        path.write_bytes(whole[: len(whole) // 2] if damage == "truncated" else b"")
    with pytest.raises(DamagedFileError, match=rf"{path}.*`--force` measures it again"):
        store.read()
    assert store.damaged() == [path]


def test_store_keeps_facts_of_the_run_apart(tmp_path) -> None:
    store = Store(tmp_path)
    facts = {"merge_s": 1.5, "tuning": {"grid": {"scale": [0.1, 0.3]}, "choice": {"scale": 0.3}}}
    store.write_run("pocket8-ties-0", facts)
    assert store.run("pocket8-ties-0") == facts
    assert store.run_ids() == []  # facts alone are no measurement
    with pytest.raises(UserError, match=r"no .*run\.json"):
        store.run("pocket8-average-0")
    (tmp_path / "cells" / "pocket8-ties-0" / "run.json").write_text('{"merge_s": 1')
    with pytest.raises(DamagedFileError, match=r"run\.json is damaged"):
        store.run("pocket8-ties-0")


# -- choosing rows and columns


def test_columns_by_shift_collapse_whole_levels_only() -> None:
    level = [(name, 1) for name in PROTOCOL]
    rows = make_rows(["ties"], ["mnist"], [*level, *CLEAN, ("contrast", 3), ("fog", 2)], n=10)
    grid = arrange(rows)
    assert grid.shifts[:3] == (
        ShiftName("clean", 0),
        ShiftName("motion_blur", 1),
        ShiftName("impulse_noise", 1),
    )
    columns = spans(grid, "shift")
    assert list(columns) == ["clean", "L1", "contrast@3", "fog@2"]
    assert {str(grid.shifts[i]) for i in columns["L1"].shifts} == {f"{n}@1" for n in PROTOCOL}


@pytest.mark.parametrize(
    ("shift", "cells"),
    [("contrast", {"contrast@5", "contrast@2"}), ("contrast@5", {"contrast@5"}),
     ("L2", {f"{name}@2" for name in PROTOCOL}), ("clean", {"clean"})],
)  # fmt: skip
def test_columns_by_task_are_under_the_shifts_that_are_named(shift: str, cells: set[str]) -> None:
    shifts = [*CLEAN, *((name, 2) for name in PROTOCOL), ("contrast", 5)]
    grid = arrange(make_rows(["ties"], ["mnist", "letters"], shifts, n=10))
    columns = spans(grid, "task", shift)
    assert list(columns) == ["mnist", "letters", "mean"]
    assert [one.tasks for one in columns.values()] == [(0,), (1,), (0, 1)]
    for span in columns.values():
        assert {str(grid.shifts[i]) for i in span.shifts} == cells


@pytest.mark.parametrize(
    ("shift", "message"),
    [
        ("contrst@5", "no measured shift named 'contrst@5'; did you mean 'contrast@5'"),
        ("L3", "L3 needs 7 shifts; 7 were not measured, e.g. motion_blur@3"),
    ],
)
def test_a_shift_that_was_not_measured_is_refused(shift: str, message: str) -> None:
    grid = arrange(make_rows(["ties"], ["mnist"], [*CLEAN, ("contrast", 5)], n=10))
    with pytest.raises(UserError, match=message):
        spans(grid, "task", shift)


def test_columns_refuse_to_average_over_different_corruptions() -> None:
    shifts = [*CLEAN, ("contrast", 1), ("contrast", 3), ("fog", 1)]
    grid = arrange(make_rows(["ties"], ["mnist"], shifts, n=10))
    with pytest.raises(UserError, match=r"severity 3 lacks 1 of 2 .* e\.g\. fog"):
        spans(grid, "severity")
    with pytest.raises(UserError, match=r"fog lacks 1 of 2 .* e\.g\. severity 3"):
        spans(grid, "corruption")
    with pytest.raises(UserError, match="no table by 'colour'; choose one of shift, seen, task"):
        spans(grid, "colour")
