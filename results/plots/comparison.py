"""Figures: accuracy against severity, and a heatmap of methods against corruptions.

Each function takes the rows and returns a matplotlib figure (see :mod:`results.plots.style`).
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from mergeshift import UserError
from results.plots.style import empty, fields, label_ends, line_styles, plain, wrapped
from results.tables.comparison import Table, compare

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
    ends, styles = {}, line_styles(table.entries)
    known = any(cell.df > 0 for cell in table.cells.values())  # what other experts would change
    for entry in table.entries:
        look = styles[entry.key]
        cells = [table.cells[entry.key, name] for name in table.columns]
        y = [cell.value * scale for cell in cells]
        if any(map(math.isnan, y)):  # in results that are older than the metric
            continue
        band = [[cell.low * scale for cell in cells], [cell.high * scale for cell in cells]]
        axes.fill_between(x, *band, color=look.colour, alpha=0.12, linewidth=0)
        axes.plot(
            x, y, look.dash, color=look.colour, marker=look.marker, markersize=5, linewidth=1.6
        )
        ends[entry] = y[-1]
    label_ends(axes, ends, x[-1], styles)
    axes.set_xticks(x, ["clean" if one == 0 else str(one) for one in x])
    axes.set_xlabel("severity")
    unit = f" ({table.spec.unit})" * bool(table.spec.unit)
    axes.set_ylabel(f"{table.spec.title.lower()}{unit}")
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    over = "images and sets of experts" if known else "images alone"
    spec = table.spec
    bands = f"; bands: 95 % interval over {over}" if spec.counted or spec.of else ""
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
    texts = [
        [table.printed(table.cells[entry.key, name].value) for name in table.columns]
        for entry in table.entries
    ]
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


def _title(axes: Any, table: Table, mean: str) -> None:
    unit = f", {table.spec.unit}" if table.spec.unit else ""
    room = float(axes.figure.get_figwidth()) - 1.0  # inches, right of the numbers
    setting = wrapped(f"Setting: {table.world}; {mean}", room)
    axes.set_title(f"{plain(table.title + unit)}\n{setting}", fontsize=10, loc="left")
