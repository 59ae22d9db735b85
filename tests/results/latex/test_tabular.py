"""LaTeX tables: escapes, ranks, captions, citations, and pdflatex itself where it is installed."""

import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest

from results.latex import tabular
from results.latex.bibliography import bibtex, entries, typeset
from results.latex.document import escape, write
from results.latex.tabular import comparison_float
from results.tables.comparison import Table, compare
from tests.helpers.result_frames import METHODS, NASTY, make_rows, nasty


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return make_rows(n=60)


@pytest.fixture(scope="module")
def table(rows: pd.DataFrame) -> Table:
    return compare(rows)


def test_latex_escapes_everything() -> None:
    source = escape(NASTY)
    assert source == (
        r"A\_b\%c\&d\#e\$f\textless{}g\textgreater{}''h\textbar{}i\textasciitilde{}j"
        r"\textasciicircum{}k\textbackslash{}l\{m\}*n[o],p \'{e} [U+4E2D]"
    )
    assert source.isascii()


def test_latex_tabular_snapshot() -> None:
    table = compare(make_rows(["pretrained", "task_arithmetic", "ties"], ["mnist"],
                              [("clean", 0), ("contrast", 3)], n=50))  # fmt: skip
    cells = {key: tabular._cell(table, table.entries[0], key[1]) for key in table.cells}
    assert tabular.tabular(table).splitlines() == [
        r"\begin{tabular}{@{}lrr@{}}",
        r"\toprule",
        r"Method & clean & contrast@3 \\",
        r"\midrule",
        rf"Pretrained~\cite{{radford2021clip}} & {cells['pretrained', 'clean']} & "
        rf"{cells['pretrained', 'contrast@3']} \\",
        r"\midrule",
        *[
            rf"{title}~\cite{{{cite}}} & "
            rf"{_cell(table, key, 'clean')} & {_cell(table, key, 'contrast@3')} \\"
            for key, title, cite in (
                ("task_arithmetic", "Task Arithmetic", "ilharco2023editing"),
                ("ties", "TIES-Merging", "yadav2023ties"),
            )
        ],
        r"\bottomrule",
        r"\end{tabular}",
    ]


def _cell(table: Table, key: str, column: str) -> str:
    """Written anew: value, +- margin, relative change in brackets; of one set nothing leads."""
    cell = table.cells[key, column]
    value = f"{100 * cell.value:.1f}"
    drop = "" if np.isnan(cell.drop) else f" (${-100 * cell.drop:+.1f}$)"
    return rf"{value}\,{{\scriptsize $\pm${100 * cell.margin:.1f}{drop}}}"


def test_latex_caption_says_metric_images_interval_world_and_marks(table: Table) -> None:
    caption = tabular.caption(table)
    for fact in (r"Accuracy in \%", "60 images", r"$\pm$: 95 \% Wilson",
                 "Setting: pocket (small ViT, 32 px; not CLIP).",
                 r"$^{\dagger}$~data used: unlabelled images",
                 "No verdict: one set of experts"):  # fmt: skip
        assert fact in caption
    assert rf"AdaMerging$^{{\dagger}}$~\cite{{{METHODS['adamerging'][1]}}}" in tabular.tabular(
        table
    )


def test_bibliography_holds_what_the_table_cites(tmp_path, table: Table) -> None:
    written = write(comparison_float(table), tmp_path / "table.tex")
    assert [path.name for path in written] == ["table.tex", "table.bib"]
    cited = set(re.findall(r"\\cite\{(\w+)\}", written[0].read_text()))
    assert cited == {method[1] for method in METHODS.values()}
    assert cited == set(re.findall(r"@\w+\{(\w+),", written[1].read_text()))


def test_every_reference_is_complete() -> None:
    wanted = {"ilharco2023editing", "yadav2023ties", "wortsman2022soups", "radford2021clip",
              "yang2024adamerging", "lu2024twin"}  # fmt: skip
    assert wanted <= set(entries())
    for key, entry in entries().items():
        fields = dict(re.findall(r"^  (\w+) = \{(.+)\},$", entry, re.MULTILINE))
        wanted = {"title", "author", "year", "eprint"}
        wanted |= set() if entry.startswith("@misc") else {"booktitle"}
        assert wanted <= set(fields), key
        assert fields["title"] in typeset(key)
        assert fields["year"] in key
        assert re.fullmatch(r"\d{4}\.\d{5}", fields["eprint"])
        assert entry.count("{") == entry.count("}")
    assert bibtex(["no_such_key"]).strip() == ""


@pytest.mark.parametrize("kind", ["shift", "task", "nasty", "input"])
def test_latex_compiles(tmp_path, rows: pd.DataFrame, kind: str) -> None:
    """Balanced everywhere; compiled, without overfull lines, where pdflatex is installed."""
    table = compare(rows, by="task" if kind == "task" else "shift")
    table = nasty(table) if kind == "nasty" else table
    path = tmp_path / "table.tex"
    write(comparison_float(table), path, standalone=kind != "input")
    source = path.read_text()
    assert source.isascii()
    bare = re.sub(r"\\[{}]", "", source)
    assert bare.count("{") == bare.count("}")
    begun, ended = (re.findall(rf"\\{word}\{{(\w+)\}}", source) for word in ("begin", "end"))
    assert sorted(begun) == sorted(ended)
    if kind == "input":
        path = tmp_path / "paper.tex"
        path.write_text(
            "\\documentclass{article}\\usepackage{booktabs,graphicx}\n"
            "\\begin{document}\\input{table}\n"
            "\\bibliographystyle{plain}\\bibliography{table}\\end{document}\n"
        )
    if shutil.which("pdflatex"):
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", path.name]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:]
        assert "Overfull" not in done.stdout
        assert path.with_suffix(".pdf").exists()
        if kind == "input" and shutil.which("bibtex"):
            command = ["bibtex", path.stem]
            done = subprocess.run(
                command, cwd=tmp_path, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0
            assert "Warning" not in done.stdout
