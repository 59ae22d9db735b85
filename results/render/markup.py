"""What tables of all kinds are written with: marks, notes, lines of markdown, CSV."""

import csv
import io
import math
from collections.abc import Sequence

from rich import box

from results.tables.entries import Entry, TableBase, repeated
from results.tables.grid import SETTING

MARKS = "\u2020\u2021\u00a7\u00b6\u2016"  # dagger, double dagger, section, pilcrow, double bar
PLUS_MINUS = "\u00b1"

RULES = box.HORIZONTALS


def spelled(text: str) -> str:
    """Write the ``+-`` of notes and cells as the sign."""
    return text.replace("+-", PLUS_MINUS)


def noted(table: TableBase, hidden: set[str]) -> list[str]:
    """The notes in one paragraph, without those hidden; then a line per mark."""
    lines = [" ".join(note for key, note in table.notes.items() if key not in hidden)]
    lines += [f"{repeated(MARKS, number)} {text}." for text, number in table.allowances.items()]
    return [spelled(line) for line in lines]


def marked_title(table: TableBase, entry: Entry) -> str:
    """Name of a method, with the mark that says what it was allowed to see."""
    number = table.allowances.get(entry.data_access)
    return entry.title + ("" if number is None else repeated(MARKS, number))


def comma_separated(table: TableBase) -> str:
    """Write one line per entry and column, numbers unrounded and in natural units."""
    file = io.StringIO()
    facts = {name: table.setting[name] for name in SETTING}
    lines = table.frame().to_dict("records")
    entries = {entry.key: entry for entry in table.entries}
    extra = {"tuned": "tuned", "config": "config", "adapt_on": "adapt_on",
             "allowance": "data_access"}  # column -> field of an entry  # fmt: skip
    writer = csv.DictWriter(file, [*facts, *lines[0], *extra], lineterminator="\n")
    writer.writeheader()
    for line in lines:
        entry = entries[str(line["entry"])]
        if "drop" in line:  # a fall is below 0, as every other format prints it
            line["drop"] = -float(line["drop"]) + 0.0
        known = {k: "" if isinstance(v, float) and math.isnan(v) else v for k, v in line.items()}
        writer.writerow(
            facts | known | {column: getattr(entry, field) for column, field in extra.items()}
        )
    return file.getvalue()


def markdown_row(cells: Sequence[str]) -> str:
    """One line of a GitHub table."""
    return f"| {' | '.join(cells)} |"


def markdown_escape(text: str) -> str:
    r"""Make ``text`` literal in GitHub markdown.

    >>> print(markdown_escape("a_b|c"))
    a\_b\|c
    """
    flat = " ".join(text.split())
    return "".join("\\" + c if c in "\\`*_[]<>|$#~" else c for c in flat)
