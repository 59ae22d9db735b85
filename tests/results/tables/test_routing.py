"""What routed methods add: their metrics, the split of their errors, and where images go."""

import csv
import io
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest

from mergeshift import UserError
from results.render.text import render, text, write_latex
from results.schema import METRICS, check, pack
from results.tables.comparison import compare
from results.tables.paired import paired
from results.tables.routing import ErrorDecomposition, breakdown
from tests.helpers.result_frames import TASKS, hits_of, make_rows
from tests.helpers.routed_frames import ROUTED, routed_rows, weights_of

CLEAN = [("clean", 0)]
LEVELS = ("clean", "L1", "L2", "L3")


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    plain = make_rows(["pretrained", "ties", "individual"], seeds=(0, 1))
    fixed = plain["method"] != "ties"
    plain = pd.concat([plain[~fixed], plain[fixed & (plain["seed"] == 0)].assign(seeded=False)])
    return pd.concat([plain, routed_rows(seeds=(0, 1))], ignore_index=True)


@pytest.fixture(scope="module")
def split(rows: pd.DataFrame) -> ErrorDecomposition:
    return breakdown(rows)


# -- metrics


def test_every_route_has_a_metric() -> None:
    assert METRICS["route:mnist"].title == "Mean weight on the route mnist"
    assert METRICS["route:null"].scale == 100
    assert "route:*" in list(METRICS)
    with pytest.raises(UserError, match="no metric named 'route_ac'; did you mean 'route_acc'"):
        METRICS["route_ac"]
    with pytest.raises(UserError, match="no metric named 'route:'"):
        METRICS["route:"]


def test_a_table_of_a_metric_that_routed_methods_have_shows_these(rows: pd.DataFrame) -> None:
    table = compare(rows, "route_acc")
    assert [entry.key for entry in table.entries] == list(ROUTED)
    found = rows[(rows["metric"] == "route_acc") & (rows["method"] == "twin_merging")]
    clean = found[found["severity"] == 0]["value"].mean()
    assert table.cells["twin_merging", "clean"].value == pytest.approx(clean)
    assert table.cells["twin_merging", "clean"].margin > 0
    assert table.printed_ranks("clean").keys() == set(ROUTED)
    assert "routing accuracy in %, higher is better" in text(table).lower()


def test_more_entropy_is_neither_better_nor_worse(rows: pd.DataFrame) -> None:
    table = compare(rows, "route_entropy")
    assert table.printed_ranks("clean") == {}
    assert "is better" not in " ".join(table.notes.values())
    assert "verdict" not in table.notes


def test_weights_on_a_route_by_true_task(rows: pd.DataFrame) -> None:
    table = compare(rows, "route:mnist", by="task")
    for task in TASKS:
        mean = np.mean([weights_of("twin_merging", task, CLEAN[0], s, TASKS)[0] for s in (0, 1)])
        assert table.cells["twin_merging", task].value == pytest.approx(mean)


def test_only_accuracies_carry_hits(rows: pd.DataFrame) -> None:
    oracle = rows[rows["metric"] == "oracle_acc"]
    assert len(check(oracle)) == len(oracle)
    with pytest.raises(UserError, match="hits are n bits and their share is the value"):
        check(oracle.assign(value=0.123))
    with pytest.raises(UserError, match="only acc, oracle_acc, attack_rate carry hits"):
        check(oracle.assign(metric="route_acc"))


# -- the split of errors


def test_four_images_by_hand() -> None:
    """Individual 4 of 4 right, the oracle 3, the method 1.

    So: error 75 % = expert 0 + compression 25 + routing 50. Few images differ, so margins are
    roots of sums of squared distances from Wilson's limits (4 of 4: .510 to 1, 3 of 4: .301 to
    .954, 1 of 4: .046 to .699): no correlation is left. Below compression (1 - .510, .954 - .75).
    """
    answers = {
        ("individual", "acc"): [1, 1, 1, 1],
        ("twin_merging", "acc"): [1, 0, 0, 0],
        ("twin_merging", "oracle_acc"): [1, 1, 1, 0],
    }
    parts = [make_rows(["individual"], ["mnist"], CLEAN, n=4),
             routed_rows(["twin_merging"], ["mnist"], CLEAN, n=4)]  # fmt: skip
    rows = pd.concat(parts, ignore_index=True)
    for (method, metric), hits in answers.items():
        where = (rows["method"] == method) & (rows["metric"] == metric)
        rows.loc[where, ["value", "hits"]] = [np.mean(hits), pack(np.array(hits))]
    rows.loc[rows["metric"] == "route_acc", "value"] = 0.5
    found = breakdown(rows).losses["twin_merging", "clean"]
    values = (found.accuracy.value, found.error.value, found.expert.value, found.route_acc)
    assert values == (0.25, 0.75, 0.0, 0.5)
    assert found.compression == pytest.approx((0.25, 0.25 - 0.53083, 0.25 + 0.44936), abs=1e-4)
    assert found.routing == pytest.approx((0.5, 0.5 - 0.63549, 0.5 + 0.28905), abs=1e-4)
    line = render(breakdown(rows), "md").splitlines()[4]
    # Wilson, 1 of 4: [0.046, 0.699], so 44.9 and 20.4; 4 of 4: [0.510, 1], so 49.0
    assert line == (
        "| Twin-Merging | clean | 25.0 +44.9/-20.4 | 75.0 | 0.0 +49.0/-0.0 | 25.0 +44.9/-53.1 | "
        "50.0 +28.9/-63.5 | 50.0 |"
    )


def test_parts_add_up_to_the_error(split: ErrorDecomposition) -> None:
    assert [entry.key for entry in split.entries] == list(ROUTED)
    assert split.columns == LEVELS
    for found in split.losses.values():
        parts = found.expert.value + found.compression.value + found.routing.value
        assert found.error.value == pytest.approx(parts, abs=1e-12)
        assert found.error.value == pytest.approx(1 - found.accuracy.value)
    assert split.losses["centroid_router", "L2"].compression == (0, 0, 0)  # its oracle is an expert


def test_parts_are_paired_differences_of_the_tables(
    rows: pd.DataFrame, split: ErrorDecomposition
) -> None:
    oracle = rows[(rows["metric"] == "oracle_acc") & (rows["method"] == "twin_merging")]
    named = pd.concat([rows, oracle.assign(method="oracle", metric="acc")], ignore_index=True)
    accuracy, routed = compare(rows), compare(rows, "route_acc")
    for part, pair in (("compression", ("individual", "oracle")),
                       ("routing", ("oracle", "twin_merging"))):  # fmt: skip
        for column, line in paired(named, *pair).iterrows():
            found = getattr(split.losses["twin_merging", str(column)], part)
            assert found == pytest.approx(tuple(line[["difference", "low", "high"]]), abs=1e-12)
    for column in LEVELS:
        found = split.losses["twin_merging", column]
        assert found.accuracy == accuracy.cells["twin_merging", column][:3]
        assert found.expert.value == 1 - accuracy.cells["individual", column].value
        assert found.route_acc == routed.cells["twin_merging", column].value


def test_other_shifts_have_their_own_column_and_routing_accuracy_may_be_unknown() -> None:
    shifts = [*CLEAN, ("contrast", 5)]
    routed = routed_rows(["twin_merging"], shifts=shifts)
    rows = pd.concat([make_rows(["individual"], shifts=shifts), routed], ignore_index=True)
    found = breakdown(rows[rows["metric"] != "route_acc"])
    assert found.columns == ("clean", "contrast@5")
    assert np.isnan(found.losses["twin_merging", "contrast@5"].route_acc)
    assert text_of(found).splitlines()[6].split()[-1] == "-"


def test_variants_of_a_method_keep_their_own_oracle() -> None:
    parts = [make_rows(["individual"], shifts=CLEAN)]
    parts += [
        routed_rows(["twin_merging"], shifts=CLEAN, config=f'{{"share": {share}}}',
                    run_id=f"twin-{share}")
        for share in (0.1, 0.2)
    ]  # fmt: skip
    found = breakdown(pd.concat(parts, ignore_index=True))
    keys = [entry.key for entry in found.entries]
    assert keys == ["twin_merging [share=0.1]", "twin_merging [share=0.2]"]
    assert found.losses[keys[0], "clean"] == found.losses[keys[1], "clean"]


def test_what_the_split_needs(rows: pd.DataFrame) -> None:
    with pytest.raises(UserError, match=r"no routed method here .* add e\.g\. oracle_router"):
        breakdown(rows[~rows["method"].isin(ROUTED)])
    with pytest.raises(UserError, match="individual, which was not measured; add it to the sweep"):
        breakdown(rows[rows["method"] != "individual"])
    gone = (rows["method"] == "individual") & (rows["severity"] == 0)
    with pytest.raises(UserError, match=r"individual lacks 8 of 176 cells, e\.g\. task=mnist"):
        breakdown(rows[~gone])  # 4 tasks x 2 seeds


# -- formats


def text_of(table: ErrorDecomposition) -> str:
    return render(table, "text")


@pytest.mark.parametrize("form", ["text", "md", "latex"])
def test_every_format_prints_every_number(split: ErrorDecomposition, form: str) -> None:
    written = render(split, form)
    for found in split.losses.values():
        for part in (found.accuracy, found.expert, found.compression, found.routing):
            assert f"{abs(100 * part.value):.1f}" in written
        assert f"{100 * found.error.value:.1f}" in written
        assert f"{100 * found.route_acc:.1f}" in written
    for word in (
        "Twin-Merging",
        "Centroid Router",
        "pocket (small ViT, 32 px; not CLIP)",
        "120 images",
        "paired for",
    ):
        assert word in written
    assert written.count("\u00b1") == 0 if form == "latex" else "\u00b1" in written


def test_text_fits_a_terminal(split: ErrorDecomposition) -> None:
    assert max(map(len, text_of(split).splitlines())) <= 100
    lines = text_of(split).splitlines()
    at = lines.index("Twin-Merging")  # named once, above all its columns
    for line, column in zip(lines[at + 1 :], split.columns, strict=False):
        accuracy = split.losses["twin_merging", column].accuracy.value
        assert line.split()[:2] == [column, f"{100 * accuracy:.1f}"]


def test_csv_holds_unrounded_points(split: ErrorDecomposition) -> None:
    written = render(split, "csv")
    frame = pd.read_csv(io.StringIO(written)).set_index(["entry", "column"])
    assert len(frame) == len(split.losses)
    for key, found in split.losses.items():
        for part in ("accuracy", "error", "expert", "compression", "routing"):
            read = frame.loc[key, [part, f"{part}_low", f"{part}_high"]].astype(float)
            wanted = 100 * np.array(getattr(found, part))
            np.testing.assert_allclose(read, wanted, rtol=1e-12, atol=1e-13)
        assert frame.loc[key, "route_acc"] == pytest.approx(100 * found.route_acc)
    assert len({len(line) for line in csv.reader(io.StringIO(written))}) == 1


@pytest.mark.parametrize("standalone", [True, False])
def test_latex_compiles(tmp_path, split: ErrorDecomposition, standalone: bool) -> None:
    written = write_latex(split, tmp_path / "table.tex", standalone, label="tab:acc-routing")
    assert [path.name for path in written] == ["table.tex", "table.bib"]
    source = written[0].read_text()
    assert source.isascii()
    assert r"\label{tab:acc-routing}" in source
    assert r"\cite{yadav2023ties}" in source
    assert "yadav2023ties" in written[1].read_text()
    path = written[0]
    if not standalone:
        path = tmp_path / "paper.tex"
        path.write_text("\\documentclass{article}\\usepackage{booktabs,graphicx}\n"
                        "\\begin{document}\\input{table}\\end{document}\n")  # fmt: skip
    if shutil.which("pdflatex"):
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", path.name]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:]
        assert "Overfull" not in done.stdout


def test_hits_of_the_frames_are_what_they_claim(rows: pd.DataFrame) -> None:
    found = rows[(rows["metric"] == "oracle_acc") & (rows["method"] == "twin_merging")].iloc[0]
    shift = (found["corruption"], found["severity"])
    expected = hits_of("adamerging", found["task"], shift, found["seed"], 120)
    assert found["value"] == expected.mean()
