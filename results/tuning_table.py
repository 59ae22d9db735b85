"""What was chosen on val, as a table: a line per seed under each method."""

import math

from results.entries import Entry
from results.markup import PLUS_MINUS
from results.nested import Lines, Nested
from results.statistics import Interval
from results.tuning import Chosen, Tuning, written

HEADERS = ("budget", "val", "test", "val-test", "chosen")


def shown(table: Tuning) -> Nested:
    """How it is printed."""

    def lines(entry: Entry, plus_minus: str) -> Lines:
        return [
            (name, _cells(chosen, plus_minus))
            for (key, name), chosen in table.lines.items()
            if key == entry.key
        ]

    return Nested(
        table=table,
        what="seed",
        headers=HEADERS,
        lines=lines,
        caption=("parts", "interval", "images"),
        below=("others",),
        text_last=True,
    )


def _cells(chosen: Chosen, plus_minus: str = PLUS_MINUS) -> list[str]:
    return [
        str(chosen.budget),
        _points(chosen.val, plus_minus),
        _points(chosen.test, plus_minus),
        _points(chosen.gap, plus_minus, signed=True),
        written(chosen.constants),
    ]


def _points(share: Interval, plus_minus: str, signed: bool = False) -> str:
    """Write a share with its margin, in points.

    >>> _points(Interval(0.8, 0.77, 0.84), "+-"), _points(Interval(0.008, 0, 0.01), "+-", True)
    ('80.0 +-4.0', '+0.8 +-0.8')
    """
    if math.isnan(share.value):
        return "-"
    value = round(100 * share.value, 1) + 0.0
    return f"{value:{'+' if signed else ''}.1f} {plus_minus}{100 * share.margin:.1f}"
