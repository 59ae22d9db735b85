"""Figures: accuracy against severity, and a heatmap of methods against corruptions.

Each function takes the rows and returns a matplotlib figure (see :mod:`results.drawing`).
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from bench.errors import UserError
from bench.seeds import seed_of
from results.drawing import empty, fields, plain
from results.entries import Entry
from results.schema import CEILING, FLOOR, ORACLE, WORLDS
from results.tables import Table, compare

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GREY = "#666666"


class Look(NamedTuple):
    """How a method is drawn, in every figure."""

    colour: str
    marker: str
    dash: str


# Okabe and Ito's colours, which people with colour-blindness can tell apart; a shape as well.
PALETTE = ("#E69F00", "#0072B2", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#B2A400")
SHAPES = "osD^vP*X"
LOOKS: Mapping[str, Look] = {
    FLOOR: Look(GREY, "s", ":"),
    "average": Look(PALETTE[5], "o", "-"),
    "task_arithmetic": Look(PALETTE[0], "s", "-"),
    "ties": Look(PALETTE[2], "D", "-"),
    "regmean": Look(PALETTE[2], "p", "--"),
    "tsv": Look(PALETTE[1], "d", "-."),
    "wudi": Look(PALETTE[4], "s", "-."),
    "adamerging": Look(PALETTE[1], "^", "-"),
    "adamerging_task": Look(PALETTE[1], "<", ":"),
    "adamerging_pp": Look(PALETTE[1], ">", "--"),
    "twin_merging": Look(PALETTE[4], "v", "-"),
    "centroid_router": Look(PALETTE[4], "*", ":"),
    "ce_router": Look(PALETTE[4], "p", "--"),
    "entropy_router": Look(PALETTE[4], "h", "-."),
    "logit_ensemble": Look(PALETTE[6], "d", "--"),
    "bd_merging": Look(PALETTE[3], "P", "-"),
    "bd_merging_task": Look(PALETTE[3], "p", "--"),
    "anchor_scales": Look(PALETTE[3], "h", ":"),
    "bmm": Look(PALETTE[6], "X", "-"),
    "bmm_datafree": Look(PALETTE[6], ">", "--"),
    "bmm_hybrid": Look(PALETTE[6], "<", "-."),
    "bmm_sampled": Look(PALETTE[6], "h", ":"),
    ORACLE: Look("#000000", "v", ":"),
    CEILING: Look("#000000", "o", "--"),
}


def look_of(entry: Entry) -> Look:
    """Colour, marker and dash of a line: the same whatever else is in the figure.

    Methods that have no look of their own get one by name; a variant keeps its method's colour
    and gets a marker of its own.
    """
    seed = seed_of("look", entry.method)
    default = Look(PALETTE[seed % len(PALETTE)], SHAPES[seed // 7 % len(SHAPES)], "-.")
    look = LOOKS.get(entry.method, default)
    if entry.key == entry.method:
        return look
    return look._replace(marker=SHAPES[seed_of("look", entry.key) % len(SHAPES)])


def severity(rows: pd.DataFrame, metric: str = "acc", order: Sequence[str] = ()) -> "Figure":
    """Mean over tasks and corruptions against severity, a line per method, 95 % bands.

    Raises:
        UserError: the cells are unequal, or there is only one severity.
    """
    table = compare(rows, metric, by="severity", order=order)
    if len(table.columns) < 2:
        raise UserError(
            f"a severity plot needs two severities or more; got {', '.join(table.columns)}"
        )
    figure = empty(7.2, 4.4)
    axes: Any = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    scale = table.spec.scale
    x = [int(name) for name in table.columns]
    ends = {}
    for entry in table.entries:
        look = look_of(entry)
        cells = [table.cells[entry.key, name] for name in table.columns]
        y = [cell.value * scale for cell in cells]
        band = [[cell.low * scale for cell in cells], [cell.high * scale for cell in cells]]
        axes.fill_between(x, *band, color=look.colour, alpha=0.12, linewidth=0)
        axes.plot(
            x, y, look.dash, color=look.colour, marker=look.marker, markersize=5, linewidth=1.6
        )
        ends[entry] = y[-1]
    label_ends(axes, ends, x[-1])
    axes.set_xticks(x, ["clean" if one == 0 else str(one) for one in x])
    axes.set_xlabel("severity")
    axes.set_ylabel(f"{table.spec.title.lower()} ({table.spec.unit})")
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    bands = "; bands: 95 % Wilson interval over images" if table.spec.counted else ""
    _title(axes, table, f"mean over tasks and corruptions{bands}")
    return figure


def heatmap(rows: pd.DataFrame, metric: str = "acc", order: Sequence[str] = ()) -> "Figure":
    """Methods against corruptions (mean over tasks and severities), a number in every field.

    Raises:
        UserError: the cells are unequal.
    """
    table = compare(rows, metric, by="corruption", order=order)
    scale = table.spec.scale
    values = [
        [table.cells[entry.key, name].value * scale for name in table.columns]
        for entry in table.entries
    ]
    texts = [[f"{value:.{table.spec.decimals}f}" for value in row] for row in values]
    figure = empty(2.6 + 0.72 * len(table.columns), 1.6 + 0.36 * len(table.entries))
    axes = figure.add_subplot()
    fields(
        axes,
        values,
        texts,
        rows=[entry.title for entry in table.entries],
        columns=table.columns,
        colours="viridis_r" if table.spec.higher_is_better is False else "viridis",
    )
    _title(axes, table, "mean over tasks and severities")
    return figure


def label_ends(axes: Any, ends: Mapping[Entry, float], x: float) -> None:
    """Name each line at its end; names keep a distance, and a hair leads to the line."""
    low, high = axes.get_ylim()
    for entry, place in zip(ends, _apart(list(ends.values()), (high - low) / 18), strict=True):
        colour = look_of(entry).colour
        axes.annotate(
            plain(entry.title),
            xy=(x, ends[entry]),
            xytext=(1.02, place),
            textcoords=axes.get_yaxis_transform(),
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6},
            va="center",
            fontsize=9,
            color=colour,
        )


def _apart(places: list[float], gap: float) -> list[float]:
    """Move numbers as little as a sweep up and one down need to keep them ``gap`` apart.

    >>> _apart([1.0, 5.0, 1.0], gap=1.0)
    [0.5, 5.0, 1.5]
    """
    order = sorted(range(len(places)), key=places.__getitem__)
    up = [places[i] for i in order]
    down = up.copy()
    for i in range(1, len(order)):
        up[i] = max(up[i], up[i - 1] + gap)
        down[-1 - i] = min(down[-1 - i], down[-i] - gap)
    moved = dict(zip(order, [(a + b) / 2 for a, b in zip(up, down, strict=True)], strict=True))
    return [moved[i] for i in range(len(places))]


def _title(axes: Any, table: Table, mean: str) -> None:
    world = WORLDS.get(table.setting["world"], table.setting["world"])
    unit = f", {table.spec.unit}" if table.spec.unit else ""
    title = plain(f"{table.title} ({world}){unit}\n{mean}")
    axes.set_title(title, fontsize=10, loc="left")
