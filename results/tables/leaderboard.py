"""The leaderboard as one frame: a line per method with accuracies, intervals, drops and costs.

Costs are what it takes to build a method, to store it and to predict with it.
"""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pandas as pd

from mergeshift import UserError
from results.tables.columns import ColumnCells
from results.tables.comparison import DERIVED, Cell, Table
from results.tables.entries import Entry, keys_by_run
from results.tables.grid import arrange
from results.tables.ranking import MEAN_RANK, ranking
from results.tables.robustness import shifted_cells

STORED = ("merge_s", "adapt_s", "peak_mb", "parameters")  # as is kept with every run


def costs_of(
    rows: pd.DataFrame, facts: Mapping[str, Mapping[str, Any]], metric: str = "acc"
) -> pd.DataFrame:
    """Means over the runs of every line of a table; NaN where no run of a line has a quantity.

    Args:
        rows: a frame of the columns in ``results.schema``, ``eval_s`` among its metrics.
        facts: run -> ``merge_s`` and ``adapt_s`` (seconds), ``peak_mb``, ``parameters``, as far as
            known; whatever else it tells is not read.
        metric: that of the table.

    Returns:
        A row for each key of an entry. Columns: the four, ``build_s`` (merging and learning,
        seconds) and ``predict_ms`` (milliseconds an image).
    """
    lines = keys_by_run(rows, metric)
    stored = [[facts.get(run, {}).get(name) for name in STORED] for run in lines]
    runs = pd.DataFrame(stored, index=list(lines), columns=list(STORED), dtype=float)
    runs["build_s"] = runs["merge_s"] + runs["adapt_s"].fillna(0)
    timed = rows[rows["metric"] == "eval_s"].groupby("run_id")[["value", "n"]].sum()
    runs["predict_ms"] = 1000 * timed["value"] / timed["n"]
    return runs.groupby(list(lines.values())).mean()


TITLES = {"merge_s": "merge s", "adapt_s": "adapt s", "peak_mb": "peak MB",
          "parameters": "parameters", "predict_ms": "ms per image"}  # fmt: skip


def board(
    table: Table, rows: pd.DataFrame, costs: Mapping[str, Mapping[str, float]]
) -> pd.DataFrame:
    """Everything a table says of each method in one line, unrounded, and what the method costs.

    For each column of the table: the mean, ``low`` and ``high`` of its interval, ``sd`` over
    sets of experts or seeds, ``drop`` (% of the mean on clean). Then the summaries, normalised
    accuracy corrected for chance and effective robustness (of all shifts together), the columns in
    which it is not significantly below the best, its mean rank over tasks, costs (means
    over the runs of the line), and what the method was allowed. Shares are in percent.

    Args:
        table: from :func:`results.tables.comparison.compare`, of the same rows.
        rows: a frame of the columns in ``results.schema``.
        costs: run -> what it cost, as far as known (see :mod:`results.tables.leaderboard`).
    """
    means = _mean_ranks(rows, table)
    runs = Counter(keys_by_run(rows, table.metric).values())
    spent = costs_of(rows, costs, table.metric)
    lines, derived = [], _derived(rows, table)
    for entry in table.entries:
        line: dict[str, Any] = {"method": entry.title}
        for column in table.columns:
            line |= _numbers(table, entry, column)
        line |= _shares(table, entry) | derived.get(entry.key, {})
        if table.leaders:
            line["leads"] = ", ".join(
                table.header(name) for name, keys in table.leaders.items() if entry.key in keys
            )
        line[MEAN_RANK] = means.get(entry.key, math.nan)
        line |= {title: spent.loc[entry.key, name] for name, title in TITLES.items()}
        line |= {"runs": runs[entry.key], "tuned": entry.tuned, "allowance": entry.data_access}
        lines.append(line)
    return pd.DataFrame(lines).dropna(axis="columns", how="all")


def _mean_ranks(rows: pd.DataFrame, table: Table) -> dict[str, float]:
    """Of the lines that compete, over tasks; none where they are too few, or of two kinds."""
    if (~rows["seen"]).any():
        return {}
    try:
        return ranking(rows, table.metric).mean_ranks
    except UserError:
        return {}


def _derived(rows: pd.DataFrame, table: Table) -> dict[str, dict[str, float]]:
    """Entry key -> what is computed over all lines, in percent, as far as it can be."""
    found: dict[str, dict[str, float]] = {entry.key: {} for entry in table.entries}
    if table.metric != "acc" or table.by != "shift":
        return found
    grid = arrange(rows)
    every = tuple(range(len(grid.tasks)))
    clean = ColumnCells(every, () if grid.clean is None else (grid.clean,))
    for metric, header, span in (
        ("norm_chance", "Norm. acc. above chance", clean),
        ("robustness", "Effective robustness", shifted_cells(grid)),
    ):
        try:
            DERIVED[metric].columns(grid, {"": span})
        except UserError:  # e.g. too few static merges for a line
            continue
        for entry, one in zip(grid.entries, DERIVED[metric].quantities(grid, span), strict=True):
            interval = one.estimate.interval
            found[entry.key] |= {
                f"{header}{suffix}": 100 * value
                for suffix, value in zip(("", " low", " high"), interval, strict=True)
            }
    return found


def _shares(table: Table, entry: Entry) -> dict[str, float]:
    """The summaries; of recovered, with its limits."""
    found = {}
    for name, share in table.summary.items():
        found[table.header(name)] = 100 * share[entry.key]
        if name == "recovered":
            limits = table.limits[entry.key, name]
            found |= {f"{table.header(name)} low": 100 * limits.low}
            found |= {f"{table.header(name)} high": 100 * limits.high}
    return found


def _numbers(table: Table, entry: Entry, column: str) -> dict[str, float]:
    cell: Cell = table.cells[entry.key, column]
    name, scale = table.header(column), table.spec.scale
    numbers = {name: cell.value * scale}
    for suffix, value in (("low", cell.low), ("high", cell.high), ("sd", cell.spread)):
        numbers[f"{name} {suffix}"] = value * scale
    return numbers | {f"{name} drop": 100 * cell.drop}
