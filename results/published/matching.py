"""What publications say of a method, and which of our columns that stands beside."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from corruptions.base import ShiftName
from results.published.sources import AS_PUBLISHED, MEAN, PAPER_LEVEL, Source, base_of
from results.schema import splits_of
from results.tables.comparison import NAN, Table
from results.tables.entries import Entry

# What a split that FusionBench published is, in the words of published rows. Its pixelate resizes
# every picture to 28 and then 32 pixels, so that it is not the corruption of this name.
STORED = {"pixelate": "pixelate_canvas"}
STORED_SEVERITY = 2


class Place(NamedTuple):
    """What a column is about, in the words of published rows."""

    column: str  # as printed
    ours: str  # our column; empty if we did not measure it
    task: str  # or mean
    shift: str  # clean, contrast@2, paper_level@1
    seen: bool = True
    recipe: tuple[str, str] | None = (
        None  # constants and placement of our corruption, if drawn here
    )


@dataclass(frozen=True, kw_only=True)
class Line:
    """What one publication says of one method with one choice of constants."""

    source: Source
    method: str
    title: str
    checkpoints: str  # whose experts were merged
    constants: Mapping[str, Any]  # of the method, as far as they are stated
    adapt_on: str
    values: Mapping[tuple[str, str, bool], float]  # (task, shift, seen) -> share

    @property
    def name(self) -> str:
        """Source and constants, as tables print them."""
        texts = (f"{k}={str(v).lower()}" for k, v in self.constants.items())
        return f"{self.source.title} [{', '.join(texts)}]" if self.constants else self.source.title

    @property
    def shifts(self) -> list[str]:
        """Everything it was measured under."""
        return list(dict.fromkeys(shift for _, shift, _ in self.values))

    def fits(self, config: Mapping[str, Any]) -> bool:
        """Whether a method with this config has the constants that are stated."""
        return all(config.get(name) == value for name, value in self.constants.items())

    def value(self, place: Place, tasks: Sequence[str]) -> float:
        """The published number; of a mean, that of the publication or else of its rows.

        Args:
            place: what is asked for.
            tasks: that a mean is over.
        """
        if place.recipe not in (None, (self.source.constants, self.source.placement)):
            return NAN
        stated = self.values.get((place.task, place.shift, place.seen), NAN)
        if place.task != MEAN or not math.isnan(stated):
            return stated
        parts = [self.values.get((task, place.shift, place.seen), NAN) for task in tasks]
        return sum(parts) / len(parts) if parts else NAN


def lines_of(rows: pd.DataFrame, sources: Mapping[str, Source]) -> list[Line]:
    """Published rows, one line for each source and method with its constants."""
    keys = ["source", "checkpoints", "method", "config"]
    return [
        Line(
            source=sources[str(source)],
            method=str(method),
            title=part["title"].iloc[0],
            checkpoints=str(checkpoints),
            constants=json.loads(str(config)),
            adapt_on=part["adapt_on"].iloc[0],
            values={
                (task, str(ShiftName(name, severity)), bool(seen)): float(value)
                for task, name, severity, seen, value in part[
                    ["task", "corruption", "severity", "seen", "value"]
                ].itertuples(index=False)
            },
        )
        for (source, checkpoints, method, config), part in rows.groupby(keys, sort=False)
    ]


def places_of(table: Table, shift: str = "clean") -> list[Place]:
    """What our columns are in the words of publications; our levels are in nobody's.

    Args:
        table: ours, by shift, task or seen.
        shift: what its columns are under, if they are tasks.
    """
    setting, copy = table.setting, stored(table.setting["suite"])
    found = []
    for column in table.columns:
        name, task, under, seen = column, MEAN, column, True
        if table.by == "task":
            name, task, under = base_of(column), base_of(column), shift
        elif table.by == "seen":
            under, _, kind = column.rpartition(" ")
            seen = kind == "seen"
        if under == "clean":  # or a corrupted copy, which we know by its suite alone
            found.append(Place(name.replace(under, copy), column, task, copy, seen))
        else:
            recipe = (setting["constants"], setting["placement"])
            found.append(Place(name, column, task, under, seen, recipe))
    return found


def stored(suite: str) -> str:
    """What the images of a suite are that we call clean: ``vision4_robustness@contrast``.

    >>> stored("vision8@published"), stored("vision4_robustness@contrast")
    ('clean', 'contrast@2')
    """
    part = splits_of(suite)
    if part in ("", AS_PUBLISHED):
        return "clean"
    return str(ShiftName(STORED.get(part, part), STORED_SEVERITY))


def further(lines: Iterable[Line], places: Sequence[Place]) -> list[Place]:
    """What was published under shifts that stand in no column of ours.

    The recipe of a corruption belongs to it: where ours is another, so is the column. The levels
    of a paper are its own.
    """
    ours = {(place.shift, place.recipe) for place in places}
    found = {}
    for line in lines:
        recipe = (line.source.constants, line.source.placement)
        for shift in line.shifts:
            if not {(shift, None), (shift, recipe)} & ours:
                found[shift] = Place(header(shift), "", MEAN, shift)
    return list(found.values())


def header(shift: str) -> str:
    """What stands for a shift that only others measured.

    >>> header("paper_level@2"), header("contrast@2")
    ('L2 (published)', 'contrast@2 (published)')
    """
    return f"{shift.replace(f'{PAPER_LEVEL}@', 'L')} (published)"


def fitting(entry: Entry, lines: Iterable[Line]) -> list[Line]:
    """The published lines to put under a method.

    Of each source and its experts those with the method's constants: of these, the ones that state
    most of them. Where none has them, all.
    """
    config = json.loads(entry.config) if entry.config else {}
    groups: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        if line.method == entry.method:
            groups.setdefault((line.source.key, line.checkpoints), []).append(line)
    found = []
    for group in groups.values():
        own = [line for line in group if line.fits(config)]
        most = max((len(line.constants) for line in own), default=0)
        found += [line for line in own if len(line.constants) == most] or group
    return found
