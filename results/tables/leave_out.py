"""Methods over many choices of unseen tasks: what is kept on seen tasks, what unseen ones gain."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mergeshift import UserError
from results.schema import METRICS
from results.tables.comparison import Table, compare
from results.tables.layout import GroupedTable, Layout

KINDS = ("seen", "unseen")


@dataclass(frozen=True, kw_only=True)
class LeaveOut(GroupedTable):
    """Means over choices of unseen tasks, ready to be printed in any format."""

    metric: str
    values: Mapping[tuple[str, str, str], np.ndarray]  # (entry, kind, column) -> [choices]

    def frame(self) -> pd.DataFrame:
        """Every number, unrounded: one row per method, column and kind of task."""
        return pd.DataFrame(
            [
                {
                    **{"entry": entry.key, "method": entry.method, "title": entry.title},
                    **{"column": f"{column} {kind}", "metric": self.metric},
                    **{"value": float(values.mean()), "spread": spread(values)},
                    "choices": len(values),
                }
                for entry in self.entries
                for column in self.columns
                for kind in KINDS
                for values in [self.values[entry.key, kind, column]]
            ]
        )

    def layout(self) -> Layout:
        """A line of seen tasks and one of unseen ones under each method."""
        return Layout(
            what="kind of task",
            headers=list(self.columns),
            lines={
                entry.key: [
                    (kind, [self._text(entry.key, kind, name) for name in self.columns])
                    for kind in KINDS
                ]
                for entry in self.entries
            },
            caption=("metric", "choices", "images"),
            below=("others", "constants"),
        )

    def _text(self, key: str, kind: str, name: str) -> str:
        spec, values = METRICS[self.metric], self.values[key, kind, name]
        mean, around = values.mean() * spec.scale, spread(values) * spec.scale
        margin = "" if np.isnan(around) else f" +-{around:.{spec.decimals}f}"
        return f"{mean:.{spec.decimals}f}{margin}"


def spread(values: np.ndarray) -> float:
    """Standard deviation between choices; NaN of one."""
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")


def leave_out(
    choices: Sequence[pd.DataFrame], metric: str = "acc", order: Sequence[str] = ()
) -> LeaveOut:
    """Average over choices of unseen tasks, seen and unseen tasks each for themselves.

    Of a choice, seen is the mean over the tasks whose experts were merged, unseen over the others.

    Args:
        choices: the rows of each, of the same methods and shifts.
        metric: a name in ``METRICS``.
        order: methods to put first, in this order.

    Raises:
        UserError: the choices are not of the same methods and shifts, or see
            :func:`results.tables.comparison.compare`.
    """
    tables = [compare(rows, metric, by="seen", order=order) for rows in choices]
    first = tables[0]
    names = list(dict.fromkeys(name.removesuffix(" unseen").removesuffix(" seen")
                               for name in first.columns))  # fmt: skip
    for table in tables[1:]:
        if set(table.cells) != set(first.cells) or table.setting != first.setting:
            raise UserError(
                "the choices of unseen tasks were not measured with the same methods, shifts and "
                "settings; run the sweep with --leave-out again, which goes on with all of them"
            )
    whole = [name for name in names if all(f"{name} {kind}" in first.columns for kind in KINDS)]
    return LeaveOut(
        metric=metric,
        title=f"{METRICS[metric].title} on {first.setting['suite']} with "
        f"{first.setting['encoder']}, tasks left out in turn",
        entries=first.entries,
        columns=tuple(whole),
        values={
            (entry.key, kind, name): np.array(
                [table.cells[entry.key, f"{name} {kind}"].value for table in tables]
            )
            for entry in first.entries
            for kind in KINDS
            for name in whole
        },
        setting=first.setting,
        notes=_notes(tables, choices),
    )


def _notes(tables: Sequence[Table], choices: Sequence[pd.DataFrame]) -> dict[str, str]:
    general = tables[0].notes
    unseen = [rows.loc[~rows["seen"], "task"].unique() for rows in choices]
    times = pd.Series(np.concatenate(unseen)).value_counts()
    low, high = int(times.min()), int(times.max())
    often = f"{low}" if low == high else f"{low} to {high}"
    count = len(unseen[0])
    told = (
        f"Mean over {len(tables)} choices of {count} unseen task{'s' * (count > 1)}; each of "
        f"{len(times)} tasks was unseen {often} time{'s' * (high > 1)}. +-: standard deviation "
        "between choices. No verdict: a task is in many of the choices."
    )
    if "the pretrained model stands in" in general.get("unseen", ""):
        told += " On unseen tasks the pretrained model stands in for methods that need the true "
        told += "task's expert."
    head = general["metric"].split(";")[0]
    others = ("protocol", "images", "others", "constants")
    kept: dict[str, str] = {key: general[key] for key in others if key in general}
    return {"world": general["world"], "metric": f"{head}.", "choices": told, **kept}
