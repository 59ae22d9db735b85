"""What tables of all kinds are written with: marks, notes, markdown, CSV, JSON, HTML."""

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich import box

from results.tables.entries import Entry, TableBase, repeated
from results.tables.grid import SETTING

MARKS = "\u2020\u2021\u00a7\u00b6\u2016"  # dagger, double dagger, section, pilcrow, double bar
PLUS_MINUS = "\u00b1"

RULES = box.HORIZONTALS

ABOUT = {  # column of a record -> field of an entry
    "tuned": "tuned",
    "config": "config",
    "adapt_on": "adapt_on",
    "allowance": "data_access",
}

HTML = """\
<div class="mergeshift">
<style>
.mergeshift table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.mergeshift caption { text-align: left; padding-bottom: 0.4em; }
.mergeshift th, .mergeshift td { padding: 0.15em 0.7em; text-align: right; white-space: nowrap; }
.mergeshift thead th { border-bottom: 1px solid; vertical-align: bottom; }
.mergeshift .text { text-align: left; }
.mergeshift small { opacity: 0.65; }
.mergeshift p { margin: 0.4em 0; max-width: 60em; font-size: 85%; }
</style>
<table>
<caption><b>{{ title }}</b><br>{{ world }}</caption>
<thead><tr>
{% for head in heads %}
<th scope="col"{% if lines and lines[0][loop.index0].is_text %} class="text"{% endif %}>\
{{ head }}</th>
{% endfor %}
</tr></thead>
<tbody>
{% for line in lines %}
<tr>
{% for cell in line %}
<td{% if cell.is_text %} class="text"{% endif %}>\
{% if cell.is_bold %}<b>{{ cell.text }}</b>{% else %}{{ cell.text }}{% endif %}\
{% if cell.small %} <small>{{ cell.small }}</small>{% endif %}</td>
{% endfor %}
</tr>
{% endfor %}
</tbody>
</table>
{% for note in notes %}
<p>{{ note }}</p>
{% endfor %}
</div>"""


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


def records(table: TableBase) -> list[dict[str, Any]]:
    """One per entry and column: numbers unrounded, in the units and with the signs of the table.

    ``None`` where there is no number.
    """
    entries = {entry.key: entry for entry in table.entries}
    found = []
    for line in table.printed_frame().to_dict("records"):
        entry = entries[str(line["entry"])]
        known = {
            str(key): None if isinstance(value, float) and math.isnan(value) else value
            for key, value in line.items()
        }
        found.append(known | {name: getattr(entry, field) for name, field in ABOUT.items()})
    return found


def comma_separated(table: TableBase) -> str:
    """Write one line per record, each with the whole setting."""
    file = io.StringIO()
    facts = {name: table.setting[name] for name in SETTING}
    lines = records(table)
    writer = csv.DictWriter(file, [*facts, *lines[0]], lineterminator="\n")
    writer.writeheader()
    writer.writerows(facts | line for line in lines)
    return file.getvalue()


def json_text(table: TableBase) -> str:
    """Write what the table is of, its notes, and its records, as JSON."""
    whole = {
        "title": table.title,
        "setting": {name: table.setting[name] for name in SETTING},
        "notes": {name: spelled(note) for name, note in table.notes.items()},
        "records": records(table),
    }
    return json.dumps(whole, indent=1, default=str) + "\n"


@dataclass(frozen=True)
class HtmlCell:
    """A cell of an HTML table: its main text, and what is printed paler behind it."""

    text: str
    small: str = ""
    is_bold: bool = False
    is_text: bool = False  # at the left


def html_table(
    table: TableBase,
    heads: Sequence[str],
    lines: Sequence[Sequence[HtmlCell]],
    notes: Sequence[str],
) -> str:
    """Write a table as HTML that stands in any page: ASCII, with the style that it needs.

    Args:
        table: whose title, and whose setting, stands above it.
        heads: of the columns.
        lines: cells, as many as heads each.
        notes: below it, a paragraph each.
    """
    from jinja2 import Environment

    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(HTML)
    text = template.render(
        title=table.title, world=table.notes["world"], heads=heads, lines=lines, notes=notes
    )
    return text.encode("ascii", "xmlcharrefreplace").decode() + "\n"


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
