"""LaTeX tables that are taller than a page, and what the command calls its tables."""

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from results.latex import grouped
from results.latex.ablation import ablation
from results.latex.presets import PRESETS, Given
from results.latex.suites import suites
from results.published.sources import read, sources
from results.published.table import PublishedComparison, beside
from results.render.text import write_latex
from tests.helpers.published import line, publish
from tests.helpers.result_frames import METHODS, NASTY, make_rows
from tests.helpers.toy_sweep import Outcome

CLEAN = (("clean", 0),)
KEEPS = [number / 100 for number in range(1, 81)]


def compiled(path: Path) -> str:
    """What pdflatex says, or nothing where it is not installed; twice, as longtable asks."""
    said = ""
    for _ in range(2 if shutil.which("pdflatex") else 0):
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", path.name]
        done = subprocess.run(command, cwd=path.parent, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:]
        said = done.stdout
    return said


def published(folder: Path, lines: int, title: str = "") -> PublishedComparison:
    """Average beside so many published numbers."""
    rows = make_rows(["average"], shifts=CLEAN)
    rows = rows.assign(title=title) if title else rows
    csv = "\n".join(line("average", {"mean": keep}, f"keep={keep}") for keep in KEEPS[:lines])
    publish(folder, csv)
    return beside(rows, read((), folder), sources(folder))


@pytest.mark.parametrize("lines", [grouped.TALL, grouped.TALL + 1])
def test_a_table_that_fits_a_page_is_a_float_and_a_longer_one_is_not(tmp_path, lines):
    path = tmp_path / "table.tex"
    write_latex(published(tmp_path / "source", lines), path, standalone=True, label="tab:x")
    source = path.read_text()
    long = lines > grouped.TALL
    assert (r"\begin{longtable}" in source, r"\begin{table}" in source) == (long, not long)
    assert source.count(r"\label{tab:x}") == 1
    assert source.count("keep=") == lines
    assert "too large" not in compiled(path)


@pytest.mark.parametrize("standalone", [True, False])
@pytest.mark.parametrize("title", ["", NASTY])
def test_a_long_table_goes_on_over_pages(tmp_path, standalone, title):
    path = tmp_path / "table.tex"
    write_latex(published(tmp_path / "source", len(KEEPS), title), path, standalone)
    source = path.read_text()
    assert source.isascii()
    body = source.partition(r"\endfoot")[2].partition(r"\end{longtable}")[0]
    assert {len(re.split(r"(?<!\\)&", row)) for row in body.split(r"\\")[:-1]} == {6}
    if not standalone:
        packages = re.search(r"% (\\usepackage\{.*?\})", source)[1]  # it says what it needs
        path = tmp_path / "paper.tex"
        path.write_text(f"\\documentclass{{article}}{packages}\n"
                        "\\begin{document}\\input{table}\\end{document}\n")  # fmt: skip
    said = compiled(path)
    if not title:  # such a name is longer than a line can be broken
        assert "Overfull" not in said
    if said:
        pages = int(re.search(r"Output written on \S+ \((\d+) page", said)[1])
        assert pages >= 2


def test_lines_of_an_ablation_are_marked_by_what_they_may_see():
    """Each mark that the caption explains stands somewhere."""
    rows = make_rows(["average", "adamerging"], shifts=CLEAN)
    ours = rows[rows["method"] == "adamerging"]
    bare = ours.assign(variant="router=false", run_id="bare", stores="one model and a table")
    sheet = ablation(pd.concat([rows, bare]).assign(variant=lambda f: f["variant"].fillna("")))
    titles = [title for block in sheet.blocks for title, _ in block]
    assert titles[-1] == r"\quad w/o router$^{\ddagger}$"
    for mark in re.findall(r"\$\^\{\S+?\}\$", sheet.caption):
        assert any(mark in title for title in titles)


def test_notes_of_suites_stand_once_and_name_the_exception():
    """Nine columns of which one was not tuned alike."""
    rows = make_rows(shifts=CLEAN)
    sweeps = [rows.assign(suite=f"s{i}", encoder=e) for e in ("ViT-B-32", "ViT-L-14")
              for i in range(4)]  # fmt: skip
    sweeps[5] = sweeps[5][sweeps[5]["method"] != "ties"]
    below = suites(sweeps).below
    assert below.count("Hyperparameters tuned on validation data") == 2
    assert (
        "ViT-L-14, 4 tasks (s1): Hyperparameters tuned on validation data: Task Arithmetic;"
        in below
    )
    assert (
        below.count(
            "Other columns: Hyperparameters tuned on validation data: Task Arithmetic, TIES-Merging"
        )
        == 1
    )
    assert below.count("120 images per task") == 1
    alone = suites([sweeps[0].assign(tuned=False)]).below
    assert "Other columns" not in alone


def test_columns_are_explained_by_the_names_that_they_have():
    rows = make_rows()
    assert "clean, Avg. = mean over 4 tasks" in PRESETS["per-task"].make(Given(rows=rows)).caption
    sheet = PRESETS["robustness7"].make(Given(rows=rows, shift="L3"))
    assert "mean over 4 tasks and severity 3." in sheet.caption
    assert "Avg.: mean over all corruptions." in sheet.caption
    assert len(METHODS) == sum(map(len, sheet.blocks))


def test_labels_by_command(
    command: Callable[..., Outcome], smoke: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """One label for print and file; a table with published numbers has another."""
    words = ("table", "--format", "latex", "--out", smoke)
    path = tmp_path / "table.tex"
    assert r"\label{tab:acc-shift}" in command(*words).out
    assert command(*words, "-o", path).code == 0
    assert r"\label{tab:acc-shift}" in path.read_text()
    assert r"\label{tab:mine}" in command(*words, "--label", "tab:mine").out
    table = published(tmp_path / "source", 2)
    monkeypatch.setattr("bench.cli.table.put_beside", lambda *_: replace(table))
    assert r"\label{tab:acc-shift-published}" in command(*words, "--published", "own").out
    assert r"\label{tab:mine}" in command(
        *words, "--published", "own", "--label", "tab:mine"
    ).out  # fmt: skip
    assert "give it a file" in command(*words, "--standalone").error
    assert "--standalone and --label are for LaTeX; got --format md" in command(
        "table", "--format", "md", "--label", "x", "--out", smoke
    ).error  # fmt: skip
