r"""Booktabs tables: a ``tabular``, a float to ``\input``, or a document to compile."""

import math
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from mergeshift import atomic
from results.latex.bibliography import bibtex, typeset
from results.schema import WORLDS
from results.tables.comparison import Table, as_percent
from results.tables.entries import Entry, TableBase

MARKS = (r"\dagger", r"\ddagger", r"\S", r"\P", r"\|")
WRITTEN = r"% \usepackage{{{}}}; written by `python -m bench table --format latex`"
CAPTION = ("metric", "images", "interval", "spread", "drop")  # notes in it; the rest goes below
LANDSCAPE = 12  # from so many columns a document lies on its side
CROWDED = {7: "drop", 9: "spread", 10: "margin"}  # left out beyond so many columns


def write(table: Table, path: Path, standalone: bool = False, label: str = "") -> list[Path]:
    r"""Write ``path`` and, beside it, a ``.bib`` with the papers it cites.

    Args:
        table: what to print.
        path: of the ``.tex`` file.
        standalone: a document that pdflatex compiles, instead of a float to ``\input``.
        label: for ``\ref``.
    """
    wide = len(table.columns) + len(table.summary) >= LANDSCAPE
    return write_source(float_of(table, label), table.cited, path, standalone, wide)


def write_source(
    source: str, cited: Sequence[str], path: Path, standalone: bool, wide: bool = False
) -> list[Path]:
    """Write a float, or the document around it, and a ``.bib`` beside it."""
    bib = path.with_suffix(".bib")
    source = document(source, cited, wide) if standalone else source
    for target, content in ((path, source), (bib, bibtex(cited))):
        with atomic(target) as temporary:
            temporary.write_text(content, encoding="utf-8")
    return [path, bib]


def document(source: str, cited: Sequence[str], wide: bool = False) -> str:
    r"""A complete document around a float; pdflatex alone compiles it (twice, for citations)."""
    landscape = ",landscape" if wide else ""
    references = "\n".join(rf"\bibitem{{{key}}} {typeset(key)}" for key in cited)
    listed = "\n".join(
        (r"\begin{thebibliography}{99}", r"\small", references, r"\end{thebibliography}")
    )
    return "\n".join(
        (
            rf"\documentclass[a4paper{landscape}]{{article}}",
            r"\IfFileExists{lmodern.sty}{\usepackage[T1]{fontenc}\usepackage{lmodern}}{}",
            r"\usepackage[margin=2cm]{geometry}",
            r"\usepackage{array,booktabs,graphicx,longtable}",
            r"\pagestyle{empty}",
            r"\begin{document}",
            source.rstrip("\n"),
            listed if references else "",
            r"\end{document}",
            "",
        )
    )


def float_of(table: Table, label: str = "") -> str:
    r"""A ``table`` float with caption and notes; needs booktabs and graphicx."""
    label = label or f"tab:{table.setting['suite']}-{table.metric}-{table.by}"
    elsewhere = {*CAPTION, "world"}
    below = " ".join(escape(note) for key, note in table.notes.items() if key not in elsewhere)
    return float_around(tabular(table), caption(table), label, below)


def float_around(body: str, caption: str, label: str, below: str) -> str:
    r"""A ``table`` float around a ``tabular``.

    It shrinks to the width of the text only where it would be wider.
    """
    fit = r"\ifdim\width>\linewidth\linewidth\else\width\fi"
    return "\n".join(
        (
            WRITTEN.format("booktabs,graphicx"),
            r"\begin{table}[t]",
            r"\centering",
            rf"\caption{{{caption}}}",
            rf"\label{{{label}}}",
            r"\par\medskip",
            rf"\resizebox{{{fit}}}{{!}}{{%",
            f"{body}%",
            "}",
            r"\par\smallskip",
            rf"\parbox{{\linewidth}}{{\footnotesize {below}}}",
            r"\end{table}",
            "",
        )
    )


def caption(table: Table) -> str:
    """Metric, images, what +- is, world, and what the marks mean."""
    world = WORLDS.get(table.setting["world"], table.setting["world"])
    hidden = {"interval" if piece == "margin" else piece for piece in _left_out(table)}
    notes = [
        escape(note) for key, note in table.notes.items() if key in CAPTION and key not in hidden
    ]
    ranked = r"Best in bold, second underlined; references are not ranked."
    ranked = ranked if table.spec.higher_is_better is not None else ""
    head = rf"\textbf{{{escape(f'{table.title} ({world})')}.}}"
    return " ".join(filter(None, [head, *notes, ranked, *marks_of(table)]))


def marks_of(table: TableBase) -> list[str]:
    """What the marks behind names mean, a sentence each."""
    return [f"{_mark(number)}~{escape(text)}." for text, number in table.allowances.items()]


def tabular(table: Table) -> str:
    r"""The ``tabular`` alone; rules part the references from the methods compared."""
    names = (*table.columns, *table.summary)
    lines = [rf"\begin{{tabular}}{{@{{}}l{'r' * len(names)}@{{}}}}", r"\toprule"]
    headers = [escape(table.header(name)) for name in names]
    if len(names) > min(CROWDED) and max(map(len, names)) > 10:
        headers = [rf"\rotatebox{{60}}{{{header}}}" for header in headers]
    lines += [row(["Method", *headers]), r"\midrule"]
    ranks = {name: table.ranks(name) for name in names}
    for entry, before in zip(table.entries, (None, *table.entries), strict=False):
        if before is not None and before.is_reference != entry.is_reference:
            lines.append(r"\midrule")
        cells = [_cell(table, entry, name, ranks[name].get(entry.key, 0)) for name in names]
        lines.append(row([title_of(table, entry), *cells]))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _left_out(table: Table) -> set[str]:
    """Pieces of a cell for which the table has too many columns."""
    num_columns = len(table.columns) + len(table.summary)
    return {piece for limit, piece in CROWDED.items() if num_columns > limit}


def title_of(table: TableBase, entry: Entry) -> str:
    """Name of a line, its mark and its citation."""
    allowed = table.allowances.get(entry.data_access)
    name = escape(entry.title) + ("" if allowed is None else _mark(allowed))
    return rf"{name}~\cite{{{entry.cite}}}" if entry.cite else name


def _mark(number: int) -> str:
    return rf"$^{{{MARKS[number % len(MARKS)] * (1 + number // len(MARKS))}}}$"


def _cell(table: Table, entry: Entry, name: str, rank: int) -> str:
    if name in table.summary:
        return ranked(as_percent(table.summary[name][entry.key]), rank)
    cell = table.cells[entry.key, name]
    parts = [ranked(table.printed(cell.value), rank)]
    numbers = {
        "margin": (cell.margin, rf"$\pm${table.printed(cell.margin)}"),
        "spread": (cell.spread, f"sd~{table.printed(cell.spread)}"),
        "drop": (cell.drop, f"(${round(-100 * cell.drop, 1) + 0.0:+.1f}$)"),
    }
    small = [
        text
        for piece, (number, text) in numbers.items()
        if not math.isnan(number) and piece not in _left_out(table)
    ]
    if small:
        parts.append(rf"{{\scriptsize {' '.join(small)}}}")
    return r"\,".join(parts)


def ranked(text: str, rank: int) -> str:
    """A number in bold if it is the best, underlined if it is the second."""
    return {1: rf"\textbf{{{text}}}", 2: rf"\underline{{{text}}}"}.get(rank, text)


def row(cells: Sequence[str]) -> str:
    """One line of a ``tabular``."""
    return " & ".join(cells) + r" \\"


_SPECIAL = {c: "\\" + c for c in "_%&#${}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "\u00df": r"\ss{}",
    "\u00e6": r"\ae{}",
    "\u00c6": r"\AE{}",
    "\u00f8": r"\o{}",
    "\u00d8": r"\O{}",
    "\u0142": r"\l{}",
    "\u0141": r"\L{}",
}
_ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r",
    "\u030b": "H",
    "\u030c": "v",
    "\u0327": "c",
}


def escape(text: str) -> str:
    r"""Make ``text`` literal in LaTeX, for any input encoding and font.

    Accents become commands; what pdflatex has no letter for is named by its code point.

    >>> print(escape("task_arithmetic 5%"), escape("+-1"), escape("\u4e2d"))
    task\_arithmetic 5\% $\pm$1 [U+4E2D]
    """
    return "".join(map(_escaped, " ".join(text.split()))).replace("+-", r"$\pm$")


def _escaped(character: str) -> str:
    if character in _SPECIAL:
        return _SPECIAL[character]
    if " " <= character <= "~":
        return character
    parts = unicodedata.normalize("NFD", character)
    if len(parts) == 2 and parts[1] in _ACCENTS and "A" <= parts[0] <= "z":
        return rf"\{_ACCENTS[parts[1]]}{{{parts[0]}}}"
    return f"[U+{ord(character):04X}]"
