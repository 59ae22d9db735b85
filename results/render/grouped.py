"""Tables with several lines under each method: for the terminal, as markdown and as LaTeX."""

import io
from collections.abc import Callable

from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from results.latex import longtable, tabular
from results.render.markup import RULES, entry_title, escape, noted, row
from results.tables.entries import Entry
from results.tables.layout import PLUS_MINUS, Nested

TALL = 30  # beyond so many lines LaTeX breaks a table over pages


def renderable(shown: Nested) -> RenderableType:
    """The table for a rich console: the name of a method, and its lines under it."""
    grid = RichTable(
        box=RULES, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), border_style="dim"
    )
    grid.add_column(Text("Method", "bold"), overflow="fold")
    for number, header in enumerate(shown.headers, 1):
        side: JustifyMethod = "left" if shown.is_text(number) else "right"
        head = Text(header.replace(" ", "\n"), "bold", justify=side)
        grid.add_column(head, justify=side, no_wrap=not shown.is_text(number))
    for entry in shown.table.entries:
        grid.add_row(Text(entry_title(shown.table, entry)))
        lines = shown.lines(entry, PLUS_MINUS)
        for number, (name, cells) in enumerate(lines, 1):
            grid.add_row(Text(f"  {name}"), *map(Text, cells), end_section=number == len(lines))
    notes = Text("\n".join(noted(shown.table, {"world"})), "dim")
    head_line = Text.assemble((shown.table.title, "bold"), f" ({shown.world})")
    return Group(head_line, Padding(grid, (1, 0)), notes)


def text(shown: Nested, width: int = 100) -> str:
    """Write the table for ``width`` columns."""
    file = io.StringIO()
    Console(file=file, width=width).print(renderable(shown))
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def markdown(shown: Nested) -> str:
    """Write a GitHub table, notes as a list below it."""
    table = shown.table
    lines = [f"**{escape(table.title)}** ({table.notes['world'].rstrip('.')})", ""]
    lines += [row(["Method", shown.what, *shown.headers])]
    sides = [":---" if shown.is_text(n) else "---:" for n in range(1, len(shown.headers) + 1)]
    lines += [row([":---", ":---", *sides])]
    for entry in table.entries:
        title = escape(entry_title(table, entry))
        for name, cells in shown.lines(entry, PLUS_MINUS):
            lines.append(row([title, escape(name), *shown.escaped(cells, escape)]))
    notes = [f"- {escape(note)}" for note in noted(table, {"world"})]
    return "\n".join([*lines, "", *notes]) + "\n"


def float_of(shown: Nested, label: str = "") -> str:
    r"""A ``table`` float, or a ``longtable`` if it is too tall for a page."""
    table = shown.table
    head = tabular.row(
        [tabular.escape(text) for text in ("Method", shown.what.capitalize(), *shown.headers)]
    )
    blocks = [_block(shown, entry) for entry in table.entries]
    told = [table.notes[key] for key in shown.caption if key in table.notes]
    title = rf"\textbf{{{tabular.escape(f'{table.title} ({shown.world})')}.}}"
    caption = " ".join([title, *map(tabular.escape, told), *tabular.marks_of(table)])
    below = [table.notes[key] for key in shown.below if key in table.notes]
    label = label or f"tab:{table.setting['suite']}-by-{shown.what}"
    last = " ".join(map(tabular.escape, below))
    numbers = len(shown.headers) - shown.text_last
    if sum(map(len, blocks)) > TALL:
        return longtable.float_around(numbers, shown.text_last, head, blocks, caption, label, last)
    sides = "ll" + "r" * numbers + "p{6cm}" * shown.text_last
    lines = [rf"\begin{{tabular}}{{@{{}}{sides}@{{}}}}", r"\toprule", head]
    for block in blocks:
        lines += [r"\midrule", *block]
    body = "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])
    return tabular.float_around(body, caption, label, last)


def _block(shown: Nested, entry: Entry) -> list[str]:
    """The lines of one method; its name stands in the first."""
    title, found = tabular.title_of(shown.table, entry), []
    for name, cells in shown.lines(entry, r"$\pm$"):
        found.append(
            tabular.row([title, tabular.escape(name), *shown.escaped(cells, tabular.escape)])
        )
        title = ""
    return found


FORMATS: dict[str, Callable[..., str]] = {"text": text, "md": markdown, "latex": float_of}
