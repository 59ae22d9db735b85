"""What was chosen on the val split, at what cost, and what is left of it on the test split.

As a table it has a line per seed under each method.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mergeshift import UserError
from results.statistics import Interval, mean_interval
from results.tables.columns import ColumnCells
from results.tables.entries import with_entries
from results.tables.grid import Grid, arrange
from results.tables.layout import GroupedTable, Layout, limited, with_margin
from results.tables.notes import notes_of
from results.tables.quantities import accuracy

NAN = math.nan

UNKNOWN = Interval(NAN, NAN, NAN)

ALL = "all seeds"

HEADERS = ("passes", "val", "test", "val-test", "chosen")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What one run chose on val."""

    constants: Mapping[str, Any]  # name -> value
    budget: int  # validation passes
    val: Mapping[str, float]  # task -> accuracy at the choice; empty if that is not known
    counts: Mapping[str, int]  # task -> images behind it


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """One line: a run, or all runs of a method; shares."""

    constants: Mapping[str, Any]
    budget: int
    val: Interval  # mean over tasks
    test: Interval
    gap: Interval  # val - test


@dataclass(frozen=True, kw_only=True)
class Tuning(GroupedTable):
    """What every method chose, ready to be printed in any format; a line per seed."""

    percent = limited("val", "test", "gap")

    lines: dict[tuple[str, str], Chosen]  # (entry key, line) -> numbers

    def frame(self) -> pd.DataFrame:
        """Every number, unrounded: one row per method and seed."""
        entries, found = {entry.key: entry for entry in self.entries}, []
        for (key, column), chosen in self.lines.items():
            line: dict[str, object] = {"entry": key, "method": entries[key].method}
            line |= {"title": entries[key].title, "column": column, "budget": chosen.budget}
            for name in ("val", "test", "gap"):
                interval: Interval = getattr(chosen, name)
                line |= {name: interval.value, f"{name}_low": interval.low}
                line |= {f"{name}_high": interval.high}
            found.append(line | {"chosen": written(chosen.constants)})
        return pd.DataFrame(found)

    def layout(self) -> Layout:
        """A line per seed."""
        return Layout(
            what="seed",
            headers=HEADERS,
            lines={
                entry.key: [(name, _cells(chosen)) for (key, name), chosen in self.lines.items()
                            if key == entry.key]
                for entry in self.entries
            },
            caption=("parts", "interval", "images"),
            below=("others",),
            text_last=True,
        )  # fmt: skip


def tuning(rows: pd.DataFrame, choices: Mapping[str, Choice], order: Sequence[str] = ()) -> Tuning:
    """Compare the val score of what was chosen with its test score, on clean images of seen tasks.

    The two splits are independent: the interval of the difference combines theirs.

    Args:
        rows: a frame of the columns in ``results.schema``.
        choices: run -> what it chose; runs that chose nothing are absent.
        order: methods to put first, in this order.

    Raises:
        UserError: nothing was chosen, clean images were not measured, or the methods were not
            measured on the same cells.
    """
    rows = rows[(rows["metric"] == "acc") & rows["seen"] & (rows["corruption"] == "clean")]
    if rows.empty:
        raise UserError("val is compared with clean test images; add the shift clean to the sweep")
    grid = arrange(rows, order=order)
    named, entries = with_entries(rows.reset_index(drop=True), order)
    runs = {key: part for key, part in named.groupby("entry") if set(part["run_id"]) & set(choices)}
    if not runs:
        raise UserError(
            "no method here chose anything on val; choose a sweep with tuned methods, or with bmm"
        )
    lines = {}
    for entry in entries:
        if entry.key in runs:
            for name, chosen in _lines(grid, entry.key, runs[entry.key], choices).items():
                lines[entry.key, name] = chosen
    setting = grid.setting
    return Tuning(
        title="Hyperparameters chosen on validation data, "
        f"{setting['suite']} with {setting['encoder']}",
        entries=tuple(entry for entry in entries if entry.key in runs),
        columns=tuple(dict.fromkeys(name for _, name in lines)),
        lines=lines,
        setting=setting,
        notes=_notes(grid, [entry.title for entry in entries if entry.key not in runs]),
    )


def gap_of(val: Interval, test: Interval) -> Interval:
    """Difference of two independent estimates.

    Their limits are combined as distances (Newcombe 1998, Statistics in Medicine 17:873-890).

    >>> gap = gap_of(Interval(0.8, 0.77, 0.84), Interval(0.5, 0.46, 0.53))
    >>> [round(value, 4) for value in gap]
    [0.3, 0.2576, 0.3566]
    """
    value = val.value - test.value
    low = math.hypot(val.value - val.low, test.high - test.value)
    return Interval(value, value - low, value + math.hypot(val.high - val.value,
                                                           test.value - test.low))  # fmt: skip


def written(constants: Mapping[str, Any]) -> str:
    """Constants in short; those of groups, ``kind.group``, by their kind.

    >>> written({"keep": 0.1, "merge": "sum"})
    'keep=0.1, merge=sum'
    >>> written({"alpha.qkv": 1234.5, "scale.qkv": 1.0, "alpha.out": 0.01})
    'alpha: qkv 1.23e+03, out 0.01; scale: qkv 1'
    """
    texts = {k: f"{v:.3g}" if isinstance(v, float) else str(v) for k, v in constants.items()}
    plain = ", ".join(f"{name}={text}" for name, text in texts.items() if "." not in name)
    kinds: dict[str, list[str]] = {}
    for name, text in texts.items():
        kind, dot, group = name.partition(".")
        if dot:
            kinds.setdefault(kind, []).append(f"{group} {text}")
    parts = [f"{kind}: {', '.join(groups)}" for kind, groups in kinds.items()]
    return "; ".join([plain] * bool(plain) + parts)


def _lines(
    grid: Grid, key: str, rows: pd.DataFrame, choices: Mapping[str, Choice]
) -> dict[str, Chosen]:
    found = {}
    experts = rows["expert_seed"].nunique() > 1
    for run, part in rows.groupby("run_id", sort=False):
        if run in choices:
            name = f"seed {part['seed'].iloc[0]}"
            name += f", experts {part['expert_seed'].iloc[0]}" if experts else ""
            test = mean_interval(part["value"].clip(0, 1).tolist(), part["n"].tolist())
            found[name] = _chosen([choices[str(run)]], test)
    if len(found) > 1:
        span = ColumnCells(tuple(range(len(grid.tasks))), (0,))
        every = [choices[run] for run in rows["run_id"].unique() if run in choices]
        found[ALL] = _chosen(every, accuracy(grid, grid.position(key), span).over_images)
    return found


def _chosen(choices: Sequence[Choice], test: Interval) -> Chosen:
    """One line; of several runs the accuracies are averaged: they saw the same images of val."""
    val, first = UNKNOWN, choices[0]
    if all(choice.val for choice in choices):
        shares = [float(np.mean([one.val[task] for one in choices])) for task in first.val]
        val = mean_interval(shares, [first.counts[task] for task in first.val])
    return Chosen(
        constants=first.constants if len(choices) == 1 else {},
        budget=first.budget,
        val=val,
        test=test,
        gap=gap_of(val, test),
    )


def _notes(grid: Grid, others: Sequence[str]) -> dict[str, str]:
    general = notes_of(grid, "shift", ("clean",), "clean")
    parts = (
        f"Accuracy in %, mean over {len(grid.tasks)} tasks, with the chosen hyperparameters: on "
        "the validation split (val) and on clean test images. passes: passes over the validation "
        "split, the best of which was chosen, so that validation accuracy is optimistic; the two "
        "splits also differ in difficulty."
    )
    interval = "+-: 95 % Wilson intervals over images (stratified by task), combined for val-test."
    notes = {"world": general["world"], "parts": parts, "interval": interval}
    if others:
        notes["others"] = f"Methods that choose nothing on validation data: {', '.join(others)}."
    return notes | {"images": general["images"]}


def _cells(chosen: Chosen) -> list[str]:
    return [
        str(chosen.budget),
        with_margin(chosen.val),
        with_margin(chosen.test),
        with_margin(chosen.gap, "+"),
        written(chosen.constants),
    ]
