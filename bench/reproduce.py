"""Published numbers run again: what was measured, on which images, and how near ours must come."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import isnan
from pathlib import Path

import pandas as pd
from rich.console import Console

from bench.config import Sweep
from bench.reporting.sweep_index import load_sweep, rows_of
from bench.sweep import run_sweep
from corruptions.base import PROTOCOL
from mergeshift import Registry, UserError
from results.published import sources as published
from results.published.matching import Line, Place, fitting, lines_of, stored
from results.published.sources import base_of, within
from results.tables.columns import MEAN
from results.tables.comparison import compare
from results.tables.entries import Entry
from tasks import TASKS

POINT = 0.01


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """One or more published rows, and the sweeps that measure the same."""

    name: str
    source: str  # in results/published
    methods: tuple[str, ...]  # with the constants that were published
    encoder: str = "ViT-B-32"
    suite: str = "vision8@published"  # the test images of the field
    copies: tuple[str, ...] = ()  # besides, FusionBench's corrupted copies of test, as they are
    mean: float = 0.1  # points that the mean over tasks may differ by, beside rounding
    task: float = 0.5  # points that one task may differ by

    def points(self, task: str) -> float:
        """What a task, or the mean, may differ by, beside rounding."""
        return self.mean if task == MEAN else self.task

    @property
    def sweeps(self) -> Iterator[Sweep]:
        """One for each kind of test images. Constants are fixed; what learns does so on test."""
        for suite in (self.suite, *(f"{base_of(self.suite)}@{copy}" for copy in self.copies)):
            yield Sweep(
                name="-".join(["reproduce", self.name, *suite.split("@")[1:]]),
                suite=suite,
                encoder=self.encoder,
                methods=self.methods,
                shifts=("clean",),
                tune=False,
                adapt_on="test",
            )


REPRODUCTIONS: Registry[Reproduction] = Registry("reproduction")
ENCODERS = {"b32": "ViT-B-32", "b16": "ViT-B-16", "l14": "ViT-L-14"}
TIES = "ties[keep=0.2,merge=sum,scale=0.3]"
LEARNED = (1.0, 3.0)  # points: batches are drawn in another order
ROWS = {  # name -> method, tolerances in points of the mean and of a task
    "zero-shot": ("pretrained", 0.2, 1.2),  # FusionBench's own pages differ by 1.0 on EuroSAT
    "experts": ("individual", 0.1, 0.5),
    "average": ("average", 0.1, 0.5),
    "task-arithmetic": ("task_arithmetic[scale=0.3]", 0.1, 0.5),
    "ties": (TIES, 0.3, 1.0),  # ties among entries at the threshold
    "adamerging": ("adamerging[preset=fusionbench]", *LEARNED),
    "adamerging-task": ("adamerging_task[preset=fusionbench]", *LEARNED),
}
EXACT = ("average-b32", "task-arithmetic-b32")  # published in full precision, too
UNPUBLISHED = ("adamerging-task-b16",)


def _add_all() -> None:
    for short, encoder in ENCODERS.items():
        for row, (method, mean, task) in ROWS.items():
            name = f"{row}-{short}"
            source = "fusionbench_exact" if name in EXACT else "fusionbench"
            found = Reproduction(name=name, source=source, methods=(method,), encoder=encoder,
                                 mean=mean, task=task)  # fmt: skip
            if name not in UNPUBLISHED:
                REPRODUCTIONS.add(name, found)
        for row in ("zero-shot", "experts"):
            method, mean, task = ROWS[row]
            more = {"suite": "vision20@published", "source": "fusionbench_20", "mean": mean}
            found = Reproduction(name=f"{row}-20-{short}", methods=(method,), encoder=encoder,
                                 task=task, **more)  # type: ignore[arg-type]  # fmt: skip
            REPRODUCTIONS.add(found.name, found)
    four = Reproduction(
        name="robustness4",
        source="fusionbench",
        suite="vision4_robustness@published",
        copies=PROTOCOL,
        methods=("task_arithmetic[scale=0.3]", TIES),
        mean=0.3,
        task=1.0,
    )
    REPRODUCTIONS.add(four.name, four)
    learned = replace(four, name="robustness4-adamerging", mean=LEARNED[0], task=LEARNED[1],
                      methods=("adamerging[preset=fusionbench]",))  # fmt: skip
    REPRODUCTIONS.add(learned.name, learned)


_add_all()


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One number of ours against the published one; shares."""

    title: str  # of the method
    images: str  # published, or the corruption of the copy
    task: str  # or mean
    ours: float
    published: float  # NaN if it was not
    tolerance: float

    @property
    def difference(self) -> float:
        """Ours minus theirs."""
        return self.ours - self.published

    @property
    def agrees(self) -> bool:
        """Whether the difference is within the tolerance; not where nothing was published."""
        return abs(self.difference) <= self.tolerance

    @property
    def compares(self) -> bool:
        """Whether there is a published number."""
        return not isnan(self.published)


def reproduce(
    wanted: Reproduction,
    out: Path,
    *,
    jobs: int,
    limit: int | None = None,
    dry_run: bool = False,
    console: Console,
) -> list[Finding]:
    """Run what a publication ran, as far as it was not run before, and compare.

    Args:
        wanted: what to run.
        out: the results folder.
        jobs: worker processes.
        limit: test images per task, at most; see :func:`compared`.
        dry_run: print the plans and measure nothing.
        console: where the plans go.

    Raises:
        UserError: data or experts cannot be had, or nothing is published of it.
    """
    found = []
    for sweep in wanted.sweeps:
        if limit:
            sweep = replace(sweep, name=f"{sweep.name}-limit{limit}", limit=limit)
        run_sweep(sweep, out, jobs=jobs, force=False, dry_run=dry_run, console=console)
        if not dry_run:
            rows = rows_of(out, load_sweep(out, sweep.name))
            found += compared(wanted, rows)
    return found


def compared(wanted: Reproduction, rows: pd.DataFrame) -> list[Finding]:
    """Every task and the mean, of every method, against the published row.

    On all test images the tolerance is that of the row and the rounding of the publication. On
    fewer our interval over images adds to it, of each task and of the mean.

    Args:
        wanted: what was run.
        rows: what was measured of one of its suites.

    Raises:
        UserError: nothing is published of a method, or of any of these tasks.
    """
    table = compare(rows, by="task")
    suite, tasks = table.setting["suite"], [base_of(task) for task in rows["task"].unique()]
    known = published.sources()
    there = within(published.read([wanted.source]), suite, wanted.encoder, tasks)
    same = (there["unseen"] == "") & (there["checkpoints"] == published.family_of(suite))
    lines, images, part = lines_of(there[same], known), stored(suite), sampled(rows)
    found = []
    for entry in table.entries:
        line = _line_of(entry, lines)
        for column in table.columns:
            task = MEAN if column == MEAN else base_of(column)
            cell, points = table.cells[entry.key, column], wanted.points(task)
            found.append(Finding(
                title=entry.title,
                images=suite.partition("@")[2],
                task=task,
                ours=cell.value,
                published=line.value(Place(column, column, task, images), tasks),
                tolerance=POINT * points + line.source.rounding + (cell.margin if part else 0),
            ))  # fmt: skip
    if not any(one.compares for one in found):
        raise UserError(f"nothing published covers what {wanted.name} measures; tasks: {tasks}")
    return found


def sampled(rows: pd.DataFrame) -> bool:
    """Whether not all test images of some task were shown."""
    counts = rows.groupby("task")["n"].max()
    return any(count < TASKS[str(task)].sizes[-1] for task, count in counts.items())


def _line_of(entry: Entry, lines: list[Line]) -> Line:
    """The published row of a method with the constants of ours."""
    own = [line for line in fitting(entry, lines) if line.fits(json.loads(entry.config))]
    if not own:
        raise UserError(f"nothing is published of {entry.key} there; see `list published`")
    return own[0]


def summary(wanted: Reproduction, found: list[Finding]) -> str:
    """Within how many points everything agrees, and what was not published, in a sentence."""
    there = [one for one in found if one.compares]
    worst = {kind: [abs(one.difference) / POINT for one in there if (one.task == MEAN) == is_mean]
             for kind, is_mean in (("means", True), ("tasks", False))}  # fmt: skip
    parts = [f"{kind} within {max(values):.2f}" for kind, values in worst.items() if values]
    wrong = sum(not one.agrees for one in there)
    verdict = "agrees" if not wrong else f"DOES NOT AGREE ({wrong} of {len(there)} numbers)"
    text = f"{wanted.name} {verdict}: {', '.join(parts)} points of what was published"
    lacking = [one.task for one in found if not one.compares]
    if not lacking:
        return text
    names = ", ".join(dict.fromkeys(lacking))
    return f"{text}; INCOMPLETE: {len(lacking)} of {len(found)} were not published ({names})"


def tolerances(wanted: Reproduction, found: list[Finding]) -> str:
    """What the tolerances are made of, in a sentence."""
    rounding = published.sources()[wanted.source].rounding
    fixed = {one.task: POINT * wanted.points(one.task) + rounding for one in found}
    more = ", and our 95 % interval, as these are not all test images"
    wider = any(one.tolerance > fixed[one.task] + 1e-9 for one in found)
    return (
        f"Tolerance: {wanted.mean:g} points of a mean, {wanted.task:g} of a task, "
        f"{rounding / POINT:g} for rounding{more * wider}."
    )
