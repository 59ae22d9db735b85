"""What stands in the columns of a table."""

from collections import defaultdict
from typing import NamedTuple

from corruptions.base import LEVELS, PROTOCOL, ShiftName, shows_others
from corruptions.matched import entries
from mergeshift import Registry, UserError
from results.tables.grid import Grid

BY = ("shift", "seen", "task", "severity", "corruption")
MEAN = "mean"


class ColumnCells(NamedTuple):
    """The cells that one column of a table averages over: positions in a grid."""

    tasks: tuple[int, ...]
    shifts: tuple[int, ...]


def spans(grid: Grid, by: str, shift: str = "clean") -> dict[str, ColumnCells]:
    """Columns by name, in the order of the table.

    ``shift``: clean, then L1 L2 L3 where the whole protocol was measured at that severity, then
    every other shift for itself. ``seen``: the same, twice each: tasks whose experts were merged,
    and the others. ``task``: one per task and their mean, under ``shift``.
    ``severity``: 0 (clean) to 5, means over corruptions. ``corruption``: clean and one per
    corruption, means over severities; then those shifts that show other images, each for itself:
    of such a domain, over the tasks that have images of it.

    Raises:
        UserError: no such table, no such shift, or the columns would average over different
            corruptions or severities.
    """
    if by not in BY:
        raise UserError(f"no table by {by!r}; choose one of {', '.join(BY)}")
    if by == "task":
        positions = tuple(grid.shifts.index(one) for one in _shifts_named(grid, shift))
        tasks = grid.tasks_under(positions)
        columns = {grid.tasks[t]: ColumnCells((t,), positions) for t in tasks}
        return columns | {MEAN: ColumnCells(tasks, positions)}
    if by == "seen":
        return _seen_and_unseen(grid)
    groups = {"shift": _levels, "severity": _severities, "corruption": _corruptions}[by](grid)
    return {
        name: ColumnCells(grid.tasks_under(positions), tuple(positions))
        for name, positions in groups.items()
    }


def _shifts_named(grid: Grid, text: str) -> list[ShiftName]:
    """``L2`` -> the protocol at severity 2; ``contrast`` -> all its severities; else the one."""
    matched = matched_levels(grid)
    if text in (*LEVELS, *matched):
        found = matched.get(text) or [ShiftName(name, LEVELS[text]) for name in PROTOCOL]
        if lacking := [str(one) for one in found if one not in grid.shifts]:
            raise UserError(
                f"{text} needs {len(found)} shifts; {len(lacking)} were not measured, "
                f"e.g. {lacking[0]}; finish the sweep"
            )
        return found
    measured = grid.shifts
    found = [one for one in measured if text in (one.corruption, str(one))]
    if not found:
        known: Registry[str] = Registry("measured shift")
        for name in sorted({str(one) for one in measured} | set(LEVELS)):
            known.add(name, name)
        known[text]  # says what there is
    return found


def _levels(grid: Grid) -> dict[str, list[int]]:
    groups = {} if grid.clean is None else {"clean": [grid.clean]}
    for level, severity in LEVELS.items():
        protocol = [ShiftName(name, severity) for name in PROTOCOL]
        if all(one in grid.shifts for one in protocol):
            groups[level] = [grid.shifts.index(one) for one in protocol]
    for level, members in matched_levels(grid).items():
        if all(one in grid.shifts for one in members):
            groups[level] = [grid.shifts.index(one) for one in members]
    shown = {position for positions in groups.values() for position in positions}
    others = [i for i in range(len(grid.shifts)) if i not in shown]
    return groups | {str(grid.shifts[i]): [i] for i in others}


def matched_levels(grid: Grid) -> dict[str, list[ShiftName]]:
    """M1 M2 M3, where they are frozen for the suite and encoder of a grid, and for one base."""
    setting = grid.setting
    wanted = tuple(setting[name] for name in ("suite", "encoder", "constants", "placement"))
    found = [one for one in entries()
             if (one.suite, one.encoder, one.constants, one.placement) == wanted]  # fmt: skip
    if len(found) != 1:
        return {}
    return {level: [ShiftName(name, severity) for name, severity in of.items()]
            for level, of in found[0].levels.items()}  # fmt: skip


def _seen_and_unseen(grid: Grid) -> dict[str, ColumnCells]:
    """``clean seen``, ``clean unseen``, ``L1 seen`` ...: never a mean over both."""
    if not grid.unseen:
        raise UserError("every task is seen in these results; run a sweep with --unseen TASK,TASK")
    kinds = {
        "seen": tuple(t for t, task in enumerate(grid.tasks) if task not in grid.unseen),
        "unseen": tuple(t for t, task in enumerate(grid.tasks) if task in grid.unseen),
    }
    return {
        f"{name} {kind}": ColumnCells(here, tuple(positions))
        for name, positions in _levels(grid).items()
        for kind, tasks in kinds.items()
        if (here := tuple(t for t in grid.tasks_under(positions) if t in tasks))
    }


def _severities(grid: Grid) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = defaultdict(list)
    for i, one in sorted(enumerate(grid.shifts), key=lambda pair: pair[1].severity):
        if not one.shows_others:
            groups[str(one.severity)].append(i)
    _require_equal(
        {
            f"severity {name}": {grid.shifts[i].corruption for i in group}
            for name, group in groups.items()
            if name != "0"
        }
    )
    return dict(groups)


def _corruptions(grid: Grid) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = defaultdict(list)
    for i, one in enumerate(grid.shifts):
        groups[one.corruption].append(i)
    _require_equal(
        {
            name: {f"severity {grid.shifts[i].severity}" for i in group}
            for name, group in groups.items()
            if name != "clean" and not shows_others(name)
        }
    )
    return dict(groups)


def _require_equal(members: dict[str, set[str]]) -> None:
    """Refuse columns that average over different things."""
    every = set().union(*members.values()) if members else set()
    for name, group in members.items():
        if lacking := sorted(every - group):
            raise UserError(
                f"{name} lacks {len(lacking)} of {len(every)} that other columns average over, "
                f"e.g. {lacking[0]}; finish the sweep or filter the shifts"
            )
