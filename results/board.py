"""The leaderboard as one frame: a line per method with means, intervals, drops and cost."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from results.entries import Entry, with_entries
from results.tables import Cell, Table

COSTS = {"merge_s": "merge s", "adapt_s": "adapt s", "peak_mb": "peak MB",
         "parameters": "parameters"}  # fmt: skip


def board(
    table: Table, rows: pd.DataFrame, costs: Mapping[str, Mapping[str, float]]
) -> pd.DataFrame:
    """Everything a table says of each method in one line, unrounded, and what the method costs.

    For each column of the table: the mean, ``low`` and ``high`` of its interval, ``sd`` over seeds,
    ``drop`` (% of the mean on clean). Then the two summaries, costs (means over the runs of the
    line), and what the method was allowed. Shares are in percent.

    Args:
        table: from :func:`results.tables.compare`, of the same rows.
        rows: a frame of the columns in ``results.schema``.
        costs: run -> ``merge_s``, ``adapt_s``, ``peak_mb``, ``parameters``, as far as known.
    """
    runs = lines_of(rows, table.metric)
    speed = _speed(rows, runs)
    lines = []
    for entry in table.entries:
        mine = runs[entry.key]
        line: dict[str, Any] = {"method": entry.title}
        for column in table.columns:
            line |= _numbers(table, entry, column)
        line |= {table.header(name): 100 * share[entry.key] for name, share in
                 table.summary.items()}  # fmt: skip
        for name, title in COSTS.items():
            known = [costs[run][name] for run in mine if name in costs.get(run, {})]
            line[title] = sum(known) / len(known) if known else math.nan
        line["ms per image"] = speed.get(entry.key, math.nan)
        lines.append(line | {"runs": len(mine), "tuned": entry.tuned, "allowance": entry.allowance})
    return pd.DataFrame(lines).dropna(axis="columns", how="all")


def lines_of(rows: pd.DataFrame, metric: str = "acc") -> dict[str, list[str]]:
    """Key of an entry -> its runs, as a table of this metric has them."""
    named, _ = with_entries(rows[rows["metric"] == metric].reset_index(drop=True), ())
    groups = named.groupby("entry", sort=False)["run_id"]
    return {str(key): list(part.unique()) for key, part in groups}


def _numbers(table: Table, entry: Entry, column: str) -> dict[str, float]:
    cell: Cell = table.cells[entry.key, column]
    name, scale = table.header(column), table.spec.scale
    found = {name: cell.value * scale}
    for suffix, value in (("low", cell.low), ("high", cell.high), ("sd", cell.spread)):
        found[f"{name} {suffix}"] = value * scale
    return found | {f"{name} drop": 100 * cell.drop}


def _speed(rows: pd.DataFrame, runs: Mapping[str, list[str]]) -> dict[str, float]:
    """Milliseconds to predict one image, over all that was measured."""
    timed = rows[rows["metric"] == "eval_s"]
    found = {}
    for key, mine in runs.items():
        part = timed[timed["run_id"].isin(mine)]
        if len(part):
            found[key] = 1000 * float(part["value"].sum() / part["n"].sum())
    return found
