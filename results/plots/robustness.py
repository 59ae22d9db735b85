"""Accuracy under shift against clean accuracy, with the line that static merges lie on."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mergeshift import UserError
from results.plots.style import empty, line_styles, plain, wrapped
from results.schema import world_name
from results.tables.grid import Grid, arrange
from results.tables.robustness import Fit, effective_robustness, fit_of, logit, shifted_cells

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TICKS = (0.01, 0.05, *(k / 10 for k in range(1, 10)), 0.95, 0.98, 0.99, 0.995)


def draw(rows: pd.DataFrame, order: Sequence[str] = ()) -> "Figure":
    """A point for each method, in logits; the line; and from each point a hair to the line.

    Clean accuracy is the mean over tasks, that under shift over all shifts as well. Static merges,
    which the line goes through, are filled, all others hollow. The legend has the residuals with
    their 95 % limits.

    Raises:
        UserError: see :func:`results.tables.robustness.static_of`; or there is no line.
    """
    grid = arrange(rows, "robustness", order)
    span = shifted_cells(grid)
    found = fit_of(grid, span)
    if np.isnan(found.line.slope):
        raise UserError("every static merge has the same clean accuracy: there is no line to draw")
    limits = [one.estimate.interval for one in effective_robustness(grid, span)]
    figure = empty(7.4, max(4.4, 1.2 + 0.22 * len(grid.entries)))
    axes: Any = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    x, y = logit(found.clean), logit(found.shifted)
    ends = np.array([x.min(), x.max()])
    axes.plot(ends, found.line.intercept + found.line.slope * ends, color="black", linewidth=1.2)
    styles = line_styles(grid.entries)
    for e, entry in enumerate(grid.entries):
        look, said = styles[entry.key], found.line.intercept + found.line.slope * x[e]
        axes.plot([x[e], x[e]], [said, y[e]], color=look.colour, linewidth=0.9)
        axes.plot(
            x[e], y[e], look.marker, color=look.colour, markersize=7,
            markerfacecolor=look.colour if e in found.static else "none",
            label=plain(f"{entry.title}  {_told(limits[e])}"),
        )  # fmt: skip
    for axis, values in ((axes.xaxis, x), (axes.yaxis, y)):
        _percent(axis, values)
    axes.set_xlabel("accuracy on clean images (%), logit scale")
    axes.set_ylabel("accuracy under shift (%), logit scale")
    axes.grid(color="#dddddd", linewidth=0.6)
    figure.legend(loc="outside right center", fontsize=8, frameon=False)
    figure.suptitle(_title(grid, found, len(span.shifts)), fontsize=10, x=0.01, ha="left")
    return figure


def _told(limits: Any) -> str:
    text = f"{100 * limits.value:+.1f}"
    if np.isnan(limits.low):
        return text
    return f"{text} [{100 * limits.low:+.1f}, {100 * limits.high:+.1f}]"


def _percent(axis: Any, values: np.ndarray) -> None:
    """Ticks at round accuracies, on an axis of logits."""
    low, high = float(values.min()), float(values.max())
    room = max(0.1, 0.08 * (high - low))
    {"x": axis.axes.set_xlim, "y": axis.axes.set_ylim}[axis.axis_name](low - room, high + room)
    places = logit(np.array(TICKS))
    ticks = np.array(TICKS)[(places >= low - room) & (places <= high + room)]
    if len(ticks) < 2:  # points so close that no two round numbers lie between them
        ticks = (1 / (1 + np.exp(-np.linspace(low, high, 4)))).round(3)
    axis.set_ticks(logit(ticks).tolist(), [f"{100 * tick:.3g}" for tick in ticks.tolist()])


def _title(grid: Grid, found: Fit, shifts: int) -> str:
    setting = grid.setting
    over = "images and sets of experts" if len(grid.sets) > 1 else "images alone"
    text = (
        f"Effective robustness on {setting['suite']} with {setting['encoder']}; setting: "
        f"{world_name(setting['world'])}; mean over {len(grid.tasks)} tasks and {shifts} shifts; "
        f"line through the {len(found.static)} static merges (filled), slope "
        f"{found.line.slope:.2f}; legend: residuals in points, 95 % interval over {over}"
    )
    return wrapped(text, 7.4)
