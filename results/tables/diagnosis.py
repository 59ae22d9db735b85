"""A setting as a merging problem: its quantities task by task, or beside other settings."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from results.diagnosis import WON, Agreement, Diagnosis, Measure, agreement, measures
from results.schema import FULL, USUAL, world_name
from results.statistics import LEVEL, Interval
from results.tables.entries import Entry
from results.tables.layout import GroupedTable, Layout, points

WIDE = 10  # so many tasks have a column each; of more, the extremes are shown
EXTREMES = {"least": min, "most": max}
AGAINST = "Against the published methods"
NAMES = {"spearman": "rank correlation (Spearman)", "slope": "slope of shares on theirs"}
NAN = math.nan


def printed(value: float, form: str) -> str:
    """A quantity as its form says; ``-`` where there is none.

    >>> printed(0.5446, "%"), printed(-0.078, "+%"), printed(0.0714, ".3f"), printed(NAN, ".2f")
    ('54.5', '-7.8', '0.071', '-')
    >>> printed(-0.001, ".2f")
    '0.00'
    """
    if math.isnan(value):
        return "-"
    if form.endswith("%"):
        return points(value, form.removesuffix("%"))
    text = f"{value:{form}}"
    return text if float(text) else text.removeprefix("-")


def with_spread(one: Measure) -> str:
    """The mean, and its deviation over sets of experts where there are several."""
    spread = "" if math.isnan(one.sd) else f" +-{printed(one.sd, one.form.removeprefix('+'))}"
    return printed(one.mean, one.form) + spread


@dataclass(frozen=True, kw_only=True)
class ByTask(GroupedTable):
    """Every quantity of one setting, task by task; ready to be printed in any format."""

    lines: Sequence[Measure]
    names: dict[str, str]  # of methods with what was chosen

    def layout(self) -> Layout:
        """A line per quantity."""
        few = len(self.columns) <= WIDE
        return Layout(
            what="quantity",
            headers=[*(self.columns if few else EXTREMES), "mean"],
            lines={
                entry.key: [
                    (self.names.get(one.name, one.name) if entry.key == WON else one.name,
                     [*self._cells(one, few), with_spread(one)])
                    for one in self.lines if one.group == entry.key
                ]
                for entry in self.entries
            },
            caption=("gap", "shares"),
            below=("images", "spread", "tuned"),
            subject="Group",
        )  # fmt: skip

    def frame(self) -> pd.DataFrame:
        """Every number, unrounded: one row per quantity and task, and one for the mean."""
        return pd.DataFrame(
            [
                {"entry": one.group, "quantity": one.name, "column": column, "value": value,
                 "sd": one.sd if column == "mean" else NAN}
                for one in self.lines
                for column, value in [*zip(self.columns, one.tasks.tolist(), strict=True),
                                      ("mean", one.mean)]
            ]
        )  # fmt: skip

    def _cells(self, one: Measure, few: bool) -> list[str]:
        if few:
            return [printed(value, one.form) for value in one.tasks.tolist()]
        known = [value for value in one.tasks.tolist() if not math.isnan(value)]
        return [printed(pick(known, default=NAN), one.form) for pick in EXTREMES.values()]


@dataclass(frozen=True, kw_only=True)
class Beside(GroupedTable):
    """The means of several settings, a column each; ready to be printed in any format."""

    cells: dict[tuple[str, str, str], Measure]  # (group, quantity, setting)
    agreements: dict[str, Agreement]  # setting -> how it stands to the published one

    def layout(self) -> Layout:
        """A line per quantity."""
        lines = {}
        for entry in self.entries:
            names = dict.fromkeys(name for group, name, _ in self.cells if group == entry.key)
            lines[entry.key] = [(name, [self._cell(entry.key, name, column)
                                        for column in self.columns]) for name in names]  # fmt: skip
        lines[AGAINST] = [
            (title, [self._agreement(kind, column) for column in self.columns])
            for kind, title in NAMES.items()
        ]
        return Layout(
            what="quantity",
            headers=list(self.columns),
            lines=lines,
            caption=("gap", "shares"),
            below=("against", "tuned", "spread"),
            subject="Group",
        )

    def frame(self) -> pd.DataFrame:
        """Every number, unrounded: one row per quantity and setting."""
        rows = [
            {"entry": group, "quantity": name, "column": column, "value": one.mean, "sd": one.sd,
             "low": NAN, "high": NAN}
            for (group, name, column), one in self.cells.items()
        ]  # fmt: skip
        for column, found in self.agreements.items():
            for kind, title in NAMES.items():
                interval: Interval = getattr(found, kind)
                rows.append({"entry": AGAINST, "quantity": title, "column": column, "sd": NAN,
                             **interval._asdict()})  # fmt: skip
        return pd.DataFrame(rows)

    def _cell(self, group: str, name: str, column: str) -> str:
        one = self.cells.get((group, name, column))
        return "-" if one is None else with_spread(one)

    def _agreement(self, kind: str, column: str) -> str:
        if column not in self.agreements:
            return "-"
        interval: Interval = getattr(self.agreements[column], kind)
        value, low, high = (printed(number, ".2f") for number in interval)
        return f"{value} [{low}, {high}]"


def by_task(setting: Diagnosis) -> ByTask:
    """Every quantity of a setting, task by task."""
    lines = measures(setting)
    return ByTask(
        title=f"Diagnosis of {setting.label} on {setting.suite}",
        entries=_entries(dict.fromkeys(one.group for one in lines)),
        columns=tuple(setting.tasks),
        setting=_setting(setting),
        notes=_notes([setting]),
        lines=lines,
        names={one: f"{one}{_chosen(setting, method)}" for method, one in setting.titles.items()},
    )


def beside(published: Diagnosis, settings: Sequence[Diagnosis]) -> Beside:
    """The means of settings beside those of the published one.

    Args:
        published: see :mod:`results.published.reference`.
        settings: at least one; where two have one label, their base and key are added.
    """
    labels = _labels([published, *settings])
    found = {
        (one.group, one.name, label): one
        for label, setting in labels.items()
        for one in measures(setting)
    }
    groups = dict.fromkeys(
        group
        for setting in [*settings, published]
        for group in dict.fromkeys(one.group for one in measures(setting))
    )
    names = dict.fromkeys((one.group, one.name) for setting in [*settings, published]
                          for one in measures(setting))  # fmt: skip
    return Beside(
        title=f"Settings beside {published.label}",
        entries=_entries([*groups, AGAINST]),
        columns=tuple(labels),
        setting=_setting(*labels.values()),
        notes=_notes(settings, published),
        cells={(*name, label): found[*name, label] for name in names for label in labels
               if (*name, label) in found},
        agreements={label: agreement(setting, published) for label, setting in labels.items()
                    if setting is not published},
    )  # fmt: skip


def _labels(settings: Sequence[Diagnosis]) -> dict[str, Diagnosis]:
    """Settings by names that differ."""
    named = [one.label for one in settings]
    return {
        one.label if named.count(one.label) == 1 else f"{one.label} {one.key[:6]}": one
        for one in settings
    }


def _entries(groups: Sequence[str] | dict[str, None]) -> tuple[Entry, ...]:
    return tuple(
        Entry(key=g, method="", title=g, cite="", tuned=False, config="", data_access="")
        for g in groups
    )


def _chosen(setting: Diagnosis, method: str) -> str:
    """The scales that were chosen for the sets of experts: " (scale 0.2)"."""
    lines = [one.lines[method] for one in setting.sets.values()]
    scales = [line.config["scale"] for line in lines if line.trials and "scale" in line.config]
    return f" (scale {', '.join(f'{s:g}' for s in dict.fromkeys(scales))})" if scales else ""


def _setting(*settings: Diagnosis) -> dict[str, str]:
    facts = ("world", "suite", "encoder", "limit")
    found = {fact: dict.fromkeys(str(getattr(one, fact)) for one in settings) for fact in facts}
    usual = {"precision": FULL, "protocol": USUAL, "extra_experts": ""}
    return {fact: "; ".join(values) for fact, values in found.items()} | usual


def _notes(settings: Sequence[Diagnosis], published: Diagnosis | None = None) -> dict[str, str]:
    worlds = "; ".join(dict.fromkeys(world_name(one.world) for one in settings))
    notes = {
        "world": f"Setting: {worlds}.",
        "gap": "Accuracies in %, means over tasks are unweighted. The gap is the mean accuracy of "
        "the experts, each on its own task, less that of the pretrained model.",
        "shares": "Own line: share of the gap that theta_0 + s tau of the task's own expert wins. "
        "Harm: change of accuracy on the other tasks. Low rank: share of the gap that an expert "
        "keeps whose task vector has only the largest singular values of every matrix. Merged: "
        "share of the gap that one model for all tasks recovers.",
    }
    counts = {count for one in settings for count in one.images.values()}
    if counts and published is None:
        low, high = min(counts), max(counts)
        images = f"{high}" if low == high else f"{low} to {high}"
        notes["images"] = f"All on {images} validation images a task."
    else:
        notes["images"] = "Ours on validation images, the published on test images."
    notes["tuned"] = (
        "Scales of ours are tuned, and measured, on these validation images; the linear probe's "
        "penalty as well."
    )
    if published is not None:
        against = f"Rank correlation and slope: our recovered shares on those of {published.label}"
        notes["against"] = (
            f"{against}, method by method; in brackets {100 * LEVEL:.0f} % limits of a bootstrap "
            "over our tasks and sets of experts."
        )
    if any(len(one.sets) > 1 for one in settings):
        sets = max(len(one.sets) for one in settings)
        notes["spread"] = f"+-: standard deviation over {sets} sets of experts."
    return notes
