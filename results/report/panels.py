"""What the HTML page draws beside its tables: cells, routing, calibration, cost, examples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mergeshift import UserError
from results.metrics import CALIBRATION_BINS
from results.plots import learned
from results.render.markup import noted, spelled
from results.report.tables import headline, number
from results.schema import ROUTE
from results.tables.columns import spans
from results.tables.entries import keys_by_run, with_entries
from results.tables.grid import Grid
from results.tables.leaderboard import costs_of
from results.tables.routing import breakdown

PANELS = 8  # of routes: under more shifts than these they are no longer read


@dataclass(frozen=True, kw_only=True)
class Example:
    """One test image under one shift, and what the methods say it is."""

    task: str
    shift: str  # as printed: clean, contrast@3
    image: int  # its number in the test split
    label: str  # name of its class
    picture: str  # a data URI
    answers: Mapping[str, tuple[str, float]]  # run -> name of the class, its probability


def cube(grid: Grid, keys: Sequence[str]) -> dict[str, Any]:
    """Means over seeds of every cell: ``means[line][task][shift]``."""
    return {
        "lines": [keys.index(entry.key) for entry in grid.entries],
        "tasks": list(grid.tasks),
        "shifts": [list(one) for one in grid.shifts],
        "clean": grid.clean,
        "means": [
            [[None if np.isnan(mean) else mean for mean in cells] for cells in tasks]
            for tasks in grid.means.tolist()
        ],  # JSON knows no NaN, which stands where a task has no images
    }


def routing(rows: pd.DataFrame, keys: Sequence[str], order: Sequence[str] = ()) -> dict[str, Any]:
    """Mean weights of every method that routes, and where these lose accuracy.

    Raises:
        UserError: no method here routes.
    """
    weighed = rows[rows["metric"].str.startswith(ROUTE)].reset_index(drop=True)
    if weighed.empty:
        raise UserError("no method here routes image by image")
    one = weighed[weighed["metric"] == weighed["metric"].iloc[0]].reset_index(drop=True)
    _, entries = with_entries(one, order)
    lines = weighed["run_id"].map(keys_by_run(rows))
    methods = []
    for entry in entries:
        _, panels = learned.weights(weighed[lines == entry.key])
        methods.append(
            {
                "line": keys.index(entry.key),
                "left_out": len(panels) - len(list(panels)[:PANELS]),
                "panels": [
                    {"name": name, "tasks": list(frame.index), "routes": list(frame.columns),
                     "weights": frame.to_numpy(float).tolist()}
                    for name, frame in list(panels.items())[:PANELS]
                ],
            }
        )  # fmt: skip
    return {"methods": methods, **_losses(rows, keys, order)}


def _losses(rows: pd.DataFrame, keys: Sequence[str], order: Sequence[str]) -> dict[str, Any]:
    try:
        table = breakdown(rows, order)
    except UserError as error:
        return {"why": str(error)}
    layout = table.layout()
    columns = headline(table.columns)
    parts = ("expert", "compression", "routing")
    return {
        "headers": list(layout.headers),
        "columns": columns,
        "parts": list(parts),
        "losses": [
            {
                "line": keys.index(entry.key),
                "values": [
                    [number(getattr(table.losses[entry.key, name], part).value) for part in parts]
                    for name in columns
                ],
                "texts": [
                    list(map(spelled, cells)) for name, cells in layout.lines[entry.key]
                    if name in columns
                ],
            }
            for entry in table.entries
        ],
        "notes": noted(table, set()),
    }  # fmt: skip


def reliability(
    grid: Grid, rows: pd.DataFrame, images: pd.DataFrame, keys: Sequence[str]
) -> dict[str, Any]:
    """How often predictions are right, by how sure they are.

    Images of all tasks, shifts and seeds of a column are counted together.

    Args:
        grid: accuracies of the tasks that are meant.
        rows: of these tasks.
        images: a line per image: ``run_id``, ``task``, ``corruption``, ``severity``, ``right``,
            ``max_prob``.
        keys: of the lines of the page.

    Returns:
        ``columns``, and ``bins[column]``: for each line with images, count, mean confidence and
        share of right answers per bin (see :func:`binned`).
    """
    images = images[images["task"].isin(grid.tasks)]
    images = images.assign(entry=images["run_id"].map(keys_by_run(rows)))
    cells = {key: binned(part) for key, part in
             images.groupby(["entry", "corruption", "severity"], sort=False)}  # fmt: skip
    columns = spans(grid, "shift")
    there = [entry.key for entry in grid.entries if entry.key in set(images["entry"])]
    names = headline(list(columns))
    found: dict[str, list[list[list[float]]]] = {name: [] for name in names}
    for name in names:
        for key in there:
            total = sum(cells[key, *grid.shifts[s]] for s in columns[name].shifts)
            count, sure, right = np.asarray(total)
            some = np.maximum(count, 1)
            found[name].append([count.tolist(), (sure / some).tolist(), (right / some).tolist()])
    return {"columns": names, "lines": [keys.index(key) for key in there], "bins": found}


def binned(images: pd.DataFrame) -> np.ndarray:
    """Per bin of confidence: images, sum of confidences, right answers.  ``[3, B]``."""
    sure = images["max_prob"].to_numpy(float)
    place = np.minimum((sure * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    weights = (np.ones(len(sure)), sure, images["right"].to_numpy(float))
    counts = [np.bincount(place, weights=w, minlength=CALIBRATION_BINS) for w in weights]
    return np.stack(counts)


def costs(
    rows: pd.DataFrame, facts: Mapping[str, Mapping[str, Any]], keys: Sequence[str]
) -> list[dict[str, Any]]:
    """What each line costs; a quantity that no run has is left out.

    Args:
        rows: a frame of the columns in ``results.schema``.
        facts: run -> what it cost (see :func:`results.tables.leaderboard.costs_of`).
        keys: of the lines of the page.
    """
    found = costs_of(rows, facts).reindex(keys)
    quantities = {
        "Parameters kept to predict": ("millions", found["parameters"] / 1e6),
        "Time to build (merge and learn)": ("s", found["build_s"]),
        "Time to predict": ("ms an image", found["predict_ms"]),
        "Peak memory while built": ("MB", found["peak_mb"]),
    }
    return [
        {"name": name, "unit": unit, "values": list(map(number, values))}
        for name, (unit, values) in quantities.items()
        if values.notna().any()
    ]


def examples(
    found: Sequence[Example], rows: pd.DataFrame, keys: Sequence[str]
) -> list[dict[str, Any]]:
    """Examples with the answers by line of the page."""
    lines = keys_by_run(rows)
    return [
        {
            **{"task": one.task, "shift": one.shift, "image": one.image},
            **{"label": one.label, "picture": one.picture},
            "answers": sorted(
                [keys.index(lines[run]), *answer] for run, answer in one.answers.items()
            ),
        }
        for one in found
    ]  # fmt: skip
