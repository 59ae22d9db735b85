r"""A table as papers set it: grouped headers, and blocks of lines between rules."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from results.latex.document import Float, emphasised, escape, float_around, heading, legend, row
from results.latex.document import margin as side_or_sides
from results.tables.comparison import Table
from results.tables.entries import Entry, TableBase
from results.tables.layout import margin_of, points

RANKED = "Best in bold, second best underlined (as printed); reference methods are not ranked."
WIDE = 12  # from so many columns a document lies on its side


class ColumnGroup(NamedTuple):
    """What stands above one or more columns."""

    text: str  # as it is in LaTeX
    span: int = 1


@dataclass(frozen=True)
class PaperTable:
    """What a preset prints. All texts are LaTeX, escaped."""

    table: TableBase  # whose entries, marks and papers it prints
    name: str  # of the preset; ends the label
    aligned: str  # of the columns behind the first, e.g. "rrr"
    heads: Sequence[Sequence[ColumnGroup]]  # one row, or two: groups, and what is in them
    blocks: Sequence[Sequence[tuple[str, Sequence[str]]]]  # parted by rules: titles and cells
    caption: str
    below: str = ""
    worlds: Sequence[str] = field(default=())  # if not the one of the table

    @property
    def label(self) -> str:
        r"""For ``\ref``."""
        return f"tab:{self.name}"


def tabular(sheet: PaperTable) -> str:
    r"""The ``tabular`` alone."""
    lines = [rf"\begin{{tabular}}{{@{{}}l{sheet.aligned}@{{}}}}", r"\toprule"]
    for number, heads in enumerate(sheet.heads):
        last = number == len(sheet.heads) - 1
        cells = ["Method" if last else "", *(_head(one, last) for one in heads)]
        lines += [row(cells), r"\midrule" if last else _rules(heads)]
    for number, block in enumerate(filter(None, sheet.blocks)):
        lines += [r"\midrule"] * (number > 0)
        lines += [row([title, *cells]) for title, cells in block]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _head(head: ColumnGroup, last: bool) -> str:
    if head.span == 1 and last:
        return head.text
    return rf"\multicolumn{{{head.span}}}{{c}}{{{head.text}}}"


def _rules(heads: Sequence[ColumnGroup]) -> str:
    """A short rule under every group that has a name."""
    rules, column = [], 2
    for head in heads:
        if head.text:
            rules.append(rf"\cmidrule(lr){{{column}-{column + head.span - 1}}}")
        column += head.span
    return "".join(rules)


def paper_float(sheet: PaperTable, label: str = "") -> Float:
    r"""A ``table`` float with caption, label and notes; needs booktabs and graphicx."""
    wide = len(sheet.aligned.replace("@{\\,}", "")) >= WIDE
    source = float_around(tabular(sheet), sheet.caption, label or sheet.label, sheet.below)
    return Float(source, sheet.table.cited, wide)


def caption(table: TableBase, title: str, parts: Sequence[str], worlds: Sequence[str] = ()) -> str:
    """Bold title, the setting, what must be said, and what the marks mean.

    Args:
        table: whose marks.
        title: not escaped.
        parts: sentences, LaTeX.
        worlds: of several tables, in words; else that of ``table``.
    """
    names = "; ".join(worlds or [table.world])
    return " ".join(
        [heading(title, f"Setting: {names}."), *filter(None, parts), RANKED, *legend(table)]
    )


def told(table: TableBase, *keys: str) -> list[str]:
    """Notes of a table, escaped; those that it does not have are left out."""
    return [escape(table.notes[key]) for key in keys if key in table.notes]


def value(table: Table, entry: Entry, column: str, margin: bool = True) -> str:
    """A number, bold or underlined by its rank, with half of its interval."""
    cell, rank = table.cells[entry.key, column], table.printed_ranks(column).get(entry.key, 0)
    text = emphasised(table.printed(cell.value), rank)
    return text + small(side_or_sides(margin_of(cell.interval, table.printed))) * (
        margin and cell.margin >= 0
    )


def small(text: str) -> str:
    """Small print behind a number."""
    return rf"\,{{\scriptsize {text}}}"


def signed(share: float) -> str:
    """A change in points or percent.

    >>> signed(-0.0734), signed(0.0), signed(float("nan"))
    ('$-7.3$', '$+0.0$', '-')
    """
    return "-" if share != share else f"${points(share, '+')}$"


def blocks_of(entries: Sequence[Entry]) -> list[list[Entry]]:
    """The entries, parted where references begin or end."""
    found: list[list[Entry]] = []
    for entry in entries:
        if not found or found[-1][-1].is_reference != entry.is_reference:
            found.append([])
        found[-1].append(entry)
    return found


def widest(columns: Sequence[str], *tables: Table) -> str:
    """How far the intervals go that are not printed, in one sentence."""
    cells = [t.cells[entry.key, name] for t in tables for entry in t.entries for name in columns]
    known = [cell.margin for cell in cells if cell.margin >= 0]
    if not known:
        return ""
    text = "95 % Wilson intervals over images that are not printed: at most +-"
    return escape(f"{text}{tables[0].printed(max(known))}.")
