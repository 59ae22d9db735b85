r"""What all LaTeX tables are made of: literal text, rows, marks, floats and whole documents."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mergeshift import atomic
from results.latex.bibliography import bibtex, typeset
from results.tables.entries import Entry, TableBase, repeated

MARKS = (r"\dagger", r"\ddagger", r"\S", r"\P", r"\|")
PACKAGES = r"% \usepackage{{{}}}; written by `python -m bench table --format latex`"


class Float(NamedTuple):
    r"""A table to ``\input``, and what the document around it has to know."""

    source: str
    cited: Sequence[str]  # keys of papers
    wide: bool = False  # whether the document lies on its side


def write(table: Float, path: Path, standalone: bool = False) -> list[Path]:
    r"""Write ``path`` and, beside it, a ``.bib`` with the papers it cites.

    Args:
        table: what to print.
        path: of the ``.tex`` file.
        standalone: a document that pdflatex compiles, instead of a float to ``\input``.
    """
    bib = path.with_suffix(".bib")
    source = document(table) if standalone else table.source
    for target, content in ((path, source), (bib, bibtex(table.cited))):
        with atomic(target) as temporary:
            temporary.write_text(content, encoding="utf-8")
    return [path, bib]


def document(table: Float) -> str:
    r"""A complete document around a float; pdflatex alone compiles it (twice, for citations)."""
    landscape = ",landscape" if table.wide else ""
    references = "\n".join(rf"\bibitem{{{key}}} {typeset(key)}" for key in table.cited)
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
            table.source.rstrip("\n"),
            listed if references else "",
            r"\end{document}",
            "",
        )
    )


def float_around(tabular: str, caption: str, label: str, below: str) -> str:
    r"""A ``table`` float around a ``tabular``.

    It shrinks to the width of the text only where it would be wider.
    """
    fit = r"\ifdim\width>\linewidth\linewidth\else\width\fi"
    return "\n".join(
        (
            PACKAGES.format("booktabs,graphicx"),
            r"\begin{table}[t]",
            r"\centering",
            rf"\caption{{{caption}}}",
            rf"\label{{{label}}}",
            r"\par\medskip",
            rf"\resizebox{{{fit}}}{{!}}{{%",
            f"{tabular}%",
            "}",
            r"\par\smallskip",
            rf"\parbox{{\linewidth}}{{\footnotesize {below}}}",
            r"\end{table}",
            "",
        )
    )


def heading(title: str, setting: str) -> str:
    """A bold title, and where pictures and encoder come from; both are not escaped yet."""
    return rf"\textbf{{{escape(title)}.}} {escape(setting)}"


def cited_title(table: TableBase, entry: Entry) -> str:
    """Name of a method in LaTeX, with its mark and its citation."""
    number = table.allowances.get(entry.data_access)
    name = escape(entry.title) + ("" if number is None else _superscript(number))
    return rf"{name}~\cite{{{entry.cite}}}" if entry.cite else name


def legend(table: TableBase) -> list[str]:
    """What the marks behind names mean, a sentence each."""
    return [f"{_superscript(number)}~{escape(text)}." for text, number in table.allowances.items()]


def _superscript(number: int) -> str:
    return rf"$^{{{repeated(MARKS, number)}}}$"


def row(cells: Sequence[str]) -> str:
    """One line of a ``tabular``."""
    return " & ".join(cells) + r" \\"


def margin(text: str) -> str:
    r"""The margin behind a share, one number or one for each side.

    >>> print(margin("+-4.0"), margin("+0.0/-16.1"))
    $\pm$4.0 $^{+0.0}_{-16.1}$
    """
    if "/" in text:
        above, _, below = text.partition("/")
        return f"$^{{{above}}}_{{{below}}}$"
    return text.replace("+-", r"$\pm$")


def emphasised(text: str, rank: int) -> str:
    """A number in bold if it is the best, underlined if it is the second."""
    return {1: rf"\textbf{{{text}}}", 2: rf"\underline{{{text}}}"}.get(rank, text)


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
