"""Mirror a sweep, and its leaderboard, to W&B; what is there and has not changed is left alone."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from bench.config import digest
from bench.plan import Plan
from bench.reporting.sweep_index import with_chance
from bench.runtime.progress import Stages
from bench.stages import artifacts
from corruptions.base import ShiftName
from mergeshift import UserError, read_json, write_json
from results.store import Store
from results.tables.comparison import Table
from results.tables.leaderboard import board
from results.wandb import report
from results.wandb.login import broken, mode
from results.wandb.runs import PROJECT, WandbUploader
from results.wandb.sweep import trial

LAYOUT = 2  # of what is logged of a run; a change logs every run anew


def upload_sweep(
    plan: Plan,
    rows: pd.DataFrame,
    table: Table,
    stages: Stages,
    out: Path,
    console: Console,
    choice: str,
) -> None:
    """Log every run (config, cells, cost, what it learned) and the comparison, by sweep."""
    chosen = mode(choice)
    if chosen == "off":
        return
    project, entity = os.environ.get("WANDB_PROJECT") or PROJECT, os.environ.get("WANDB_ENTITY")
    target = WandbUploader(out, plan.sweep.name, chosen, project, entity, say=console.print)
    new, numbers = unlogged(target, rows), table.frame().to_csv()

    def comparison() -> str:
        return digest((where(target), numbers, plan.sweep.name))

    if not new and comparison() in logged_in(out) and not trial():
        return
    if choice == "auto" and (why := broken()):
        console.print(f"  W&B: nothing logged, as wandb cannot be imported ({why})", markup=False)
        return
    with stages.stage(
        "wandb", f"{len(new)} runs and the comparison, {chosen}", len(new)
    ) as advance:
        log_runs(target, rows, new, advance)
        target.log_comparison(table)
        remember(out, {comparison(): "comparison"})
    console.print(f"  {target.advice()}", style="dim", highlight=False)


def upload_leaderboard(
    target: WandbUploader, rows: pd.DataFrame, table: Table, stages: Stages
) -> str:
    """Log the runs of a sweep that are not there yet, its leaderboard, and a W&B Report.

    Returns:
        The report's address; empty offline, where there is none.

    Raises:
        UserError: the service cannot be reached, or refused something.
    """
    wished, store = target.mode, Store(target.folder)
    new, runs = unlogged(target, rows), list(rows["run_id"].unique())
    with stages.stage(
        "wandb", f"{len(new)} runs and the leaderboard, {wished}", len(new) + 1
    ) as go:
        log_runs(target, rows, new, go)
        target.log_board(board(table, with_chance(rows), facts_by_run(store, runs)), table)
    if wished != "online":
        return ""
    if target.mode != "online":
        raise UserError(f"no report was written, as it cannot be offline; {target.advice()}")
    place = report.Place(
        project=target.project, entity=target.owner, sweep=target.sweep, board=target.address
    )
    firsts = [one for run in runs for one in artifacts.adaptation_records(store, run)[:1]]
    drawn = sum(bool(one["coefficients"]) for one in firsts)
    return report.save(place, table, rows, target.folder, drawn)


def log_runs(
    target: WandbUploader, rows: pd.DataFrame, runs: Sequence[str], advance: Callable[[float], None]
) -> None:
    """Log runs, and remember which were logged where."""
    store = Store(target.folder)
    for count, run in enumerate(runs, 1):
        facts, lessons = store.run(run), artifacts.adaptation_records(store, run)
        part = rows[rows["run_id"] == run]
        target.log_run(
            flat(facts, lessons) | protocol(lessons),
            part,
            curves_of(facts, lessons),
            {str(ShiftName.of_key(lesson["shift"])): lesson["coefficients"] for lesson in lessons},
        )
        advance(count)
        remember(target.folder, {f"{target.sweep}/{run}": fingerprint(target, part)})


def unlogged(target: WandbUploader, rows: pd.DataFrame) -> list[str]:
    """The runs that were not logged for this sweep, or elsewhere, or that have changed since."""
    logged = logged_in(target.folder)
    return [
        str(run)
        for run, part in rows.groupby("run_id", sort=False)
        if logged.get(f"{target.sweep}/{run}") != fingerprint(target, part)
    ]


def fingerprint(target: WandbUploader, part: pd.DataFrame) -> str:
    """What was logged of a run, and where to."""
    numbers = part[["task", "corruption", "severity", "metric", "value"]].to_csv()
    return digest((LAYOUT, where(target), numbers))


def where(target: WandbUploader) -> tuple[str, str, str]:
    """Where a mirror writes to; to the folder if offline, whatever the project."""
    return target.mode, target.project, target.entity or ""


def logged_in(folder: Path) -> dict[str, str]:
    """What was logged from a results folder."""
    path = folder / "wandb" / "logged.json"
    return read_json(path) if path.exists() else {}


def remember(folder: Path, logged: dict[str, str]) -> None:
    """Add to what was logged from a results folder."""
    write_json(folder / "wandb" / "logged.json", logged_in(folder) | logged)


def protocol(lessons: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a run was shown to learn from, how often and how long; nothing if it did not learn.

    Args:
        lessons: facts about each learning (see :func:`bench.stages.artifacts.facts`).
    """
    if not lessons:
        return {}
    first = lessons[0]
    reports = {
        str(ShiftName.of_key(one["shift"])): one["report"] for one in lessons if one.get("report")
    }
    return {
        "adaptation": {
            "adapt_on": first["adapt_on"],
            "trainings": len(lessons),
            "steps": first["steps"],
            "seconds": sum(lesson["seconds"] for lesson in lessons),
            "peak_mb": max(lesson["peak_mb"] for lesson in lessons),
        },
        **({"report": reports.get("", reports)} if reports else {}),
    }


def curves_of(
    facts: Mapping[str, Any], lessons: Sequence[Mapping[str, Any]]
) -> dict[str, Sequence[float]]:
    """What is known of a run step by step: the scores of its tuning, and what it learned."""
    trials = facts.get("tuning", {}).get("trials", [])
    tuned = {"tune_score": [trial["score"] for trial in trials]} if trials else {}
    return tuned | learning_curves(lessons)


def learning_curves(lessons: Sequence[Mapping[str, Any]]) -> dict[str, Sequence[float]]:
    """Everything that was logged step by step, and the scores that a method's own search gave.

    Under several shifts each curve has the name of its shift.
    """
    return {
        f"{ShiftName.of_key(lesson['shift'])}/{name}" if lesson["shift"] else name: values
        for lesson in lessons
        for name, values in {**lesson["curves"], **searched(lesson)}.items()
    }


def searched(lesson: Mapping[str, Any]) -> dict[str, Sequence[float]]:
    """The score of every trial, and the best so far, where a method searched."""
    scores = [trial["value"] for trial in lesson.get("report", {}).get("trials", ())]
    return {"search": scores, "search_best": list(accumulate(scores, max))} if scores else {}


def flat(facts: dict, lessons: Sequence[Mapping[str, Any]] = ()) -> dict:
    """The facts of a run in one level, settings and the costs of all its learnings included."""
    cost = dict(facts["cost"])
    if len(lessons) > 1:
        cost["adapt_s"] = sum(lesson["seconds"] for lesson in lessons)
        cost["peak_mb"] = max(lesson["peak_mb"] for lesson in lessons)
    return {**facts["run"], **cost, "config": facts["config"]}


def facts_by_run(store: Store, runs: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Run -> its facts in one level, with its costs; see :mod:`results.tables.leaderboard`."""
    return {run: flat(store.run(run), artifacts.adaptation_records(store, run)) for run in runs}
