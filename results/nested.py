"""Tables with several lines under each method: for the terminal, as markdown and as LaTeX."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from results import latex
from results.entries import Entry, Listing
from results.markup import PLUS_MINUS, RULES, entry_title, escape, noted, row
from results.schema import WORLDS

Lines = Sequence[tuple[str, Sequence[str]]]  # what a line is of, and its cells


@dataclass(frozen=True, kw_only=True)
class Nested:
    """How one kind of listing is printed."""

    table: Listing
    what: str  # what the lines under a method are of, e.g. "shift"
    headers: Sequence[str]
    lines: Callable[[Entry, str], Lines]  # of an entry, given how +- is written
    caption: Sequence[str]  # notes that stand in the caption of LaTeX
    below: Sequence[str]  # those that stand below its table

    @property
    def world(self) -> str:
        """Where pictures and encoder come from."""
        name = self.table.setting["world"]
        return WORLDS.get(name, name)


def renderable(shown: Nested) -> RenderableType:
    """The table for a rich console: the name of a method, and its lines under it."""
    grid = RichTable(
        box=RULES, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), border_style="dim"
    )
    grid.add_column(Text("Method", "bold"), overflow="fold")
    for header in shown.headers:
        head = header.replace(" ", "\n")
        grid.add_column(Text(head, "bold", justify="right"), justify="right", no_wrap=True)
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
    lines += [row([":---", ":---", *["---:"] * len(shown.headers)])]
    for entry in table.entries:
        title = escape(entry_title(table, entry))
        for name, cells in shown.lines(entry, PLUS_MINUS):
            lines.append(row([title, escape(name), *cells]))
    notes = [f"- {escape(note)}" for note in noted(table, {"world"})]
    return "\n".join([*lines, "", *notes]) + "\n"


def float_of(shown: Nested, label: str = "") -> str:
    r"""A ``table`` float; needs booktabs and graphicx."""
    table = shown.table
    headers = map(latex.escape, ("Method", shown.what.capitalize(), *shown.headers))
    lines = [rf"\begin{{tabular}}{{@{{}}ll{'r' * len(shown.headers)}@{{}}}}", r"\toprule"]
    lines += [latex.row(list(headers))]
    for entry in table.entries:
        lines.append(r"\midrule")
        for number, (name, cells) in enumerate(shown.lines(entry, r"$\pm$")):
            title = "" if number else latex.title_of(table, entry)
            lines.append(latex.row([title, latex.escape(name), *cells]))
    body = "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])
    told = [table.notes[key] for key in shown.caption if key in table.notes]
    head = rf"\textbf{{{latex.escape(f'{table.title} ({shown.world})')}.}}"
    caption = " ".join([head, *map(latex.escape, told), *latex.marks_of(table)])
    below = [table.notes[key] for key in shown.below if key in table.notes]
    label = label or f"tab:{table.setting['suite']}-by-{shown.what}"
    return latex.float_around(body, caption, label, " ".join(map(latex.escape, below)))


FORMATS: dict[str, Callable[[Nested], str]] = {"text": text, "md": markdown, "latex": float_of}
