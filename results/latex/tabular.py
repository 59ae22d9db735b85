r"""A comparison as a booktabs ``tabular``, in a float to ``\input``."""

import math

from results.latex.document import (
    Float,
    cited_title,
    emphasised,
    escape,
    float_around,
    heading,
    legend,
    margin,
    row,
)
from results.tables.comparison import Table, summary_margin
from results.tables.entries import Entry
from results.tables.layout import margin_of, points

CAPTION = ("metric", "images", "interval", "verdict", "spread", "drop")  # the rest goes below
LANDSCAPE = 12  # from so many columns a document lies on its side
CROWDED = {7: "drop", 9: "spread", 10: "margin"}  # left out beyond so many columns


def comparison_float(table: Table, label: str = "") -> Float:
    r"""A ``table`` float with caption and notes; needs booktabs and graphicx."""
    label = label or f"tab:{table.setting['suite']}-{table.metric}-{table.by}"
    above = {*CAPTION, "world"}
    below = " ".join(escape(note) for key, note in table.notes.items() if key not in above)
    wide = len(table.columns) + len(table.summary) >= LANDSCAPE
    source = float_around(tabular(table), caption(table), label, below)
    return Float(source, table.cited, wide)


def caption(table: Table) -> str:
    """Metric, images, what +- is, world, and what the marks mean."""
    hidden = {"interval" if piece == "margin" else piece for piece in _left_out(table)}
    notes = [
        escape(note) for key, note in table.notes.items() if key in CAPTION and key not in hidden
    ]
    head = heading(table.title, table.notes["world"])
    return " ".join([head, *notes, *legend(table)])


def tabular(table: Table) -> str:
    r"""The ``tabular`` alone; rules part the references from the methods compared."""
    names = (*table.columns, *table.summary)
    lines = [rf"\begin{{tabular}}{{@{{}}l{'r' * len(names)}@{{}}}}", r"\toprule"]
    headers = [escape(table.header(name)) for name in names]
    if len(names) > min(CROWDED) and max(map(len, names)) > 10:
        headers = [rf"\rotatebox{{60}}{{{header}}}" for header in headers]
    lines += [row(["Method", *headers]), r"\midrule"]
    for entry, before in zip(table.entries, (None, *table.entries), strict=False):
        if before is not None and before.is_reference != entry.is_reference:
            lines.append(r"\midrule")
        cells = [_cell(table, entry, name) for name in names]
        lines.append(row([cited_title(table, entry), *cells]))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _left_out(table: Table) -> set[str]:
    """Pieces of a cell for which the table has too many columns."""
    num_columns = len(table.columns) + len(table.summary)
    return {piece for limit, piece in CROWDED.items() if num_columns > limit}


def _cell(table: Table, entry: Entry, name: str) -> str:
    rank = int(entry.key in table.leaders.get(name, ()))
    if name in table.summary:
        value = emphasised(points(table.summary[name][entry.key]), rank)
        side = margin(summary_margin(table, entry.key, name))
        printed = bool(side) and "margin" not in _left_out(table)
        return value + rf"\,{{\scriptsize {side}}}" * printed
    cell = table.cells[entry.key, name]
    parts = [emphasised(table.printed(cell.value), rank)]
    numbers = {
        "margin": (cell.margin, margin(margin_of(cell.interval, table.printed))),
        "spread": (cell.spread, f"sd~{table.printed(cell.spread)}"),
        "drop": (cell.drop, f"(${points(-cell.drop, '+')}$)"),
    }
    small = [
        text
        for piece, (number, text) in numbers.items()
        if not math.isnan(number) and piece not in _left_out(table)
    ]
    if small:
        parts.append(rf"{{\scriptsize {' '.join(small)}}}")
    return r"\,".join(parts)
