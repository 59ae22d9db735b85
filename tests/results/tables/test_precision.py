"""Numbers that were measured in bf16 say so, wherever they stand."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mergeshift import UserError
from results.render.text import FORMATS, render
from results.store import Store
from results.tables.comparison import compare
from tests.helpers.result_frames import make_rows

CLEAN = [("clean", 0)]
SAID = "Evaluated in bf16, not float32."


@pytest.mark.parametrize("form", FORMATS)
def test_a_table_says_it_in_every_format(form):
    half, full = make_rows(precision="bf16"), make_rows()
    assert ("bf16" in render(compare(half), form)) is True
    assert ("bf16" in render(compare(full), form)) is False


def test_it_stands_behind_the_images():
    assert compare(make_rows(precision="bf16")).notes["images"].endswith(f" {SAID}")
    assert SAID not in str(compare(make_rows()).notes)


def test_two_precisions_are_not_compared():
    rows = make_rows(["average", "ties"], shifts=CLEAN)
    rows.loc[rows["method"] == "ties", "precision"] = "bf16"
    with pytest.raises(UserError, match=r"under one precision; got 2 \(bf16, float32\)"):
        compare(rows)


@pytest.mark.parametrize(("facts", "found"), [
    ({"run": {"precision": "bf16"}}, "bf16"),
    ({"run": {"precision": ""}}, "float32"),
    ({"run": {}}, "float32"),  # of before there was a choice
    (None, "float32"),
])  # fmt: skip
def test_rows_of_before_the_column_take_it_from_their_run(facts, found, tmp_path):
    store, rows = Store(tmp_path), make_rows(["average"], shifts=CLEAN)
    run = rows["run_id"][0]
    path = store.write(run, "clean", rows)
    old = pa.Table.from_pandas(rows.drop(columns="precision"), preserve_index=False)
    pq.write_table(old, path, write_page_checksum=True)
    if facts is not None:
        store.write_run(run, facts)
    assert set(store.read()["precision"]) == {found}
