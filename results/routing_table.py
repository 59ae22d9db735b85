"""The errors of routed methods, as a table: a line per shift under each method."""

import math

from results.entries import Entry
from results.markup import PLUS_MINUS
from results.nested import Lines, Nested
from results.routing import Breakdown, Losses
from results.statistics import Interval

HEADERS = ("accuracy", "error", "expert", "compression", "routing", "routed")


def shown(table: Breakdown) -> Nested:
    """How it is printed."""

    def lines(entry: Entry, plus_minus: str) -> Lines:
        found = {name: table.losses[entry.key, name] for name in table.columns}
        return [(name, _cells(losses, plus_minus)) for name, losses in found.items()]

    return Nested(
        table=table,
        what="shift",
        headers=HEADERS,
        lines=lines,
        caption=("parts", "interval", "images"),
        below=("unseen", "levels", "shifts"),
    )


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
