"""Figures of what was learned: where images are routed to, and coefficients layer by layer."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from corruptions.base import LEVELS
from mergeshift import UserError
from results.plots.style import empty, fields, wrapped
from results.schema import ROUTE, world_name
from results.tables.columns import spans
from results.tables.grid import arrange

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MANY = 10  # so many rows or columns are printed small
ABREAST = 4  # panels beside each other
CROWD = 24  # so many rows are printed smaller still
BEFORE = ("input", "class_embedding", "conv1", "positional_embedding", "ln_pre")  # the blocks
AFTER = ("output", "ln_post", "proj")
NARROW = 4.0  # inches; a title needs some room


def weights(rows: pd.DataFrame) -> tuple[str, dict[str, pd.DataFrame]]:
    """Mean routing weights of the one method that routes.

    Args:
        rows: a frame of the columns in ``results.schema``.

    Returns:
        The method's name as printed; and by column of the table by shift (clean and the levels
        that were measured, or every shift where none of these was) a frame: true task x route.

    Raises:
        UserError: no method here routes, or several do.
    """
    rows = rows[rows["metric"].str.startswith(ROUTE)]
    if rows.empty:
        raise UserError("no method here routes; choose a sweep with one, e.g. oracle_router")
    only(rows["method"], "route")
    grids = {name.removeprefix(ROUTE): arrange(rows, name) for name in rows["metric"].unique()}
    grid = next(iter(grids.values()))
    only([entry.key for entry in grid.entries], "route")
    order = [task for task in grid.tasks if task in grids]
    order += [name for name in grids if name not in grid.tasks]
    columns = spans(grid, "shift")
    wanted = [name for name in columns if name in ("clean", *LEVELS)]
    if len(wanted) < 2:
        wanted = list(columns)
    found = {}
    for name in wanted:
        tasks, where = (list(part) for part in columns[name])
        means = {route: grids[route].means[0][tasks][:, where].mean(axis=1) for route in order}
        found[name] = pd.DataFrame(means, index=[grid.tasks[t] for t in tasks])
    return grid.entries[0].title, found


def only(names: Iterable[str], what: str) -> str:
    """The one of ``names``.

    Raises:
        UserError: there are several; the message says that they all ``what``.
    """
    found = sorted(set(names))
    if len(found) > 1:
        raise UserError(f"{len(found)} methods {what} ({', '.join(found)}); choose one: --methods")
    return found[0]


def routing(rows: pd.DataFrame) -> "Figure":
    """True task against route, mean weight in percent; a panel for clean and each level.

    Raises:
        UserError: no method here routes, or several do.
    """
    title, panels = weights(rows)
    first = next(iter(panels.values()))
    tasks, routes = len(first.index), len(first.columns)
    small = max(tasks, routes) > MANY
    field = 0.25 if small else 0.32
    across = min(ABREAST // 2 if small else ABREAST, len(panels))
    down = -(-len(panels) // across)
    width = max(NARROW, 1.2 + across * (0.15 + field * routes))
    figure = empty(width, 0.7 + down * (0.9 + field * tasks))
    every = list(figure.subplots(down, across, squeeze=False, sharey=True).flat)
    for axes, (name, frame) in zip(every, panels.items(), strict=False):
        values = frame.to_numpy()
        texts = [[f"{100 * value:.0f}" if value >= 0.005 else "" for value in row]
                 for row in values]  # fmt: skip
        fields(
            axes,
            values,
            texts,
            rows=list(frame.index),
            columns=list(frame.columns),
            colours="Blues",
            limits=(0, 1),
            size=6 if small else 8,
        )
        axes.set_title(name, fontsize=9)
        axes.tick_params(labelsize=7 if small else 8)
    for axes in every[len(panels) :]:
        axes.set_visible(False)
    world, suite = world_name(*rows[["world", "protocol"]].iloc[0]), rows["suite"].iloc[0]
    about = f"{title}: mean routing weight on {suite}, in %; setting: {world}; "
    about += "rows: true task, columns: route"
    figure.suptitle(wrapped(about, width), fontsize=10, x=0.01, ha="left")
    return figure


def coefficients(
    values: Mapping[str, Mapping[str, float]], title: str, tasks: Sequence[str] = ()
) -> "Figure":
    """Learned coefficients: a row per layer (or one), a column per task.

    Args:
        values: row -> task -> number.
        title: what they are of.
        tasks: in which order; by default as they come.

    Raises:
        UserError: there are none.
    """
    if not values:
        raise UserError(f"{title} learned no coefficients; choose a method that does: adamerging")
    frame = pd.DataFrame(values).T
    frame = frame.loc[sorted(values, key=_depth), [t for t in tasks if t in frame] or frame.columns]
    matrix = frame.to_numpy(float)
    many, crowd = len(frame) > MANY, len(frame) > CROWD
    field, size = (0.135, 5.5) if crowd else (0.22, 7) if many else (0.36, 8)
    width = max(NARROW, 1.2 + 0.07 * max(map(len, values)) + 0.5 * len(frame.columns))
    figure = empty(width, 1.3 + field * len(frame))
    axes = figure.add_subplot()
    reach = float(np.nanmax(np.abs(matrix)))
    lowest = float(np.nanmin(matrix))
    signed = lowest < 0
    image = fields(
        axes,
        matrix.tolist(),
        [["" if np.isnan(x) else f"{round(x, 2) + 0.0:.2f}" for x in row] for row in matrix],
        rows=list(frame.index),
        columns=list(frame.columns),
        colours="PuOr" if signed else "viridis",
        limits=(-reach, reach) if signed else (lowest, reach),
        size=size,
    )
    axes.tick_params(axis="y", labelsize=size)
    axes.tick_params(axis="x", labelsize=8)
    bar = figure.colorbar(image, ax=axes, shrink=min(1, 2.5 / (0.1 + field * len(frame))), pad=0.02)
    bar.ax.tick_params(labelsize=7)
    figure.suptitle(wrapped(title, width), fontsize=10, x=0.01, ha="left")
    return figure


def _depth(layer: str) -> tuple[int, list[str | int]]:
    """From the image to the features; block 10 after block 2."""
    place = 0 if layer.startswith(BEFORE) else 2 if layer.startswith(AFTER) else 1
    return place, [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", layer)]
