"""A figure of what a merge can trade between tasks: each task against the mean of the others."""

from typing import TYPE_CHECKING

import numpy as np

from results.plots.style import GREY, PALETTE, empty, wrapped
from results.tables.pareto import Front

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ACROSS = 4  # panels in a row


def trade_offs(front: Front, title: str) -> "Figure":
    """A panel for each task: forecast fronts as lines, what was measured as points.

    Args:
        front: of one run.
        title: what method, and where.
    """
    count = len(front.tasks)
    columns = min(ACROSS, count)
    rows = -(-count // columns)
    width, height = 2.4 * columns + 0.6, 2.3 * rows + 0.9
    figure = empty(width, height)
    panels = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
    measured = 100 * np.array(front.measured)
    for i, (panel, task) in enumerate(zip(panels, front.tasks, strict=False)):
        others = np.delete(measured, i, axis=1).mean(axis=1)
        panel.plot(measured[:, i], others, "o", color=GREY, markersize=3, label="measured")
        along = 100 * np.array(list(front.curves[task].values()))
        panel.plot(along[:, i], np.delete(along, i, axis=1).mean(axis=1), "-o", markersize=3,
                   color=PALETTE[1], label="best by the quadratics")  # fmt: skip
        equal = 100 * np.array(front.equal)
        panel.plot(equal[i], np.delete(equal, i).mean(), "*", color=PALETTE[3], markersize=8,
                   label="equal weights")  # fmt: skip
        panel.set_title(task, fontsize=9)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=7)
    for panel in panels[count:]:
        panel.set_visible(False)
    panels[0].legend(fontsize=6.5, loc="best", framealpha=0.9)
    figure.supxlabel("accuracy on the task, val, %", fontsize=9)
    figure.supylabel("mean of the other tasks, %", fontsize=9)
    figure.suptitle(wrapped(title, width), fontsize=10, x=0.01, ha="left")
    return figure
