"""Tables with several lines under each method: for the terminal, as markdown and as LaTeX."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from results import latex, latex_long
from results.entries import Entry, Listing
from results.markup import PLUS_MINUS, RULES, entry_title, escape, noted, row
from results.schema import WORLDS

TALL = 30  # beyond so many lines LaTeX breaks a table over pages

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
    text_last: bool = False  # whether the last column is text: at the left, broken into lines

    @property
    def world(self) -> str:
        """Where pictures and encoder come from."""
        name = self.table.setting["world"]
        return WORLDS.get(name, name)

    def is_text(self, number: int) -> bool:
        """Whether column ``number``, from 1, is text."""
        return self.text_last and number == len(self.headers)

    def escaped(self, cells: Sequence[str], escape: Callable[[str], str]) -> list[str]:
        """``cells`` with their text made literal; numbers are written as they stand."""
        return [escape(cell) if self.is_text(n) else cell for n, cell in enumerate(cells, 1)]


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
    head = latex.row(
        [latex.escape(text) for text in ("Method", shown.what.capitalize(), *shown.headers)]
    )
    blocks = [_block(shown, entry) for entry in table.entries]
    told = [table.notes[key] for key in shown.caption if key in table.notes]
    title = rf"\textbf{{{latex.escape(f'{table.title} ({shown.world})')}.}}"
    caption = " ".join([title, *map(latex.escape, told), *latex.marks_of(table)])
    below = [table.notes[key] for key in shown.below if key in table.notes]
    label = label or f"tab:{table.setting['suite']}-by-{shown.what}"
    last = " ".join(map(latex.escape, below))
    numbers = len(shown.headers) - shown.text_last
    if sum(map(len, blocks)) > TALL:
        return latex_long.float_around(numbers, shown.text_last, head, blocks, caption, label, last)
    sides = "ll" + "r" * numbers + "p{6cm}" * shown.text_last
    lines = [rf"\begin{{tabular}}{{@{{}}{sides}@{{}}}}", r"\toprule", head]
    for block in blocks:
        lines += [r"\midrule", *block]
    body = "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])
    return latex.float_around(body, caption, label, last)


def _block(shown: Nested, entry: Entry) -> list[str]:
    """The lines of one method; its name stands in the first."""
    title, found = latex.title_of(shown.table, entry), []
    for name, cells in shown.lines(entry, r"$\pm$"):
        found.append(latex.row([title, latex.escape(name), *shown.escaped(cells, latex.escape)]))
        title = ""
    return found


FORMATS: dict[str, Callable[..., str]] = {"text": text, "md": markdown, "latex": float_of}
