"""Tables as text, markdown and CSV, and figures: what is printed equals what was computed."""

import csv
import html
import io
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from mergeshift import UserError
from results.plots import comparison, style
from results.render.text import FORMATS, pieces_of, render, renderable, text
from results.tables.comparison import Table, compare
from tests.helpers.result_frames import METHODS, NASTY, make_rows, nasty


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return make_rows(n=60)


@pytest.fixture(scope="module")
def table(rows: pd.DataFrame) -> Table:
    return compare(rows)


# -- text


@pytest.mark.parametrize("by", ["shift", "task", "severity", "corruption"])
@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_text_fits_and_shows_every_number(rows: pd.DataFrame, by: str, width: int) -> None:
    table = compare(rows, by=by)
    written = text(table, width)
    assert max(map(len, written.splitlines())) <= width
    assert "pocket (small ViT, 32 px; not CLIP)" in written.splitlines()[1]
    for cell in table.cells.values():
        assert table.printed(cell.value) in written
    for entry in table.entries:
        assert entry.title in written


def test_text_at_120_columns_has_interval_and_drop_on_one_line(table: Table) -> None:
    (line,) = [
        line for line in text(table, 120).splitlines() if re.match(r"TIES-Merging +\d", line)
    ]
    cell = table.cells["ties", "L3"]
    shown = f"{100 * cell.value:.1f} \u00b1{100 * cell.margin:.1f} -{100 * cell.drop:.1f}%"
    assert shown in line


def test_narrow_text_leaves_out_no_interval() -> None:
    table = compare(make_rows(tasks=[f"task_{i}" for i in range(20)], n=10), by="task")
    assert "Wilson" in text(table, 80)
    margins = text(table, 80).count("\u00b1") + text(table, 80).count("/-")
    assert margins >= len(table.cells)


def test_a_margin_never_passes_100() -> None:
    """24 of 24 right: Wilson's lower limit is n / (n + z^2), the upper one is 1."""
    rows = make_rows(["individual"], tasks=("mnist",), shifts=(("clean", 0),), n=24)
    rows = rows[rows["metric"] == "acc"].assign(value=1.0, hits=b"\xff\xff\xff")
    written = text(compare(rows), 100)
    below = 100 * (1 - 24 / (24 + 1.959964**2))
    assert f"100.0 +0.0/-{below:.1f}" in written
    assert "100.0 \u00b1" not in written


def test_brief_notes_are_few(table: Table) -> None:
    console = Console(file=io.StringIO(), width=120)
    with console.capture() as brief:
        console.print(renderable(table, 120, brief=True))
    with console.capture() as whole:
        console.print(renderable(table, 120))
    assert "table --notes" in brief.get()
    assert "defined by this benchmark" in whole.get()
    assert brief.get().count("\n") < whole.get().count("\n")


def leading(table: Table) -> Table:
    """The same table, as if there were sets of experts and one method were the best."""
    return replace(table, leaders=dict.fromkeys(table.columns, frozenset({"adamerging"})))


def test_leaders_are_bold_and_nothing_else(table: Table) -> None:
    assert "\x1b[1m7" not in text(table, colour=True)
    table = leading(table)
    plain, coloured = text(table), text(table, colour=True)
    assert "\x1b" not in plain
    without = re.sub(r"\x1b\[[\d;]*m", "", coloured)
    assert [line.rstrip() for line in without.splitlines()] == plain.splitlines()
    best = table.printed(table.cells["adamerging", "clean"].value)
    assert f"\x1b[1m{best}\x1b[0m" in coloured
    assert "\x1b[4m" not in coloured


def test_console_markup_in_names_is_literal(table: Table) -> None:
    entry = replace(table.entries[0], title="[bold]x[/bold]")
    assert "[bold]x[/bold]" in text(replace(table, entries=(entry, *table.entries[1:])), 140)


# -- markdown and CSV


def test_markdown_is_a_table_with_as_many_cells_everywhere(table: Table) -> None:
    for shown in (table, nasty(table)):
        lines = [line for line in render(shown, "md").splitlines() if line.startswith("|")]
        assert len(lines) == 2 + len(METHODS)
        assert {len(re.split(r"(?<!\\)\|", line)) for line in lines} == {2 + 1 + 4 + 3}
    best = f"**{table.printed(table.cells['adamerging', 'L1'].value)}**"
    assert best in render(leading(table), "md")
    assert best not in render(table, "md")


UNITS = {"drop": -100, "df": 1}  # a fall is below 0; a number of degrees; all else is in percent


def test_csv_and_json_hold_unrounded_numbers_as_the_table_writes_them(table: Table) -> None:
    read = pd.read_csv(io.StringIO(render(table, "csv"))).set_index(["entry", "column"])
    whole = json.loads(render(table, "json"))
    records = {(one["entry"], one["column"]): one for one in whole["records"]}
    assert len(read) == len(table.cells) == len(records)
    for key, cell in table.cells.items():
        for name, value in cell._asdict().items():
            wanted = UNITS.get(name, 100) * value
            assert read.loc[key, name] == pytest.approx(wanted, rel=1e-12, nan_ok=True)
            assert records[key][name] == (None if math.isnan(value) else pytest.approx(wanted))
    value, drop = read.loc[("ties", "L1"), ["value", "drop"]]
    printed = render(table, "md")
    assert f"{value:.1f}" in printed
    assert f"({drop:+.1f}%)" in printed
    assert whole["setting"]["suite"] == table.setting["suite"]
    assert whole["notes"]["interval"]
    assert set(read["world"]) == {"pocket"}
    assert read.loc[("individual", "L1"), "allowance"].startswith("task id at test time")
    lines = list(csv.reader(io.StringIO(render(nasty(table), "csv"))))
    assert {len(line) for line in lines} == {len(lines[0])}
    assert NASTY in lines[1]


def test_html_has_every_number_and_no_markup_of_a_name(table: Table) -> None:
    """A parser reads it back as it was printed; a name with markup in it is text."""
    page = render(nasty(table), "html")
    assert page.isascii()
    cells = Cells()
    cells.feed(page)
    names = (*table.columns, *table.summary)
    lines = [list(line) for line in zip(*[iter(cells.found)] * (len(names) + 1), strict=True)]
    assert lines[0] == ["Method", *map(table.header, names)]
    assert len(lines) == len(table.entries) + 1
    for entry, line in zip(table.entries, lines[1:], strict=True):
        assert line[0].startswith(NASTY)
        for cell, name in zip(line[1:], names, strict=True):
            found = pieces_of(table, entry, name)
            assert cell.split()[0] == found["value"]
            assert found["margin"] in cell
    assert NASTY in html.unescape(page.partition("</table>")[2])  # the mark's note


def test_text_is_written_and_not_shown_where_a_notebook_runs(table: Table, monkeypatch) -> None:
    expected = render(table, "text")
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert render(table, "text") == expected


class Cells(HTMLParser):
    """The texts of the cells of a table, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inside = False

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.inside |= tag in ("td", "th")
        self.found += [""] * (tag in ("td", "th"))

    def handle_endtag(self, tag: str) -> None:
        self.inside &= tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.found[-1] += data


def test_every_format_is_offered(table: Table) -> None:
    for form in FORMATS:
        assert "Arithmetic" in render(table, form)


# -- figures


@pytest.mark.parametrize("form", style.FORMATS)
def test_figures_are_written_and_the_same_twice(tmp_path, rows: pd.DataFrame, form: str) -> None:
    for name in ("one", "two"):
        style.save(comparison.severity(rows), tmp_path / name / f"figure.{form}")
    one, two = ((tmp_path / name / f"figure.{form}").read_bytes() for name in ("one", "two"))
    assert one == two
    assert len(one) > 5_000


def test_severity_plot_draws_the_numbers_of_the_table(rows: pd.DataFrame) -> None:
    (axes,) = comparison.severity(rows).axes
    table = compare(rows, by="severity")
    styles = style.line_styles(table.entries)
    for line, entry in zip(axes.get_lines(), table.entries, strict=True):
        expected = [100 * table.cells[entry.key, name].value for name in table.columns]
        np.testing.assert_allclose(line.get_ydata(), expected)
        assert line.get_color() == styles[entry.key].colour
    assert {label.get_text() for label in axes.texts} == {e.title for e in table.entries}


def test_heatmap_prints_every_field_and_survives_names(rows: pd.DataFrame) -> None:
    (axes,) = comparison.heatmap(rows.assign(title="$\\frac_$ & <b>")).axes
    table = compare(rows, by="corruption")
    printed = [label.get_text() for label in axes.texts]
    assert printed == [
        table.printed(table.cells[entry.key, name].value)
        for entry in table.entries
        for name in table.columns
    ]


def test_figure_mistakes(tmp_path, rows: pd.DataFrame) -> None:
    with pytest.raises(UserError, match="needs two severities or more; got 0"):
        comparison.severity(rows[rows["severity"] == 0])
    with pytest.raises(UserError, match="a figure is written as png, pdf, svg; got"):
        style.save(comparison.severity(rows), tmp_path / "figure.gif")
