"""Who stands in a table: one entry per method, or per variant of it, in a fixed order."""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd

from corruptions.base import ShiftName
from mergeshift import UserError
from results.schema import CEILING, FLOOR, METRICS, NO_NEEDS, ORACLE, USUAL, world_name

CELL = ["task", "corruption", "severity", "constants", "placement", "seed", "expert_seed"]
ADAPT_ON = {
    "adapt": "held-out clean images",
    "test": "the clean test images",
    "shifted": "the shifted test images",
}
TITLES = {"test": "transductive", "shifted": "adapted per shift"}  # stands in the name itself


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of a table."""

    key: str  # unique, e.g. "ties" or "ties[keep=0.1]"
    method: str
    title: str  # as printed, e.g. "TIES" or "TIES [keep=0.1]"
    cite: str
    tuned: bool
    config: str  # canonical JSON; "" if it differs between the sets of experts
    data_access: str  # what the method saw or stores beyond the usual; "" if nothing
    adapt_on: str = ""  # adapt | test | shifted; "" for methods that do not adapt
    seeded: bool = True  # whether its numbers depend on the seed
    knows_task: bool = False  # whether it is told the task of each image
    static: bool = False  # whether it merges to one model that has seen no test image

    @property
    def is_reference(self) -> bool:
        """Floor, ceiling or oracle: shown for orientation, not ranked."""
        return self.method in (FLOOR, CEILING, ORACLE)

    @property
    def searches(self) -> bool:
        """Whether it chooses its constants on val by itself, while it learns."""
        return "validation labels" in self.data_access


@dataclass(frozen=True, kw_only=True)
class TableBase(ABC):
    """Lines, one per entry or more, and what must be said about them."""

    title: str
    entries: tuple[Entry, ...]
    columns: tuple[str, ...]
    setting: dict[str, str]  # world, suite, encoder, limit, precision, protocol, constants ...
    notes: dict[str, str]  # what a reader must know; key = what it is about

    percent: ClassVar[Collection[str]] = ()  # columns of the frame that are printed times 100

    @abstractmethod
    def frame(self) -> pd.DataFrame:
        """Every number, unrounded, with columns ``entry`` and ``column``."""

    def printed_frame(self) -> pd.DataFrame:
        """The frame with the units and signs of the printed table, still unrounded."""
        frame = self.frame()
        scaled = [name for name in self.percent if name in frame]
        return frame.assign(**{name: 100 * frame[name] for name in scaled})

    @property
    def world(self) -> str:
        """Where pictures and encoder come from, in words; and how pictures are shown."""
        return world_name(self.setting["world"], self.setting.get("protocol", USUAL))

    @property
    def allowances(self) -> dict[str, int]:
        """What methods saw beyond the usual -> number of the mark that says so, from 0."""
        found = dict.fromkeys(entry.data_access for entry in self.entries if entry.data_access)
        return {text: number for number, text in enumerate(found)}

    @property
    def cited(self) -> list[str]:
        """Keys of the papers in the order of the lines, each once."""
        return list(dict.fromkeys(entry.cite for entry in self.entries if entry.cite))


def repeated(marks: Sequence[str], number: int) -> str:
    """Mark number 0, 1, 2 ...; doubled, then tripled, when they run out.

    >>> [repeated("*+", number) for number in range(4)]
    ['*', '+', '**', '++']
    """
    return marks[number % len(marks)] * (1 + number // len(marks))


def with_entries(
    rows: pd.DataFrame, order: Sequence[str] = ()
) -> tuple[pd.DataFrame, tuple[Entry, ...]]:
    """Name the line of the table that each row belongs to, in a new column ``entry``.

    A method is one entry, whatever was tuned for each set of experts. It falls apart into variants
    where the rows say so (a column ``variant``: the fields that a sweep fixed for that line), and
    else only where it was measured twice on the same cell (a grid of constants, tuned and not
    tuned); these are named by what differs.

    Args:
        rows: of one metric.
        order: methods to put first, in this order. The others follow: pretrained, average, those
            between by the year in their citation key, oracle_router and individual last.

    Raises:
        UserError: a cell was measured twice and nothing tells the two apart.
    """
    fixed = rows["variant"] if "variant" in rows else pd.Series("", rows.index)
    rows = rows.assign(apart=(", " + fixed).where(fixed != "", ""))
    rows["entry"] = _named(rows)
    for telling in (_adapted_on, _tuned, _constants):  # a split that is not needed is not made,
        for _, group in rows.groupby("entry", sort=False):  # but protocols are never mixed
            if telling is _adapted_on or group.duplicated(CELL).any():
                rows.loc[group.index, "apart"] += telling(group)
        rows["entry"] = _named(rows)
    twice = rows.duplicated(["entry", *CELL])
    if twice.any():
        first = rows[twice].iloc[0]
        same = rows[(rows["entry"] == first["entry"]) & (rows[CELL] == first[CELL]).all(axis=1)]
        raise UserError(
            f"{first['entry']} was measured {len(same)} times on task={first['task']} "
            f"shift={ShiftName(first['corruption'], first['severity'])}, in runs "
            f"{sorted(set(same['run_id']))}; keep one (delete the other's folder in cells/)"
        )
    groups = {str(key): group for key, group in rows.groupby("entry", sort=False)}
    ranks = {key: _rank(key, group, fixed[group.index], order) for key, group in groups.items()}
    entries = (_entry(key, groups[key]) for key in sorted(groups, key=ranks.__getitem__))
    return rows, tuple(entries)


def keys_by_run(rows: pd.DataFrame, metric: str = "acc") -> dict[str, str]:
    """Run -> key of its entry in a table of this metric; runs without it are absent.

    Args:
        rows: a frame of the columns in ``results.schema``, of any metrics.
        metric: that of the table.
    """
    stored = METRICS[metric].of or metric
    named, _ = with_entries(rows[rows["metric"] == stored].reset_index(drop=True))
    return dict(named[["run_id", "entry"]].drop_duplicates().values.tolist())


def _named(rows: pd.DataFrame) -> pd.Series:
    told = " [" + rows["apart"].str[2:] + "]"
    return rows["method"] + told.where(rows["apart"] != "", "")


def _adapted_on(group: pd.DataFrame) -> pd.Series:
    if group["adapt_on"].nunique() == 1:
        return group["adapt_on"].map(lambda _: "")
    return group["adapt_on"].map(lambda on: f", adapted on {on or 'nothing'}")


def _tuned(group: pd.DataFrame) -> pd.Series:
    if group["tuned"].nunique() == 1:
        return group["tuned"].map(lambda _: "")
    return group["tuned"].map(lambda tuned: ", tuned" if tuned else ", default")


def _constants(group: pd.DataFrame) -> pd.Series:
    """``", keep=0.1"``: those constants that differ within the group."""
    configs = {text: json.loads(text) for text in group["config"].unique()}
    keys = dict.fromkeys(key for config in configs.values() for key in config)
    differ = [key for key in keys if len({repr(c.get(key)) for c in configs.values()}) > 1]
    names = {text: "".join(f", {k}={c.get(k)}" for k in differ) for text, c in configs.items()}
    return group["config"].map(names)


def _entry(key: str, group: pd.DataFrame) -> Entry:
    first = group.iloc[0]
    suffix = key[len(first["method"]) :]
    return Entry(
        key=key,
        method=first["method"],
        title=first["title"] + suffix + _marked(first),
        cite=first["cite"],
        tuned=bool(group["tuned"].any()),
        config=first["config"] if group["config"].nunique() == 1 else "",
        data_access="; ".join(filter(None, (_allowance(first), _changed(group)))),
        adapt_on=first["adapt_on"],
        seeded=bool(group["seeded"].any()),
        knows_task=bool(first["knows_task"]),
        static=_static(first),
    )


def _static(row: pd.Series) -> bool:
    """Whether a method merges to one model, once, before any test image is there."""
    reference = row["method"] in (FLOOR, CEILING, ORACLE)
    one = row["stores"] in ("", "one model") and not (reference or row["knows_task"])
    return bool(one and row["adapt_on"] not in TITLES and "test stream" not in row["needs"])


def _marked(row: pd.Series) -> str:
    """Test images before the test are no small print: the name itself says so."""
    kind = "test" if "test stream" in row["needs"] else row["adapt_on"]
    return f" ({TITLES[kind]})" if kind in TITLES else ""


def _allowance(row: pd.Series) -> str:
    """Everything that a reader must know before comparing this method with a plain merge."""
    parts = []
    if row["needs"] not in NO_NEEDS:
        parts.append(f"data used: {row['needs']}")
    if row["adapt_on"]:
        parts.append(f"adapts on {ADAPT_ON.get(row['adapt_on'], row['adapt_on'])}")
    if row["adapt_on"] in TITLES and "task ids" in row["needs"]:
        parts.append("uses the task ids of these test images")
    if row["knows_task"]:
        parts.append("task id at test time")
    if row["stores"] not in ("", "one model"):
        parts.append(f"storage: {row['stores']}")
    return "; ".join(parts)


def _changed(group: pd.DataFrame) -> str:
    """What must be said where the code of a method is not that of its numbers."""
    files = [told for told in group.get("changed", ()) if told]
    if not files:
        return ""
    return f"{files[0]} changed since this was measured: raise its version, or sweep --force"


def _rank(
    key: str, group: pd.DataFrame, fixed: pd.Series, order: Sequence[str]
) -> tuple[int, int, str]:
    """Where an entry stands; variants that a sweep names stand in its order: equal, here."""
    method, cite = group["method"].iloc[0], group["cite"].iloc[0]
    name = method if (fixed != "").any() else key
    if method in order:
        return 0, list(order).index(method), name
    year = re.search(r"(?:19|20)\d\d", cite)
    usual = {FLOOR: 1, "average": 2, ORACLE: 4, CEILING: 5}
    return usual.get(method, 3), int(year[0]) if year else 9999, name
