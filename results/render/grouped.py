"""Tables with several lines under each method: for the terminal, as markdown and HTML."""

import io
from collections.abc import Callable

from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from results.latex.grouped import grouped_float
from results.render.markup import (
    RULES,
    HtmlCell,
    comma_separated,
    html_table,
    json_text,
    markdown_escape,
    markdown_row,
    marked_title,
    noted,
    spelled,
)
from results.tables.layout import GroupedTable


def renderable(table: GroupedTable) -> RenderableType:
    """The table for a rich console: the name of a method, and its lines under it."""
    layout = table.layout()
    grid = RichTable(
        box=RULES, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), border_style="dim"
    )
    grid.add_column(Text(layout.subject, "bold"), overflow="fold")
    for number, header in enumerate(layout.headers, 1):
        side: JustifyMethod = "left" if layout.is_text(number) else "right"
        head = Text(header.replace(" ", "\n"), "bold", justify=side)
        grid.add_column(head, justify=side, no_wrap=not layout.is_text(number))
    for entry in table.entries:
        grid.add_row(Text(marked_title(table, entry)))
        lines = layout.lines[entry.key]
        for number, (name, cells) in enumerate(lines, 1):
            texts = [Text(spelled(cell)) for cell in cells]
            grid.add_row(Text(f"  {name}"), *texts, end_section=number == len(lines))
    notes = Text("\n".join(noted(table, {"world"})), "dim")
    head_line = Text.assemble((f"{table.title}\n", "bold"), (table.notes["world"], "dim"))
    return Group(head_line, Padding(grid, (1, 0)), notes)


def text(table: GroupedTable, width: int = 100) -> str:
    """Write the table for ``width`` columns."""
    file = io.StringIO()
    Console(file=file, width=width, force_jupyter=False).print(renderable(table))
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def markdown(table: GroupedTable) -> str:
    """Write a GitHub table, notes as a list below it."""
    layout = table.layout()
    setting = markdown_escape(table.notes["world"])
    lines = [f"**{markdown_escape(table.title)}.** {setting}", ""]
    lines += [markdown_row([layout.subject, layout.what, *layout.headers])]
    sides = [":---" if layout.is_text(n) else "---:" for n in range(1, len(layout.headers) + 1)]
    lines += [markdown_row([":---", ":---", *sides])]
    for entry in table.entries:
        title = markdown_escape(marked_title(table, entry))
        for name, cells in layout.lines[entry.key]:
            texts = [markdown_escape(spelled(cell)) if layout.is_text(n) else spelled(cell)
                     for n, cell in enumerate(cells, 1)]  # fmt: skip
            lines.append(markdown_row([title, markdown_escape(name), *texts]))
    notes = [f"- {markdown_escape(note)}" for note in noted(table, {"world"})]
    return "\n".join([*lines, "", *notes]) + "\n"


def html(table: GroupedTable) -> str:
    """Write HTML: a line per method and what its line is about, notes below."""
    layout = table.layout()
    lines = [
        [
            HtmlCell(marked_title(table, entry), is_text=True),
            HtmlCell(spelled(name), is_text=True),
            *(
                HtmlCell(spelled(cell), is_text=layout.is_text(n))
                for n, cell in enumerate(cells, 1)
            ),
        ]
        for entry in table.entries
        for name, cells in layout.lines[entry.key]
    ]
    heads = [layout.subject, layout.what, *layout.headers]
    return html_table(table, heads, lines, noted(table, {"world"}))


def latex(table: GroupedTable, label: str = "") -> str:
    """Write a LaTeX float; see :mod:`results.latex.grouped`."""
    return grouped_float(table, label).source


FORMATS: dict[str, Callable[..., str]] = {
    "text": text,
    "md": markdown,
    "html": html,
    "csv": comma_separated,
    "json": json_text,
    "latex": latex,
}
