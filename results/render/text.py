"""A table for the terminal, as GitHub markdown, HTML, CSV and JSON; LaTeX: ``results.latex``."""

import io
import math
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from results.latex.document import write
from results.latex.grouped import grouped_float
from results.latex.tabular import comparison_float
from results.render import grouped
from results.render.markup import (
    PLUS_MINUS,
    RULES,
    HtmlCell,
    comma_separated,
    html_table,
    json_text,
    markdown_escape,
    markdown_row,
    marked_title,
    noted,
)
from results.tables.comparison import Table, summary_margin
from results.tables.entries import Entry
from results.tables.layout import GroupedTable, margin_of, points

AnyTable = Table | GroupedTable

STYLES = {"value": "", "margin": "dim", "spread": "dim", "drop": "dim"}
LEADS = "bold"
GAP = 2  # between columns: the box's divider and one column of padding

# Lines of a cell, each of pieces; the first layout that fits the width is taken.
CellLines = tuple[tuple[str, ...], ...]
CELLS: tuple[CellLines, ...] = (
    (("value", "margin", "spread", "drop"),),
    (("value", "margin"), ("spread", "drop")),
    (("value", "margin"), ("spread",), ("drop",)),
    (("value",), ("margin",), ("spread",)),
    (("value",), ("margin",)),  # a number without its interval is not printed: rather in blocks
)
BRIEF = ("levels", "shifts", "summary", "constants")  # notes that a terminal shows when asked to


def render(table: AnyTable, form: str = "text", **options: Any) -> str:
    """Write the table as ``text``, ``md``, ``html``, ``csv``, ``json`` or ``latex``."""
    formats = grouped.FORMATS if isinstance(table, GroupedTable) else FORMATS
    return formats[form](table, **options)


def write_latex(
    table: AnyTable, path: Path, standalone: bool = False, label: str = ""
) -> list[Path]:
    """Write LaTeX to ``path`` and the papers cited to a ``.bib`` beside it.

    See :func:`results.latex.document.write`.
    """
    if isinstance(table, GroupedTable):
        return write(grouped_float(table, label), path, standalone)
    return write(comparison_float(table, label), path, standalone)


def text(table: Table, width: int = 100, colour: bool = False) -> str:
    """Write the table for ``width`` columns; ``colour`` adds the escape codes of a terminal."""
    file = io.StringIO()
    Console(
        file=file,
        width=width,
        force_jupyter=False,  # which would show it instead
        force_terminal=colour,
        color_system="standard" if colour else None,
    ).print(renderable(table, width))
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def renderable(table: AnyTable, width: int = 100, brief: bool = False) -> RenderableType:
    """The table for a rich console: as much of each cell as fits, else in blocks of columns.

    Args:
        table: what is printed.
        width: of the console.
        brief: leave out the notes that are the same under most tables.
    """
    if isinstance(table, GroupedTable):
        return grouped.renderable(table)
    names = (*table.columns, *table.summary)
    for layout in CELLS:
        columns = {name: _column(table, name, layout) for name in names}
        if len(split := _blocks(table, columns, width)) == 1:
            break
    blocks = [_grid(table, {name: columns[name] for name in block}) for block in split]
    head = Text.assemble((f"{table.title}\n", "bold"), (table.notes["world"], "dim"))
    hidden = {key for key in BRIEF if brief and key in table.notes}
    lines = note_lines(table, {piece for line in layout for piece in line}, hidden)
    lines += ["All notes: `python -m bench table --notes`."] * bool(hidden)
    return Group(head, *blocks, Text("\n".join(lines), "dim"))


def note_lines(table: Table, shown: set[str], without: Collection[str] = ()) -> list[str]:
    """What a reader must know about the numbers shown: one paragraph, then a line per mark."""
    hidden = {"world", *without}  # the world stands in the title
    hidden |= {"interval"} if "margin" not in shown else set()
    hidden |= {"drop", "spread"} - shown
    return noted(table, hidden)


def pieces_of(table: Table, entry: Entry, name: str) -> dict[str, str]:
    """What can be printed in one cell, by the names in ``STYLES``; empty if there is none.

    A drop is written as a change: a fall from 80 to 60 is ``-25.0%``.
    """
    if name in table.summary:
        value = points(table.summary[name][entry.key])
        margin = summary_margin(table, entry.key, name).replace("+-", PLUS_MINUS)
        return dict.fromkeys(STYLES, "") | {"value": value, "margin": margin}
    cell = table.cells[entry.key, name]
    margin = margin_of(cell.interval, table.printed).replace("+-", PLUS_MINUS)
    drop = "" if math.isnan(cell.drop) else f"{points(-cell.drop, '+')}%"
    spread = "" if math.isnan(cell.spread) else f"sd {table.printed(cell.spread)}"
    return {"value": table.printed(cell.value), "margin": margin, "spread": spread, "drop": drop}


def _column(table: Table, name: str, layout: CellLines) -> dict[str, Text]:
    """Entry key -> cell, all of one width, its pieces under each other."""
    pieces = {entry.key: pieces_of(table, entry, name) for entry in table.entries}
    wide = {kind: max(len(found[kind]) for found in pieces.values()) for kind in STYLES}
    leaders = table.leaders.get(name, frozenset())
    cells = {}
    for key, found in pieces.items():
        lines = []
        for line in layout:
            parts = [(kind, found[kind]) for kind in line if wide[kind]]
            lines += [_line(parts, wide, LEADS if key in leaders else "")] if parts else []
        cells[key] = Text("\n").join(lines)
    return cells


def _line(parts: list[tuple[str, str]], wide: dict[str, int], lead: str) -> Text:
    written = []
    for kind, part in parts:
        styled = Text(part, style=lead if kind == "value" else STYLES[kind])
        written.append(Text(" " * (wide[kind] - len(part))) + styled)
    return Text(" ").join(written)


def _blocks(table: Table, columns: dict[str, dict[str, Text]], width: int) -> list[list[str]]:
    """Split the columns so that every block fits the width, with as equal blocks as can be."""
    room = width - max(cell_len(marked_title(table, entry)) for entry in table.entries)
    needs = {name: _width(table, name, cells) + GAP for name, cells in columns.items()}

    def split(room: int) -> list[list[str]]:
        blocks: list[list[str]] = [[]]
        for name, need in needs.items():
            if blocks[-1] and sum(needs[one] for one in blocks[-1]) + need > room:
                blocks.append([])
            blocks[-1].append(name)
        return blocks

    fewest = len(split(room))
    return next(found for part in range(1, room + 1) if len(found := split(part)) <= fewest)


def _width(table: Table, name: str, cells: dict[str, Text]) -> int:
    texts = [_header(table, name), *(cell.plain for cell in cells.values())]
    return max(cell_len(line) for text in texts for line in text.split("\n"))


def _header(table: Table, name: str) -> str:
    """Long names are broken, so that they do not widen the column."""
    header = table.header(name)
    if table.by == "seen" or name in table.summary:
        return header.replace(" ", "\n")
    return header.replace("_", "_\n") if len(header) > 10 else header


def _grid(table: Table, columns: dict[str, dict[str, Text]]) -> RenderableType:
    grid = RichTable(
        box=RULES, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), border_style="dim"
    )
    headers = ["Method", *(_header(table, name) for name in columns)]
    tallest = max(header.count("\n") for header in headers)
    for header in headers:
        side: JustifyMethod = "right" if grid.columns else "left"
        bottom = "\n" * (tallest - header.count("\n")) + header
        grid.add_column(Text(bottom, "bold", justify=side), justify=side, no_wrap=True)
    for entry, following in zip(table.entries, (*table.entries[1:], None), strict=True):
        style = "dim" if entry.is_reference else ""
        ends = following is not None and following.is_reference != entry.is_reference
        cells = [columns[name][entry.key] for name in columns]
        grid.add_row(Text(marked_title(table, entry), style), *cells, end_section=ends)
    return Padding(grid, (1, 0))


def markdown(table: Table) -> str:
    """Write a GitHub table: leaders in bold, notes as a list below it."""
    names = (*table.columns, *table.summary)
    headers = ["Method", *(markdown_escape(table.header(name)) for name in names)]
    lines = [f"**{markdown_escape(table.title)}.** {markdown_escape(table.notes['world'])}", ""]
    lines += [markdown_row(headers), markdown_row([":---", *["---:"] * len(names)])]
    for entry in table.entries:
        cells = [markdown_escape(marked_title(table, entry))]
        for name in names:
            found = pieces_of(table, entry, name)
            star = "**" * (entry.key in table.leaders.get(name, ()))
            drop = f"({found['drop']})" if found["drop"] else ""
            parts = (f"{star}{found['value']}{star}", found["margin"], found["spread"], drop)
            cells.append(" ".join(part for part in parts if part))
        lines.append(markdown_row(cells))
    notes = note_lines(table, set(STYLES))
    return "\n".join([*lines, "", *(f"- {markdown_escape(note)}" for note in notes)]) + "\n"


def html(table: Table) -> str:
    """Write HTML: leaders in bold, notes as paragraphs below."""
    names = (*table.columns, *table.summary)
    lines = []
    for entry in table.entries:
        cells = [HtmlCell(marked_title(table, entry), is_text=True)]
        for name in names:
            found = pieces_of(table, entry, name)
            drop = f"({found['drop']})" if found["drop"] else ""
            small = " ".join(filter(None, (found["margin"], found["spread"], drop)))
            leads = entry.key in table.leaders.get(name, ())
            cells.append(HtmlCell(found["value"], small, is_bold=leads))
        lines.append(cells)
    heads = ["Method", *map(table.header, names)]
    return html_table(table, heads, lines, note_lines(table, set(STYLES)))


def latex(table: Table, label: str = "") -> str:
    """Write a LaTeX float; see :mod:`results.latex.tabular`."""
    return comparison_float(table, label).source


FORMATS: dict[str, Callable[..., str]] = {
    "text": text,
    "md": markdown,
    "html": html,
    "csv": comma_separated,
    "json": json_text,
    "latex": latex,
}
