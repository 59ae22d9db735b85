"""One run or one comparison as flat dictionaries and frames: what W&B is given to show."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from corruptions.base import ShiftName, shows_others
from mergeshift import seed_of
from results.schema import AUROC, METRICS, ROUTE
from results.tables.columns import MEAN
from results.tables.comparison import Table, compare

LONGEST_ID = 96  # letters; W&B takes 128 for an id and "run-", "-", the name of a table


def steps(curves: Mapping[str, Sequence[float]]) -> Iterator[dict[str, float]]:
    """Curves as one dictionary per step; a curve that is over is left out.

    >>> list(steps({"loss": [3.0, 2.0], "lr": [0.1]}))
    [{'adapt/loss': 3.0, 'adapt/lr': 0.1}, {'adapt/loss': 2.0}]
    """
    for step in range(max(map(len, curves.values()), default=0)):
        yield {f"adapt/{name}": v[step] for name, v in curves.items() if step < len(v)}


def by_severity(rows: pd.DataFrame) -> dict[int, dict[str, float]]:
    """Severity -> ``by_severity/acc/contrast`` etc.: means over tasks; clean is severity 0.

    ``by_severity/acc/mean`` is the mean over corruptions, where each severity has the same ones.
    """
    rows = rows[~rows["corruption"].map(shows_others)]
    means = _plain(rows).groupby(["severity", "metric", "corruption"])["value"].mean()
    found: dict[int, dict[str, float]] = {}
    for (severity, metric, corruption), value in means.items():
        found.setdefault(int(severity), {})[f"by_severity/{metric}/{corruption}"] = float(value)
    for metric, part in means.groupby("metric"):
        names = part.reset_index().groupby("severity")["corruption"].agg(frozenset)
        if names[names.index > 0].nunique() == 1:
            for severity, value in part.groupby("severity").mean().items():
                found[int(severity)][f"by_severity/{metric}/{MEAN}"] = float(value)
    return found


def line_of(rows: pd.DataFrame) -> str:
    """What a run is a seed of: the method's title and what it is a variant by."""
    first = rows.iloc[0]
    told = first.get("variant", "")
    return f"{first['title']} [{told}]" if told else str(first["title"])


def best(table: Table) -> dict[str, float]:
    """``best/acc/L2``: the best mean of a column among the methods that compete."""
    competing = [entry.key for entry in table.entries if not entry.is_reference]
    if table.spec.higher_is_better is None or not competing:
        return {}
    first = max if table.spec.higher_is_better else min
    found = {
        name: [value for key in competing
               if not math.isnan(value := table.cells[key, name].value)]
        for name in table.columns
    }  # fmt: skip
    return {f"best/{table.metric}/{name}": first(of) for name, of in found.items() if of}


def cells(rows: pd.DataFrame) -> dict[str, float]:
    """``cell/acc/contrast@3/mnist`` -> value, for every measurement but the single routes."""
    return {
        f"cell/{metric}/{ShiftName(corruption, severity)}/{task}": float(value)
        for metric, corruption, severity, task, value in _plain(rows)[
            ["metric", "corruption", "severity", "task", "value"]
        ].itertuples(index=False)
    }


def means(rows: pd.DataFrame) -> dict[str, float]:
    """``acc/L2``, ``acc/L2/low``, ``acc/L2/high``, ``acc/L2/drop``: the columns of the tables."""
    found = {}
    for metric in _plain(rows)["metric"].unique():
        if metric.startswith(AUROC):  # not of every cell
            continue
        table = compare(rows, metric)
        for (_, column), cell in table.cells.items():
            numbers = {"": cell.value, "/low": cell.low, "/high": cell.high, "/drop": cell.drop}
            for suffix, number in numbers.items():
                if not math.isnan(number):
                    found[f"{metric}/{column}{suffix}"] = number
    return found


def costs(facts: Mapping[str, Any]) -> dict[str, float]:
    """``cost/merge_s`` etc.: the plain numbers among what belongs to the whole run."""
    return {
        f"cost/{name}": value
        for name, value in facts.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def wide(table: Table) -> pd.DataFrame:
    """A line per method, numbers as printed (percent for shares), what it was allowed last."""
    scale = METRICS[table.metric].scale
    lines = []
    for entry in table.entries:
        line: dict[str, Any] = {"method": entry.title}
        for name in table.columns:
            cell = table.cells[entry.key, name]
            line[table.header(name)] = cell.value * scale
            if not math.isnan(cell.margin):
                line[f"{table.header(name)} +-"] = cell.margin * scale
            if not math.isnan(cell.spread):
                line[f"{table.header(name)} sd"] = cell.spread * scale
        for name, shares in table.summary.items():
            line[table.header(name)] = 100 * shares[entry.key]
            if name == "recovered":
                line[f"{table.header(name)} +-"] = 100 * table.limits[entry.key, name].margin
        lines.append(line | {"tuned": entry.tuned, "allowance": entry.data_access})
    return pd.DataFrame(lines)


def coefficient_lines(
    coefficients: Mapping[str, Mapping[str, Mapping[str, float]]],
) -> tuple[list[str], list[list[Any]]]:
    """Names of columns, and a line per shift and layer.

    Args:
        coefficients: shift they were learned under, or "" -> layer -> task -> number.

    >>> coefficient_lines({"": {"proj": {"mnist": 0.3, "letters": 0.1}}})
    (['shift', 'layer', 'mnist', 'letters'], [['', 'proj', 0.3, 0.1]])
    """
    named = [row for layers in coefficients.values() for row in layers.values()]
    tasks = list(dict.fromkeys(task for row in named for task in row))
    lines = [
        [shift, layer, *(row.get(task) for task in tasks)]
        for shift, layers in coefficients.items()
        for layer, row in layers.items()
    ]
    return ["shift", "layer", *tasks], lines


def _plain(rows: pd.DataFrame) -> pd.DataFrame:
    """Without the weights on single routes: tasks times tasks of them are for a table."""
    return rows[~rows["metric"].str.startswith(ROUTE)]


def safe_id(text: str) -> str:
    """Keep what a W&B run id may hold, and as much as leaves room for the names of its tables.

    >>> safe_id("main-pocket8/ties:0"), len(safe_id(999 * "x"))
    ('main-pocket8-ties-0', 96)
    """
    safe = re.sub(r"[^A-Za-z0-9_.-]+", "-", text)
    if len(safe) <= LONGEST_ID:
        return safe
    mark = f"-{seed_of('id', text):08x}"  # what is cut may be all that tells two apart
    return safe[: LONGEST_ID - len(mark)] + mark
