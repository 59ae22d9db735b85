"""A figure of a search on val: what was tried, what was best so far, and what mattered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from results.plots.style import GREY, PALETTE, empty, wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OBJECTIVES = {
    "normalised": "validation accuracy, % of the experts'",
    "accuracy": "validation accuracy, %",
}
COLOURS = (PALETTE[1], PALETTE[3], PALETTE[2], PALETTE[4], PALETTE[0])
SEEN = 0.75  # share of the trials that the axis must show; worse ones are drawn at its foot


@dataclass(frozen=True, kw_only=True)
class History:
    """One method's searches, by seed."""

    title: str
    objective: str
    values: Mapping[str, Sequence[float]]  # seed -> value by trial
    anchor: Mapping[str, float]  # seed -> value of what the search begins from
    importance: Mapping[str, float]  # constant -> share, largest first; may be empty


def history(found: History) -> "Figure":
    """Value by trial with the best so far, and the importance of each constant."""
    rows = len(found.importance)
    figure = empty(9.0 if rows else 5.6, max(3.4, 1.2 + 0.19 * rows))
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1)) if rows else (figure.subplots(), 0)
    _trials(left, found)
    if rows:
        _bars(right, found.importance)
    width = float(figure.get_figwidth())
    title = f"{found.title}: search on validation data, mean over tasks"
    figure.suptitle(wrapped(title, width), fontsize=10, x=0.01, ha="left")
    return figure


def _trials(axes: Any, found: History) -> None:
    values = {name: 100 * np.asarray(each) for name, each in found.values.items()}
    low, high = _limits([*values.values(), 100 * np.array(list(found.anchor.values()))])
    axes.set_ylim(low, high)
    for (name, each), colour in zip(values.items(), COLOURS * len(values), strict=False):
        x = np.arange(1, len(each) + 1)
        below = each < low
        axes.plot(x[~below], each[~below], "o", color=colour, markersize=3.2, alpha=0.55)
        axes.plot(x[below], np.full(below.sum(), low), "v", color=colour, markersize=4, alpha=0.55,
                  clip_on=False)  # fmt: skip
        best = np.maximum.accumulate(each)
        axes.step(x, best, where="post", color=colour, linewidth=1.6, label=f"best, {name}")
    for number, level in enumerate(sorted(set(found.anchor.values()))):
        label = "the anchor itself" if not number else None
        axes.axhline(100 * level, color=GREY, linestyle="--", linewidth=1, label=label)
    if any((each < low).any() for each in values.values()):
        axes.plot([], [], "v", color=GREY, markersize=4, label="lower than shown")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_xlabel("trial")
    axes.set_ylabel(OBJECTIVES.get(found.objective, found.objective), fontsize=9)
    axes.legend(fontsize=7.5, loc="best", framealpha=0.9)


def _limits(values: Sequence[np.ndarray]) -> tuple[float, float]:
    """Of the axis: most trials, every best one and the anchor are inside."""
    every = np.concatenate(values)
    firm = min(each.max() for each in values)
    low = min(float(np.quantile(every, 1 - SEEN)), float(firm))
    high = float(every.max())
    room = 0.06 * max(high - low, 0.1)
    return low - room, high + room


def _bars(axes: Any, importance: Mapping[str, float]) -> None:
    names, shares = list(importance), list(importance.values())
    small = len(names) > 12
    axes.barh(range(len(names)), shares, color=PALETTE[1], height=0.65)
    for place, share in enumerate(shares):
        axes.text(share, place, f" {share:.2f}", va="center", fontsize=6.5 if small else 8)
    axes.set_yticks(range(len(names)), names, fontsize=6.5 if small else 8)
    axes.invert_yaxis()
    axes.set_xlim(0, max(1e-9, *shares) * 1.18)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("importance for a good trial (PED-ANOVA), share", fontsize=9)
