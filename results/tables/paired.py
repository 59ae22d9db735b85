"""Two things measured on the same images: method against method, shifted against clean."""

import numpy as np
import pandas as pd

from mergeshift import UserError, rng_of
from results.statistics import bootstrap_interval, paired_interval
from results.tables.columns import ColumnCells, spans
from results.tables.grid import Grid, arrange
from results.tables.quantities import accuracy, difference

NO_VERDICT = "no verdict"  # with one set of experts: others may turn out otherwise


def paired(
    rows: pd.DataFrame, a: str, b: str, by: str = "shift", shift: str = "clean"
) -> pd.DataFrame:
    """Accuracy of ``a`` minus that of ``b``, image by image, mean over tasks.

    Args:
        rows: a frame of the columns in ``results.schema``.
        a: a method, or an entry such as ``ties [keep=0.1]``.
        b: another.
        by: columns to compare in (see :func:`results.tables.columns.spans`).
        shift: for ``by="task"``.

    Returns:
        Per column: ``difference`` and its limits ``low`` and ``high`` (95 %, over images with
        tasks as strata, and over sets of experts if there are several), ``p`` and ``df`` (of
        several sets), bootstrap limits over images alone ``boot_low`` and ``boot_high`` (all
        shifts of an image are drawn together), all shares; ``verdict`` is ``a``, ``b`` or ``tie``
        (the interval contains zero), and with one set of experts ``no verdict``.

    Raises:
        UserError: the two were not measured on the same cells, or single answers are not known.
    """
    both = rows[(rows["metric"] == "acc") & rows["method"].isin({_method(a), _method(b)})]
    if both.empty:
        raise UserError(f"neither {a!r} nor {b!r} was measured; see `python -m bench table`")
    grid = arrange(both)
    first, second = scored(grid, a), scored(grid, b)
    found = {}
    for name, span in spans(grid, by, shift).items():
        one = difference(accuracy(grid, first, span), accuracy(grid, second, span))
        images = differences_of(grid, first, second, span)
        boot = bootstrap_interval(images, rng_of("paired", a, b, name))
        verdict = a if one.low > 0 else b if one.high < 0 else "tie"
        found[name] = (
            *one, boot.low, boot.high, verdict if len(grid.sets) > 1 else NO_VERDICT
        )  # fmt: skip
    names = ["difference", "low", "high", "p", "df", "boot_low", "boot_high", "verdict"]
    return pd.DataFrame.from_dict(found, orient="index", columns=names).rename_axis("column")


def differences_of(grid: Grid, first: int, second: int, span: ColumnCells) -> list[np.ndarray]:
    """Score of one entry minus that of another, image by image: ``[N]`` for each task."""
    return [
        grid.scores(first, task, span.shifts) - grid.scores(second, task, span.shifts)
        for task in span.tasks
    ]


def falls(rows: pd.DataFrame, method: str, by_task: bool = False) -> pd.DataFrame:
    """How far a method falls from clean under each corruption, on the same images.

    Returns:
        One row per shift (mean over tasks), or per task and shift: ``task``, ``corruption``,
        ``severity``, ``fall`` with limits ``low`` and ``high`` (95 %, paired), shares.

    Raises:
        UserError: clean was not measured, or single answers are not known.
    """
    grid = arrange(rows[(rows["metric"] == "acc") & (rows["method"] == _method(method))])
    entry = scored(grid, method)
    if grid.clean is None:
        raise UserError(f"{method} was not measured on clean images; add `clean` to the shifts")
    every = range(len(grid.tasks))
    groups = [(name, [t]) for t, name in enumerate(grid.tasks)] if by_task else [("", list(every))]
    found = []
    for name, tasks in groups:
        clean = [grid.scores(entry, task, [grid.clean]) for task in tasks]
        for s, one in enumerate(grid.shifts):
            if s == grid.clean or one.shows_others:
                continue
            shifted = [grid.scores(entry, task, [s]) for task in tasks]
            interval = paired_interval([c - x for c, x in zip(clean, shifted, strict=True)])
            found.append((name, one.corruption, one.severity, *interval))
    return pd.DataFrame(
        found, columns=["task", "corruption", "severity", "fall", "low", "high"]
    ).drop(columns=[] if by_task else ["task"])


def null_cells(rows: pd.DataFrame, method: str, by_task: bool = False) -> pd.DataFrame:
    """Shifts that measure nothing: the method's fall from clean is not told apart from none."""
    table = falls(rows, method, by_task)
    return table[table["low"] <= 0].reset_index(drop=True)


def monotone(rows: pd.DataFrame, method: str) -> pd.DataFrame:
    """Mean accuracy over tasks by severity, to check that a corruption grows.

    Returns:
        One row per corruption: a column per severity (0 = clean; NaN if not measured),
        ``falls`` (the last severity lies below the first, clean not counted) and ``largest_rise``
        (from one severity to the next, a share; at most 0 if it never rises).
    """
    grid = arrange(rows[(rows["metric"] == "acc") & (rows["method"] == _method(method))])
    means = grid.means[grid.position(method)].mean(axis=0)  # [S]
    severities = sorted({one.severity for one in grid.shifts})
    by_name: dict[str, dict[int, float]] = {}
    for one, mean in zip(grid.shifts, means, strict=True):
        if one.severity:
            by_name.setdefault(one.corruption, {})[one.severity] = float(mean)
    found = {}
    for name, curve in by_name.items():
        path = [curve[severity] for severity in sorted(curve)]
        rise = float(np.max(np.diff(path), initial=-np.inf))
        at = curve if grid.clean is None else curve | {0: float(means[grid.clean])}
        values = [at.get(severity, np.nan) for severity in severities]
        found[name] = (*values, path[-1] < path[0], rise)
    columns = [*severities, "falls", "largest_rise"]
    return pd.DataFrame.from_dict(found, orient="index", columns=columns).rename_axis("corruption")


def _method(name: str) -> str:
    """``ties [keep=0.1]`` -> ``ties``."""
    return name.split(" [")[0]


def scored(grid: Grid, name: str) -> int:
    """Position of an entry whose answers to single images are known.

    Raises:
        UserError: they are not, or there is no such entry.
    """
    entry = grid.position(name)
    if not grid.has_hits(entry):
        raise UserError(
            f"{name} has no answers to single images (column hits), so nothing can be paired"
        )
    return entry
