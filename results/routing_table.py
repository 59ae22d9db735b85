"""The errors of routed methods for the terminal, as markdown, CSV and LaTeX."""

import io
import math
from collections.abc import Callable

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from results import latex
from results.markup import PLUS_MINUS, RULES, comma_separated, entry_title, escape, noted, row
from results.routing import Breakdown, Losses
from results.schema import WORLDS
from results.statistics import Interval

HEADERS = ("accuracy", "error", "expert", "compression", "routing", "routed")
LABEL = "tab:routing"


def renderable(table: Breakdown) -> RenderableType:
    """The table for a rich console: under the name of a method, a line per column."""
    grid = RichTable(
        box=RULES, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), border_style="dim"
    )
    grid.add_column(Text("Method", "bold"), overflow="fold")
    for header in HEADERS:
        grid.add_column(Text(header, "bold"), justify="right", no_wrap=True)
    for entry in table.entries:
        grid.add_row(Text(entry_title(table, entry)))
        for name in table.columns:
            cells = _cells(table.losses[entry.key, name])
            ends = name == table.columns[-1]
            grid.add_row(Text(f"  {name}"), *map(Text, cells), end_section=ends)
    notes = Text("\n".join(noted(table, {"world"})), "dim")
    head = Text.assemble((table.title, "bold"), f" ({_world(table)})")
    return Group(head, Padding(grid, (1, 0)), notes)


def text(table: Breakdown, width: int = 100) -> str:
    """Write the table for ``width`` columns."""
    file = io.StringIO()
    Console(file=file, width=width).print(renderable(table))
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def markdown(table: Breakdown) -> str:
    """Write a GitHub table, notes as a list below it."""
    lines = [f"**{escape(table.title)}** ({table.notes['world'].rstrip('.')})", ""]
    lines += [row(["Method", "shift", *HEADERS])]
    lines += [row([":---", ":---", *["---:"] * len(HEADERS)])]
    for entry in table.entries:
        title = escape(entry_title(table, entry))
        for name in table.columns:
            lines.append(row([title, escape(name), *_cells(table.losses[entry.key, name])]))
    notes = [f"- {escape(note)}" for note in noted(table, {"world"})]
    return "\n".join([*lines, "", *notes]) + "\n"


def float_of(table: Breakdown, label: str = LABEL) -> str:
    r"""A ``table`` float; needs booktabs and graphicx."""
    lines = [rf"\begin{{tabular}}{{@{{}}ll{'r' * len(HEADERS)}@{{}}}}", r"\toprule"]
    lines += [latex.row(["Method", "Shift", *HEADERS])]
    for entry in table.entries:
        lines.append(r"\midrule")
        for name in table.columns:
            title = latex.title_of(table, entry) if name == table.columns[0] else ""
            cells = _cells(table.losses[entry.key, name], r"$\pm$")
            lines.append(latex.row([title, latex.escape(name), *cells]))
    body = "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])
    told = [table.notes[key] for key in ("parts", "interval", "images")]
    head = rf"\textbf{{{latex.escape(f'{table.title} ({_world(table)})')}.}}"
    caption = " ".join([head, *map(latex.escape, told), *latex.marks_of(table)])
    below = [table.notes[key] for key in ("levels", "shifts") if key in table.notes]
    return latex.float_around(body, caption, label, " ".join(map(latex.escape, below)))


FORMATS: dict[str, Callable[[Breakdown], str]] = {
    "text": text,
    "md": markdown,
    "csv": comma_separated,
    "latex": float_of,
}


def _world(table: Breakdown) -> str:
    return WORLDS.get(table.setting["world"], table.setting["world"])


def _cells(found: Losses, plus_minus: str = PLUS_MINUS) -> list[str]:
    """One line, in points; the error has the margin of the accuracy."""

    def with_margin(part: Interval) -> str:
        return f"{_points(part.value)} {plus_minus}{_points(part.margin)}"

    parts = [found.expert, found.compression, found.routing]
    return [
        with_margin(found.accuracy),
        _points(found.error.value),
        *map(with_margin, parts),
        _points(found.route_acc),
    ]


def _points(share: float) -> str:
    """Write a share in points.

    >>> _points(0.0734), _points(-0.0001), _points(math.nan)
    ('7.3', '0.0', '-')
    """
    return "-" if math.isnan(share) else f"{round(100 * share, 1) + 0.0:.1f}"
