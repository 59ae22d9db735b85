"""Our numbers beside published ones: a line for every published number, under each method."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from mergeshift import UserError
from results.published.matching import Line, Place, fitting, further, lines_of, places_of
from results.published.sources import PAPER_LEVEL, Source, base_of, experts_of, within
from results.schema import FLOOR, FULL
from results.tables.comparison import NAN, Cell, Table, compare
from results.tables.entries import Entry
from results.tables.layout import GroupedTable, Layout, points, with_margin

BY = ("shift", "task", "seen")
HEADERS = ("ours", "published", "difference", "verdict")
VERDICT = (
    "difference: ours - published, in points; verdict: whether the published mean, as rounded "
    "there, lies within our 95 % interval over images. No verdict is given where something other "
    "than the code differs: the experts, the test images, the noise of the corruptions, the "
    "method's hyperparameters (constants), the data it adapts on, or the precision."
)


@dataclass(frozen=True, kw_only=True)
class PublishedPair:
    """One of our numbers and a published one; NaN where there is none."""

    column: str
    line: Line
    ours: Cell
    published: float
    verdict: str  # within | outside, of our interval; or what else differs; or nothing

    @property
    def difference(self) -> float:
        """Ours minus theirs, a share."""
        return self.ours.value - self.published


@dataclass(frozen=True, kw_only=True)
class PublishedComparison(GroupedTable):
    """Methods with a line for every published number."""

    percent = ("value", "low", "high", "published", "difference")

    pairs: Mapping[str, Sequence[PublishedPair]]  # entry key -> lines

    def layout(self) -> Layout:
        """A line per published number."""
        return Layout(
            what="source",
            headers=HEADERS,
            lines={
                entry.key: [
                    (f"{pair.column}, {pair.line.name}", _cells(pair))
                    for pair in self.pairs[entry.key]
                ]
                for entry in self.entries
            },
            caption=("metric", "verdict", "images"),
            below=(
                *("sources", "lacking", "unseen", "levels"),
                *("published levels", "shifts", "constants"),
            ),
            text_last=True,
        )

    def frame(self) -> pd.DataFrame:
        """Every pair, unrounded."""
        return pd.DataFrame(
            [
                {
                    **{"entry": entry.key, "method": entry.method, "title": entry.title},
                    **{"column": pair.column, "metric": "acc", "source": pair.line.source.key},
                    "constants": json.dumps(dict(pair.line.constants), sort_keys=True),
                    "checkpoints": pair.line.checkpoints,
                    **{"value": pair.ours.value, "low": pair.ours.low, "high": pair.ours.high},
                    **{"published": pair.published, "difference": pair.difference},
                    "verdict": pair.verdict,
                }
                for entry in self.entries
                for pair in self.pairs[entry.key]
            ]
        )


def _cells(pair: PublishedPair) -> list[str]:
    ours = with_margin(pair.ours.interval)
    return [ours, points(pair.published), points(pair.difference, "+"), pair.verdict]


def beside(
    rows: pd.DataFrame,
    published: pd.DataFrame,
    sources: Mapping[str, Source],
    by: str = "shift",
    *,
    shift: str = "clean",
    order: Sequence[str] = (),
    everything: bool = False,
) -> PublishedComparison:
    """Put published numbers beside ours of the same suite, encoder and unseen tasks.

    Args:
        rows: ours, a frame of the columns in ``results.schema``.
        published: see :func:`results.published.sources.read`.
        sources: where they come from.
        by: what the columns are: ``shift``, ``task`` or ``seen``.
        shift: for ``by="task"``, under which shift.
        order: methods to put first.
        everything: also methods and shifts that we did not measure.

    Raises:
        UserError: there is nothing to put beside ours.
    """
    if by not in BY:
        raise UserError(f"published numbers stand by {', '.join(BY)}; got --by {by}")
    table = compare(rows, "acc", by, shift=shift, order=order)
    tasks = {base_of(task): bool(seen) for task, seen in rows[["task", "seen"]].drop_duplicates()
             .itertuples(index=False)}  # fmt: skip
    lines = lines_of(_of_the_same(published, table, tasks), sources)
    places = places_of(table, _in_full(shift, rows))
    places += further(lines, places) if everything and by == "shift" else []
    pairs = {
        entry.key: _pairs(entry, fitting(entry, lines), places, table, tasks)
        for entry in table.entries
    }
    entries = list(table.entries)
    if everything:
        own = {entry.method for entry in table.entries}
        others = [_entry(line) for line in lines if line.method not in own]
        for entry in {one.method: one for one in others}.values():
            entries.append(entry)
            there = [line for line in lines if line.method == entry.method]
            pairs[entry.key] = _pairs(entry, there, places, table, tasks)
    kept = tuple(entry for entry in entries if pairs[entry.key])
    if not kept:
        raise UserError(
            f"nothing published fits this table by {by}; there is something of: "
            f"{', '.join(dict.fromkeys(line.title for line in lines)) or 'nothing'}"
        )
    used = [pair.line.source for entry in kept for pair in pairs[entry.key]]
    lacking = [entry.title for entry in table.entries if entry not in kept]
    return PublishedComparison(
        title=f"{table.title}, beside published numbers",
        entries=kept,
        columns=tuple(dict.fromkeys(p.column for e in kept for p in pairs[e.key])),
        setting=table.setting,
        notes=_notes(table, used, lacking, places),
        pairs=pairs,
    )


def _in_full(shift: str, rows: pd.DataFrame) -> str:
    """``contrast`` -> ``contrast@2``, where it was measured at one severity."""
    found = {str(severity) for severity in rows["severity"][rows["corruption"] == shift]} - {"0"}
    return f"{shift}@{found.pop()}" if len(found) == 1 else shift


def _of_the_same(published: pd.DataFrame, table: Table, tasks: Mapping[str, bool]) -> pd.DataFrame:
    """Published rows of the same suite and encoder with the same unseen tasks."""
    found = within(published, table.setting["suite"], table.setting["encoder"], list(tasks))
    unseen = {task for task, seen in tasks.items() if not seen}
    return found[[set(text.split()) == unseen for text in found["unseen"]]]


def _pairs(
    entry: Entry,
    lines: Sequence[Line],
    places: Sequence[Place],
    table: Table,
    tasks: Mapping[str, bool],
) -> list[PublishedPair]:
    found = []
    for place in places:
        over = [task for task, seen in tasks.items() if seen == place.seen]
        for line in lines:
            value = line.value(place, over)
            if not math.isnan(value):
                ours = table.cells.get((entry.key, place.ours), Cell(NAN))
                told = _verdict(ours, value, line, place, entry, table.setting)
                found.append(
                    PublishedPair(
                        column=place.column, line=line, ours=ours, published=value, verdict=told
                    )
                )
    return found


def _verdict(
    ours: Cell, value: float, line: Line, place: Place, entry: Entry, setting: Mapping[str, str]
) -> str:
    """Whether a published number lies in our interval; or else why that would say nothing."""
    if math.isnan(ours.value):
        return ""
    config = json.loads(entry.config) if entry.config else {}
    experts = experts_of(setting["suite"], setting["encoder"])
    differs = {
        "experts": entry.method != FLOOR and line.checkpoints != experts,
        "test images": "@" not in setting["suite"] or setting["limit"] != "0",
        "noise": place.recipe is not None,
        "constants": not line.fits(config),
        "adaptation": entry.adapt_on != line.adapt_on,
        "precision": setting["precision"] != FULL,
        "set of merged experts": entry.method != FLOOR and bool(setting["extra_experts"]),
    }
    if any(differs.values()):
        return f"other {', '.join(name for name, holds in differs.items() if holds)}"
    slack = line.source.rounding
    return "within" if ours.low - slack <= value <= ours.high + slack else "outside"


def _entry(line: Line) -> Entry:
    """A method that only others measured."""
    return Entry(
        key=line.method, method=line.method, title=line.title, cite="", tuned=False, config="",
        data_access="", adapt_on=line.adapt_on,
    )  # fmt: skip


def _notes(
    table: Table, used: Sequence[Source], lacking: Sequence[str], places: Sequence[Place]
) -> dict[str, str]:
    first, last = ("world", "metric"), ("interval", "images", "unseen", "levels", "shifts")
    notes: dict[str, str] = {key: table.notes[key] for key in first}
    notes["verdict"] = VERDICT
    notes |= {key: table.notes[key] for key in (*last, "constants") if key in table.notes}
    if any(place.shift.startswith(PAPER_LEVEL) for place in places):
        notes["published levels"] = (
            "L1 L2 L3 (published): levels of a paper that does not define them; not those of this "
            "benchmark."
        )
    told = {one.title: f" ({one.note})" if one.note else "" for one in used}
    notes["sources"] = f"Published: {'; '.join(f'{k}{v}' for k, v in told.items())}."
    if lacking:
        notes["lacking"] = f"No published numbers for: {', '.join(lacking)}."
    return notes
