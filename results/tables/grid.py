"""Equal cells or nothing: measurements arranged as entries x tasks x shifts x seeds.

Axes in shapes: ``E`` entries, ``T`` tasks, ``S`` shifts, ``R`` pairs of (seed, expert seed), ``K``
sets of experts, ``N`` images.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import pandas as pd

from corruptions.base import DOMAIN, PROTOCOL, ShiftName
from mergeshift import UserError
from results.schema import AUROC, CEILING, FLOOR, FLOOR_OF, METRICS, SCALED
from results.tables.entries import CELL, Entry, with_entries

# One table compares methods, so everything else that decides a value must be the same for all.
SETTING = ("world", "suite", "encoder", "limit", "precision", "extra_experts", "protocol")
SHIFT_SETTING = ("constants", "placement")  # a clean image has neither


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Every cell of every entry, measured exactly once.

    Of a metric that is newer than some results, cells that lack it are NaN. Of one that is computed
    over the lines of a table, the values are those of the metric that it is computed from.
    """

    metric: str
    entries: tuple[Entry, ...]
    tasks: tuple[str, ...]  # in the order of the suite
    shifts: tuple[ShiftName, ...]  # clean first, then the protocol's, by severity
    seeds: tuple[tuple[int, int], ...]  # (seed, expert seed)
    values: np.ndarray  # [E, T, S, R]; NaN where a task has no images under a shift
    counts: np.ndarray  # [T, S] images of a cell, the same for all; 0 where a task has none
    packed: np.ndarray  # bytes [E, T, S, R]; empty where single answers are not known
    setting: dict[str, str]  # values of SETTING and SHIFT_SETTING
    unseen: tuple[str, ...] = ()  # tasks whose experts were not merged
    floors: tuple[float, ...] = ()  # what chance alone adds to the metric: of entries, means
    chance: np.ndarray | None = None  # [T] accuracy of a uniform guess, where rows know it

    @property
    def set_values(self) -> np.ndarray:
        """Values of every set of experts, averaged over seeds: ``[E, T, S, K]``."""
        return np.stack([self.values[..., of].mean(axis=-1) for of in self.sets.values()], axis=-1)

    @property
    def means(self) -> np.ndarray:
        """Values averaged over seeds, then over sets of experts: ``[E, T, S]``."""
        return cast(np.ndarray, self.set_values.mean(axis=-1))

    @property
    def sets(self) -> dict[int, list[int]]:
        """Set of experts -> positions of its pairs of seeds, K in all."""
        found: dict[int, list[int]] = {}
        for position, (_, expert_seed) in enumerate(self.seeds):
            found.setdefault(expert_seed, []).append(position)
        return dict(sorted(found.items()))

    @property
    def ceiling(self) -> int | None:
        """Position of the individual experts among the entries, if they were measured."""
        found = [i for i, entry in enumerate(self.entries) if entry.method == CEILING]
        return found[0] if found else None

    @property
    def clean(self) -> int | None:
        """Position of clean among the shifts, if it was measured."""
        clean = ShiftName("clean", 0)
        return self.shifts.index(clean) if clean in self.shifts else None

    @property
    def unknown(self) -> np.ndarray:
        """Entries with a cell that has images and lacks the metric.  ``bool [E]``."""
        lacking = np.isnan(self.values) & (self.counts > 0)[None, :, :, None]
        return lacking.reshape(len(self.entries), -1).any(axis=1)

    @property
    def known(self) -> "Grid":
        """The entries whose every cell has the metric, where its task has images."""
        kept = ~self.unknown
        if kept.all():
            return self
        entries = tuple(entry for entry, keep in zip(self.entries, kept, strict=True) if keep)
        return replace(self, entries=entries, values=self.values[kept], packed=self.packed[kept])

    def position(self, name: str) -> int:
        """Position of the entry with this key, or of the only one of this method.

        Raises:
            UserError: there is none, or the method stands there in several variants.
        """
        keys = [entry.key for entry in self.entries]
        if name in keys:
            return keys.index(name)
        found = [i for i, entry in enumerate(self.entries) if entry.method == name]
        if len(found) != 1:
            raise UserError(f"{name!r} is not one line of these results; known: {', '.join(keys)}")
        return found[0]

    def has_hits(self, entry: int) -> bool:
        """Whether the answers of this entry to single images are known."""
        return all(self.packed[entry][self.counts > 0].ravel())

    def tasks_under(self, shifts: Sequence[int]) -> tuple[int, ...]:
        """Positions of the tasks that have images under all of these shifts."""
        return tuple(np.flatnonzero((self.counts[:, list(shifts)] > 0).all(axis=1)).tolist())

    def set_scores(self, entry: int, task: int, shifts: Sequence[int]) -> np.ndarray:
        """Mean of right and wrong over shifts and seeds: ``[K, N]``, of each set of experts."""
        return np.stack([self._mean_hits(entry, task, shifts, of) for of in self.sets.values()])

    def scores(self, entry: int, task: int, shifts: Sequence[int]) -> np.ndarray:
        """Mean of right and wrong over shifts, seeds and sets of experts: ``[N]`` in [0, 1]."""
        return cast(np.ndarray, self.set_scores(entry, task, shifts).mean(axis=0))

    def _mean_hits(
        self, entry: int, task: int, shifts: Sequence[int], pairs: Sequence[int]
    ) -> np.ndarray:
        packed = [self.packed[entry, task, shift, pair] for shift in shifts for pair in pairs]
        hits = np.frombuffer(b"".join(packed), np.uint8).reshape(len(packed), -1)
        count = int(self.counts[task, shifts[0]])
        total = np.unpackbits(hits, axis=1, count=count).sum(axis=0, dtype=np.int64)
        return cast(np.ndarray, total / len(packed))


def arrange(rows: pd.DataFrame, metric: str = "acc", order: Sequence[str] = ()) -> Grid:
    """Arrange the rows of one metric; refuse what cannot be compared.

    Args:
        rows: a frame of the columns in ``results.schema``.
        metric: which rows to take.
        order: methods to put first (see :func:`results.tables.entries.with_entries`).

    An entry whose seed changes nothing was measured for one seed, and stands for every seed of
    the others (of the same experts). Results that are older than the metric have NaN.

    Raises:
        UserError: no such rows; rows of several suites, worlds, encoders, limits, precisions,
            protocols or kinds of corruption; an entry lacks cells that another has, or counted
            other images.
    """
    every, rows = rows, _of_metric(rows, metric)
    setting = _setting(rows)
    rows, entries = with_entries(rows, order)
    keys = [entry.key for entry in entries]
    tasks = tuple(rows["task"].unique())
    shifts = _in_order({ShiftName(*pair) for pair in _pairs(rows, "corruption", "severity")})
    seeds = tuple(sorted(set(_pairs(rows, "seed", "expert_seed"))))
    cell = np.full((len(keys), len(tasks), len(shifts), len(seeds)), -1)
    cell[
        [keys.index(key) for key in rows["entry"]],
        [tasks.index(task) for task in rows["task"]],
        [shifts.index(ShiftName(*pair)) for pair in _pairs(rows, "corruption", "severity")],
        [seeds.index(pair) for pair in _pairs(rows, "seed", "expert_seed")],
    ] = rows.index
    cell, seeds = _for_every_seed(cell, entries, seeds)
    advice = "finish the sweep or filter the rows"
    if metric.startswith(AUROC):
        advice = (
            "where all answers are right, or all wrong, there is none: see "
            "`table --by uncertainty`, which leaves such cells out for every method"
        )
    absent = _without_images(cell, shifts)
    _require_all(cell, keys, tasks, shifts, seeds, absent, advice)
    values, packed = rows["value"].to_numpy(float)[cell], rows["hits"].to_numpy(object)[cell]
    values[:, absent], packed[:, absent] = np.nan, b""
    return Grid(
        metric=metric,
        entries=entries,
        tasks=tasks,
        shifts=shifts,
        seeds=seeds,
        values=values,
        counts=_counts(rows["n"].to_numpy()[cell], keys, tasks, shifts, absent),
        packed=packed,
        setting=setting,
        unseen=_unseen(rows),
        floors=_floors(every, metric, order),
        chance=_chance(rows, tasks),
    )


def _of_metric(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The rows of a metric, or of that which it is computed from; NaN where results are older."""
    spec = METRICS[metric]
    found = rows[rows["metric"] == (spec.of or metric)]
    if found.empty:
        known = ", ".join(rows["metric"].unique()) or "none"
        command = "python -m bench sweep" + " --uncertainty" * metric.startswith(AUROC)
        if spec.later and not rows.empty:
            scaled = metric.endswith(SCALED) or metric == "temperature"
            command += " --temperature" if scaled else " --force"
        raise UserError(f"no rows of metric {metric!r} (there: {known}); run `{command}` first")
    if spec.later:
        cell = ["run_id", "task", "corruption", "severity"]
        cells = pd.MultiIndex.from_frame(rows.loc[rows["metric"] == "acc", cell])
        lacking = rows[rows["metric"] == "acc"][~cells.isin(pd.MultiIndex.from_frame(found[cell]))]
        if len(lacking):
            unknown = lacking.assign(metric=metric, value=np.nan, hits=[b""] * len(lacking))
            found = pd.concat([found, unknown])
    return found.reset_index(drop=True)


def _floors(rows: pd.DataFrame, metric: str, order: Sequence[str]) -> tuple[float, ...]:
    """Mean over cells of ``floor:METRIC``, of every entry that has it in all of them."""
    if not (rows["metric"] == f"{FLOOR_OF}{metric}").any():
        return ()
    try:
        means = arrange(rows, f"{FLOOR_OF}{metric}", order).means.mean(axis=(1, 2))
    except UserError:  # some cells are from before it
        return ()
    return tuple(means.tolist())


def _chance(rows: pd.DataFrame, tasks: Sequence[str]) -> np.ndarray | None:
    """Accuracy of a uniform guess on each task, ``[T]``, from a column that is not stored."""
    if "chance" not in rows:
        return None
    return rows.drop_duplicates("task").set_index("task")["chance"].loc[list(tasks)].to_numpy(float)


def _pairs(rows: pd.DataFrame, first: str, second: str) -> list[tuple]:
    return list(zip(rows[first].tolist(), rows[second].tolist(), strict=True))


def _setting(rows: pd.DataFrame) -> dict[str, str]:
    shifted = rows[rows["severity"] > 0]
    setting = {}
    for name in (*SETTING, *SHIFT_SETTING):
        found = sorted(map(str, (rows if name in SETTING else shifted)[name].unique()))
        if len(found) > 1:
            raise UserError(
                f"a table compares methods under one {name}; got {len(found)} "
                f"({', '.join(found)}); filter the rows to one"
            )
        setting[name] = found[0] if found else ""
    return setting


def _unseen(rows: pd.DataFrame) -> tuple[str, ...]:
    """Tasks whose experts were not merged: the same for every entry."""
    kinds = rows.groupby("task", sort=False)["seen"].agg(["all", "any"])
    for task in kinds.index[kinds["all"] != kinds["any"]][:1]:
        raise UserError(
            f"a table compares methods under one choice of unseen tasks; {task} is unseen in some "
            "of these runs and seen in others; filter the rows to one sweep"
        )
    return tuple(map(str, kinds.index[~kinds["any"]]))


def _in_order(shifts: set[ShiftName]) -> tuple[ShiftName, ...]:
    def rank(shift: ShiftName) -> tuple[int, int, str, int]:
        known = shift.corruption in PROTOCOL
        place = PROTOCOL.index(shift.corruption) if known else len(PROTOCOL)
        kind = 2 if shift.shows_others else int(shift.severity > 0)
        return kind, place, shift.corruption, shift.severity

    return tuple(sorted(shifts, key=rank))


def _for_every_seed(
    cell: np.ndarray, entries: Sequence[Entry], seeds: Sequence[tuple[int, int]]
) -> tuple[np.ndarray, tuple[tuple[int, int], ...]]:
    """Repeat the entries that do not depend on their seed; keep the seeds of those that do.

    The pretrained model depends on no experts either: it stands for every set.
    """
    seeded = np.array([entry.seeded for entry in entries])
    for e in np.flatnonzero(~seeded).tolist():
        for to, (_, expert_seed) in enumerate(seeds):
            for source, pair in enumerate(seeds):
                if pair[1] == expert_seed or entries[int(e)].method == FLOOR:
                    lacking = cell[e, :, :, to] < 0
                    cell[e, :, :, to][lacking] = cell[e, :, :, source][lacking]
    if not seeded.any():
        return cell, tuple(seeds)
    kept = (cell[seeded] >= 0).any(axis=(0, 1, 2))  # [R]
    return cell[..., kept], tuple(pair for pair, keep in zip(seeds, kept, strict=True) if keep)


def _without_images(cell: np.ndarray, shifts: Sequence[ShiftName]) -> np.ndarray:
    """Which tasks have no images under which shift, ``bool [T, S]``: a domain is of some tasks."""
    domains = np.array([shift.corruption.startswith(DOMAIN) for shift in shifts])
    return cast(np.ndarray, (cell < 0).all(axis=(0, 3)) & domains)


def _require_all(
    cell: np.ndarray,
    keys: list[str],
    tasks: Sequence[str],
    shifts: Sequence[ShiftName],
    seeds: Sequence[tuple[int, int]],
    absent: np.ndarray,
    advice: str,
) -> None:
    """Refuse to average over different tasks, shifts or seeds."""
    lacks = (cell < 0) & ~absent[None, :, :, None]
    missing = lacks.reshape(len(keys), -1).sum(axis=1)
    lacking = [f"{key} ({count})" for key, count in zip(keys, missing, strict=True) if count]
    if not lacking:
        return
    first = int(np.flatnonzero(missing)[0])
    t, s, r = np.argwhere(lacks[first])[0]
    example = f"task={tasks[t]} shift={shifts[s]}"
    for index, name in enumerate(CELL[-2:]):
        if len({pair[index] for pair in seeds}) > 1:
            example += f" {name}={seeds[r][index]}"
    others = f" (also lacking: {', '.join(lacking[1:])})" if lacking[1:] else ""
    raise UserError(
        f"{keys[first]} lacks {missing[first]} of {cell[0].size} cells, e.g. {example}{others}; "
        f"{advice}"
    )


def _counts(
    n: np.ndarray,
    keys: list[str],
    tasks: Sequence[str],
    shifts: Sequence[ShiftName],
    absent: np.ndarray,
) -> np.ndarray:
    """Images of each task and shift ``[T, S]``, given those of each cell ``[E, T, S, R]``.

    Those of a task are the same under every shift but those that show other images.
    """
    same = [s for s, shift in enumerate(shifts) if not shift.shows_others]
    first = [same[0] if s in same else s for s in range(len(shifts))]  # what each is compared with
    counts = n[0][:, first, 0]
    for e, t, s, r in np.argwhere((n != counts[None, ..., None]) & ~absent[None, ..., None])[:1]:
        raise UserError(
            f"{keys[e]} counted {n[e, t, s, r]} images on task={tasks[t]} shift={shifts[s]}, "
            f"{keys[0]} {counts[t, s]} on {shifts[first[s]]}; measure both on the same images"
        )
    return cast(np.ndarray, np.where(absent, 0, counts))
