"""The critical-difference diagram: mean ranks over tasks, and which methods are not told apart."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from results.plots.style import empty, line_styles, plain, wrapped
from results.schema import METRICS
from results.tables.ranking import Ranking, ranking

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEP = 0.32  # inches from one name to the next


def critical_difference(
    rows: pd.DataFrame, metric: str = "acc", order: Sequence[str] = ()
) -> "Figure":
    """Mean ranks on a line, the best at the left; a bar joins those that are not told apart.

    Layout: Demsar 2006, JMLR 7:1-30.

    Raises:
        UserError: see :func:`results.tables.ranking.ranking`.
    """
    found = ranking(rows, metric, order)
    keys = [entry.key for entry in found.entries]
    half = (len(keys) + 1) // 2
    bars = found.cliques
    figure = empty(7.2, 1.5 + STEP * (half + 0.6 * len(bars) + 1))
    axes: Any = figure.add_subplot()
    top, lowest = 0.0, -(0.6 * len(bars) + half + 0.4)
    axes.set_xlim(0.4, len(keys) + 0.6)
    axes.set_ylim(lowest, 1.6)
    axes.axis("off")
    axes.plot([1, len(keys)], [top, top], color="black", linewidth=1)
    for rank in range(1, len(keys) + 1):
        axes.plot([rank, rank], [top, top + 0.15], color="black", linewidth=1)
        axes.text(rank, top + 0.25, str(rank), ha="center", va="bottom", fontsize=9)
    _scale(axes, found.critical_difference, len(keys))
    _names(axes, found, half, 0.6 * len(bars))
    means = found.mean_ranks
    for number, clique in enumerate(bars):
        height = top - 0.45 - 0.6 * number
        ends = [means[clique[0]] - 0.04, means[clique[-1]] + 0.04]
        axes.plot(ends, [height, height], color="#444444", linewidth=4, solid_capstyle="round")
    setting = f"Setting: {found.world}; {found.notes['friedman']}"
    title = f"{METRICS[metric].title}: mean ranks over {len(found.columns)} tasks of "
    title += f"{found.setting['suite']} with {found.setting['encoder']}"
    axes.set_title(f"{plain(title)}\n{wrapped(setting, 6.8, 9)}", fontsize=9, loc="left")
    return figure


def _scale(axes: Any, apart: float, methods: int) -> None:
    """How far two mean ranks must lie apart, as a line at the top left."""
    end = min(1 + apart, methods + 0.5)
    axes.plot([1, end], [1.0, 1.0], color="black", linewidth=1.5)
    for x in (1, end) if 1 + apart <= methods + 0.5 else (1,):
        axes.plot([x, x], [0.9, 1.1], color="black", linewidth=1.5)
    axes.text(1, 1.15, f"critical difference {apart:.2f}", fontsize=8, va="bottom")


def _names(axes: Any, found: Ranking, half: int, below: float) -> None:
    """The better half at the left, the others at the right, each with a line to its mean rank."""
    styles, means = line_styles(found.entries), found.mean_ranks
    for number, entry in enumerate(found.entries):
        left = number < half
        row = number if left else len(found.entries) - 1 - number
        height, rank = -below - 0.6 - row, means[entry.key]
        edge = 0.45 if left else len(found.entries) + 0.55
        axes.plot([rank, rank, edge], [0, height, height], color=styles[entry.key].colour,
                  linewidth=1)  # fmt: skip
        axes.text(
            edge, height + 0.06, plain(f"{entry.title} ({rank:.2f})"), fontsize=8,
            ha="left" if left else "right", va="bottom",
        )  # fmt: skip
