"""What methods cost: to be built, to be kept and to predict."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from results.entries import keys_by_run

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
    told = [[facts.get(run, {}).get(name) for name in STORED] for run in lines]
    runs = pd.DataFrame(told, index=list(lines), columns=list(STORED), dtype=float)
    runs["build_s"] = runs["merge_s"] + runs["adapt_s"].fillna(0)
    timed = rows[rows["metric"] == "eval_s"].groupby("run_id")[["value", "n"]].sum()
    runs["predict_ms"] = 1000 * timed["value"] / timed["n"]
    return runs.groupby(list(lines.values())).mean()
