"""The tables of the HTML page: every number as ``table`` computes and prints it."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import pandas as pd

from corruptions.base import LEVELS
from mergeshift import UserError
from results.plots.style import LineStyle
from results.render.markup import marked_title, noted
from results.render.text import pieces_of
from results.schema import AUROC, FLOOR_OF, METRICS, ROUTE
from results.tables.comparison import DERIVED, Table, table_of
from results.tables.entries import Entry
from results.tables.grid import Grid, arrange
from results.tables.ranking import MEAN_RANK, Ranking, ranking_of

FEW = 6  # so many shifts beyond clean and the levels stand beside them; more have their own view
MAIN = ("clean", *LEVELS)


def number(value: float) -> float | None:
    """A number as JSON has it: there is no NaN."""
    return float(value) if math.isfinite(value) else None


def groups_of(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Tasks that may be averaged over: all, or the seen and the unseen ones, never both."""
    seen = rows["seen"]
    if seen.all():
        return {"": rows}
    return {"seen": rows[seen], "unseen": rows[~seen]}


def grids_of(rows: pd.DataFrame, order: Sequence[str] = ()) -> dict[tuple[str, str], Grid]:
    """(metric, group of tasks) -> its measurements; accuracy first.

    Raises:
        UserError: the accuracies of the methods are not of the same cells, or there are none.
    """
    hidden = (ROUTE, AUROC, FLOOR_OF)
    known = [m for m in rows["metric"].unique() if not m.startswith(hidden) and m != "acc"]
    found = {}
    for name, part in groups_of(rows).items():
        for metric in ("acc", *known, *DERIVED):
            try:
                grid = arrange(part, metric, order).known
                if metric in DERIVED:
                    table_of(grid)  # is there what it is computed from?
            except UserError:  # e.g. no routes to unseen tasks
                if metric == "acc":
                    raise
                continue
            if grid.entries:
                found[metric, name] = grid
    return dict(sorted(found.items(), key=lambda pair: pair[0][0] != "acc"))


def entries_of(grids: Mapping[tuple[str, str], Grid]) -> dict[str, Entry]:
    """Every line that is in any table, by its key, in the order of the tables."""
    return {entry.key: entry for grid in grids.values() for entry in grid.entries}


def described(entry: Entry, style: LineStyle) -> dict[str, Any]:
    """What the page says of a line, and how it draws it."""
    return {
        "key": entry.key,
        "title": entry.title,
        "allowance": entry.data_access,
        "reference": entry.is_reference,
        **style._asdict(),
    }


def metrics_of(grids: Mapping[tuple[str, str], Grid]) -> dict[str, dict[str, Any]]:
    """How each metric is named, printed and ranked."""
    return {
        name: {
            "title": METRICS[name].title,
            "unit": METRICS[name].unit,
            "scale": METRICS[name].scale,
            "decimals": METRICS[name].decimals,
            "higher": METRICS[name].higher_is_better,
        }
        for name in dict.fromkeys(metric for metric, _ in grids)
    }


def views(grids: Mapping[tuple[str, str], Grid], keys: Sequence[str]) -> list[dict[str, Any]]:
    """Every table of the page.

    Args:
        grids: see :func:`grids_of`.
        keys: of the lines, in the order of the page.

    Returns:
        Of each: ``metric``, ``group``, ``by``, ``name``, ``columns`` (name, header), ``lines``
        (positions in ``keys``), ``titles`` (with marks), ``cells`` (see :func:`cell`), ``notes``.
    """
    found = []
    for (metric, group), grid in grids.items():
        found += [
            {"group": group, "name": named(name, group), **shown(table, columns, keys)}
            for name, table, columns in tables(grid)
        ]
        if metric == "acc":
            with suppress(UserError):  # too few methods or tasks
                found.append(
                    {"group": group, "name": named("Ranks", group), **ranks(ranking_of(grid), keys)}
                )
    return found


def named(name: str, group: str) -> str:
    """What a view is called."""
    return f"{name}, {group} tasks" if group else name


def tables(grid: Grid) -> list[tuple[str, Table, list[str]]]:
    """(name, table, columns that are shown) of everything that can be a table by itself."""
    levels = table_of(grid)
    columns = headline(levels.columns)
    found = [("Shifts", levels, columns)]
    for column in [name for name in columns if name in MAIN] or columns[:FEW]:
        with suppress(UserError):  # what is of shifts alone has no clean column
            table = table_of(grid, "task", column)
            found.append((f"Tasks, {column}", table, list(table.columns)))
    for name, by in (("Severities", "severity"), ("Corruptions", "corruption")):
        try:
            table = table_of(grid, by)
        except UserError:  # the columns would average over different things
            continue
        found.append((name, table, list(table.columns)))
    return found


def headline(columns: Sequence[str]) -> list[str]:
    """Clean, levels and a few other shifts; without levels, all.

    >>> headline(["clean", "L1", "L2", "fog@1", "fog@2", "fog@3", "fog@4", "fog@5", "snow@1"])
    ['clean', 'L1', 'L2', 'fog@1', 'fog@2', 'fog@3', 'fog@4', 'fog@5', 'snow@1']
    >>> headline(["clean", "L1", "fog@1", "fog@2", "fog@3", "fog@4", "fog@5", "rain@1", "rain@2"])
    ['clean', 'L1']
    """
    main = [name for name in columns if name in MAIN]
    return main if len(main) > 1 and len(columns) - len(main) > FEW else list(columns)


def shown(table: Table, columns: Sequence[str], keys: Sequence[str]) -> dict[str, Any]:
    """One table, for JSON."""
    names = [*columns, *table.summary]
    return {
        "metric": table.metric,
        "by": table.by,
        "columns": [{"name": name, "header": table.header(name)} for name in names],
        "lines": [keys.index(entry.key) for entry in table.entries],
        "titles": [marked_title(table, entry) for entry in table.entries],
        "cells": [[cell(table, entry, name) for name in names] for entry in table.entries],
        "notes": noted(table, set()),
    }


def ranks(table: Ranking, keys: Sequence[str]) -> dict[str, Any]:
    """The ranks over tasks, for JSON, as :func:`shown` gives a table."""
    names = [MEAN_RANK, *table.columns]
    layout = table.layout()
    cells = []
    for entry, values in zip(table.entries, table.ranks, strict=True):
        numbers = [float(values.mean()), *map(float, values)]
        texts = layout.lines[entry.key][0][1]
        cells.append([[one, None, None, text, "", "", "", 0]
                      for one, text in zip(numbers, texts, strict=True)])  # fmt: skip
    return {
        "metric": table.metric,
        "by": "ranks",
        "columns": [{"name": name, "header": name} for name in names],
        "lines": [keys.index(entry.key) for entry in table.entries],
        "titles": [marked_title(table, entry) for entry in table.entries],
        "cells": cells,
        "notes": noted(table, set()),
    }


def cell(table: Table, entry: Entry, name: str) -> list[Any]:
    """Value, limits, and what is printed: value, margin, spread, drop; 1 for a leader, else 0."""
    pieces = list(pieces_of(table, entry, name).values())
    rank = int(entry.key in table.leaders.get(name, ()))
    if name in table.summary:
        return [*map(number, table.limits[entry.key, name]), *pieces, rank]
    found = table.cells[entry.key, name]
    return [number(found.value), number(found.low), number(found.high), *pieces, rank]
