"""A table for the terminal, as GitHub markdown and as CSV; LaTeX is in ``results.latex``."""

import csv
import io
import math
from collections.abc import Callable, Sequence
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from results.entries import Entry
from results.latex import float_of
from results.schema import WORLDS
from results.tables import Table, as_percent

PLUS_MINUS = "\u00b1"
MARKS = "\u2020\u2021\u00a7\u00b6\u2016"  # dagger, double dagger, section, pilcrow, double bar
STYLES = {"value": "", "margin": "dim", "drop": "dim"}
RANKED = {1: "bold", 2: "underline"}
GAP = 2  # between columns: the box's divider and one column of padding
RULES = box.HORIZONTALS

# Lines of a cell, each of pieces; the first layout that fits the width is taken.
Layout = tuple[tuple[str, ...], ...]
LAYOUTS: tuple[Layout, ...] = (
    (("value", "margin", "drop"),),
    (("value", "margin"), ("drop",)),
    (("value",), ("margin",)),
    (("value",),),
)


def render(table: Table, form: str = "text", **options: Any) -> str:
    """Write the table as ``text``, ``md``, ``csv`` or ``latex`` (see ``FORMATS``)."""
    return FORMATS[form](table, **options)


def text(table: Table, width: int = 100, colour: bool = False) -> str:
    """Write the table for ``width`` columns; ``colour`` adds the escape codes of a terminal."""
    file = io.StringIO()
    Console(
        file=file,
        width=width,
        force_terminal=colour,
        color_system="standard" if colour else None,
    ).print(renderable(table, width))
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def renderable(table: Table, width: int = 100) -> RenderableType:
    """The table for a rich console: as much of each cell as fits, else in blocks of columns."""
    names = (*table.columns, *table.summary)
    for layout in LAYOUTS:
        columns = {name: _column(table, name, layout) for name in names}
        if len(split := _blocks(table, columns, width)) == 1:
            break
    blocks = [_grid(table, {name: columns[name] for name in block}) for block in split]
    world = WORLDS.get(table.setting["world"], table.setting["world"])
    head = Text.assemble((table.title, "bold"), f" ({world})")
    notes = Text("\n".join(note_lines(table, {piece for line in layout for piece in line})), "dim")
    return Group(head, *blocks, notes)


def note_lines(table: Table, shown: set[str]) -> list[str]:
    """What a reader must know about the numbers shown: one paragraph, then a line per mark."""
    hidden = {"world"}  # stands in the title
    hidden |= {"interval"} if "margin" not in shown else set()
    hidden |= {"drop"} if "drop" not in shown else set()
    lines = [" ".join(note for key, note in table.notes.items() if key not in hidden)]
    lines += [f"{mark(number)} {text}." for text, number in table.allowances.items()]
    return [line.replace("+-", PLUS_MINUS) for line in lines]


def mark(number: int) -> str:
    """Mark number 0, 1, 2 ...; doubled, then tripled, when they run out."""
    return MARKS[number % len(MARKS)] * (1 + number // len(MARKS))


def entry_title(table: Table, entry: Entry) -> str:
    """Name of a line, with the mark that says what the method was allowed to see."""
    allowed = table.allowances.get(entry.allowance)
    return entry.title + ("" if allowed is None else mark(allowed))


def pieces_of(table: Table, entry: Entry, name: str) -> dict[str, str]:
    """What can be printed in one cell: ``value``, ``margin`` and ``drop``; empty if there is none.

    A drop is written as a change: a fall from 80 to 60 is ``-25.0%``.
    """
    if name in table.summary:
        return {"value": as_percent(table.summary[name][entry.key]), "margin": "", "drop": ""}
    cell = table.cells[entry.key, name]
    margin = "" if math.isnan(cell.margin) else f"{PLUS_MINUS}{table.printed(cell.margin)}"
    drop = "" if math.isnan(cell.drop) else f"{-100 * cell.drop:+.1f}%"
    return {"value": table.printed(cell.value), "margin": margin, "drop": drop}


def _column(table: Table, name: str, layout: Layout) -> dict[str, Text]:
    """Entry key -> cell, all of one width, its pieces under each other."""
    pieces = {entry.key: pieces_of(table, entry, name) for entry in table.entries}
    wide = {kind: max(len(found[kind]) for found in pieces.values()) for kind in STYLES}
    ranks = table.ranks(name)
    cells = {}
    for key, found in pieces.items():
        lines = []
        for line in layout:
            parts = [(kind, found[kind]) for kind in line if wide[kind]]
            lines += [_line(parts, wide, RANKED.get(ranks.get(key, 0), ""))] if parts else []
        cells[key] = Text("\n").join(lines)
    return cells


def _line(parts: list[tuple[str, str]], wide: dict[str, int], rank: str) -> Text:
    written = []
    for kind, part in parts:
        styled = Text(part, style=rank if kind == "value" else STYLES[kind])
        written.append(Text(" " * (wide[kind] - len(part))) + styled)
    return Text(" ").join(written)


def _blocks(table: Table, columns: dict[str, dict[str, Text]], width: int) -> list[list[str]]:
    """Split the columns so that every block fits the width, with as equal blocks as can be."""
    room = width - max(cell_len(entry_title(table, entry)) for entry in table.entries)
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
    """Long names are broken after an underscore, so that they do not widen the column."""
    header = table.header(name)
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
        grid.add_row(Text(entry_title(table, entry), style), *cells, end_section=ends)
    return Padding(grid, (1, 0))


def markdown(table: Table) -> str:
    """Write a GitHub table: best bold, second in italics, notes as a list below it."""
    names = (*table.columns, *table.summary)
    ranks = {name: table.ranks(name) for name in names}
    headers = ["Method", *(_escape(table.header(name)) for name in names)]
    lines = [f"**{_escape(table.title)}** ({table.notes['world'].rstrip('.')})", ""]
    lines += [_row(headers), _row([":---", *["---:"] * len(names)])]
    for entry in table.entries:
        cells = [_escape(entry_title(table, entry))]
        for name in names:
            found = pieces_of(table, entry, name)
            star = {1: "**", 2: "*"}.get(ranks[name].get(entry.key, 0), "")
            drop = f"({found['drop']})" if found["drop"] else ""
            parts = (f"{star}{found['value']}{star}", found["margin"], drop)
            cells.append(" ".join(part for part in parts if part))
        lines.append(_row(cells))
    notes = note_lines(table, set(STYLES))
    return "\n".join([*lines, "", *(f"- {_escape(note)}" for note in notes)]) + "\n"


def comma_separated(table: Table) -> str:
    """Write one line per entry and column, numbers unrounded and in natural units."""
    file = io.StringIO()
    facts = {name: table.setting[name] for name in ("world", "suite", "encoder", "limit")}
    rows = table.frame().to_dict("records")
    entries = {entry.key: entry for entry in table.entries}
    writer = csv.DictWriter(
        file, [*facts, *rows[0], "tuned", "config", "allowance"], lineterminator="\n"
    )
    writer.writeheader()
    for row in rows:
        entry = entries[row["entry"]]
        extra = {"tuned": entry.tuned, "config": entry.config, "allowance": entry.allowance}
        known = {k: "" if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}
        writer.writerow(facts | known | extra)
    return file.getvalue()


FORMATS: dict[str, Callable[..., str]] = {
    "text": text,
    "md": markdown,
    "csv": comma_separated,
    "latex": float_of,
}


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escape(text: str) -> str:
    r"""Make ``text`` literal in GitHub markdown.

    >>> print(_escape("a_b|c"))
    a\_b\|c
    """
    flat = " ".join(text.split())
    return "".join("\\" + c if c in "\\`*_[]<>|$#~" else c for c in flat)
