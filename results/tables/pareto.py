"""What a merge can trade between tasks, by quadratics that were fitted to val accuracies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mergeshift import UserError
from results.schema import world_name
from results.tables.entries import Entry, with_entries
from results.tables.grid import SETTING
from results.tables.layout import GroupedTable, Layout, points

EQUAL = "equal weights"
HEADERS = ("the task", "the others", "mean", "lowest")
HALF = 0.5  # of all weight: what a task has in its line of the table


@dataclass(frozen=True, kw_only=True)
class Front:
    """What one run of a method can trade. Accuracies are shares, on val.

    ``K`` coefficients, ``T`` tasks, ``n`` points that were measured.
    """

    tasks: Sequence[str]
    equal: Sequence[float]  # by the quadratics, where all tasks have the same weight; [T]
    curves: Mapping[str, Mapping[float, Sequence[float]]]  # task -> its weight -> accuracies, [T]
    measured: Sequence[Sequence[float]]  # [n, T]
    errors: Mapping[str, float]  # where -> mean distance of the quadratics from what was measured


@dataclass(frozen=True, kw_only=True)
class Pareto(GroupedTable):
    """The fronts of some methods, ready to be printed in any format."""

    fronts: Mapping[str, Front]  # entry key -> front

    def frame(self) -> pd.DataFrame:
        """Every number, unrounded: a row for each method, weighted task and task."""
        found = []
        for entry in self.entries:
            front = self.fronts[entry.key]
            lines = [(EQUAL, 1 / len(front.tasks), front.equal)]
            lines += [
                (task, share, values)
                for task, curve in front.curves.items()
                for share, values in curve.items()
            ]
            found += [
                {"entry": entry.key, "method": entry.method, "column": name, "weight": share,
                 "task": task, "value": value}
                for name, share, values in lines
                for task, value in zip(front.tasks, values, strict=True)
            ]  # fmt: skip
        return pd.DataFrame(found)

    def layout(self) -> Layout:
        """A line for equal weights, and one for half of all weight on each task."""
        return Layout(
            what="weights",
            headers=HEADERS,
            lines={entry.key: lines_of(self.fronts[entry.key]) for entry in self.entries},
            caption=("parts",),
            below=("errors", "unseen"),
        )


def lines_of(front: Front) -> list[tuple[str, list[str]]]:
    """What is printed of one method."""
    found = [(EQUAL, ["-", "-", *_both(front.equal)])]
    for i, task in enumerate(front.tasks):
        half = front.curves[task][HALF]
        values = np.array(half)
        others = float(np.delete(values, i).mean()) if len(values) > 1 else float("nan")
        found.append((f"half on {task}", [points(values[i]), points(others), *_both(half)]))
    return found


def _both(values: Sequence[float]) -> list[str]:
    return [points(float(np.mean(values))), points(float(np.min(values)))]


def pareto(rows: pd.DataFrame, fronts: Mapping[str, Front], order: Sequence[str] = ()) -> Pareto:
    """The fronts of the methods that fit quadratics.

    Args:
        rows: a frame of the columns in ``results.schema``.
        fronts: run -> its front; of a method the first run counts.
        order: methods to put first, in this order.

    Raises:
        UserError: no method here has one.
    """
    rows = rows[rows["metric"] == "acc"].reset_index(drop=True)
    named, entries = with_entries(rows, order)
    found: dict[str, Front] = {}
    for key, run in zip(named["entry"], named["run_id"], strict=True):
        if run in fronts:
            found.setdefault(key, fronts[run])
    if not found:
        raise UserError("no method here fits quadratics to val accuracies; choose a sweep with map")
    kept: list[Entry] = [entry for entry in entries if entry.key in found]
    setting = {name: str(rows[name].iloc[0]) for name in SETTING}
    told = "; ".join(
        f"{entry.title}: " + ", ".join(
            f"{100 * error:.1f} {where}" for where, error in found[entry.key].errors.items()
        )
        for entry in kept
    )  # fmt: skip
    return Pareto(
        title=f"Trade-offs between tasks, {setting['suite']} with {setting['encoder']}",
        entries=tuple(kept),
        columns=HEADERS,
        fronts=found,
        setting=setting,
        notes={
            "world": f"Setting: {world_name(setting['world'])}.",
            "parts": "Accuracy on val in %, as quadratics in the coefficients have it that were "
            "fitted to what was measured: at the best coefficients for equal weights of the tasks, "
            "and for half of all weight on one task. They are forecasts, not measurements.",
            "errors": f"Mean distance of the quadratics from accuracies, in points: {told}.",
        },
    )
