"""Mirror a finished sweep to W&B; what was mirrored before and has not changed is left alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from bench import learned
from bench.config import digest
from bench.files import read_json, write_json
from bench.plan import Plan
from bench.progress import Stages
from results.store import Store
from results.tables import Table
from results.wandb import Mirror, mode


def mirror(
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
    logged_path = out / "wandb" / "logged.json"
    logged = read_json(logged_path) if logged_path.exists() else {}
    store = Store(out)
    fingerprints = {
        run: digest((chosen, part[["task", "corruption", "severity", "metric", "value"]].to_csv()))
        for run, part in rows.groupby("run_id")
    }
    new = [run for run, fingerprint in fingerprints.items() if logged.get(run) != fingerprint]
    comparison = digest((chosen, table.frame().to_csv(), plan.sweep.name))
    if not new and comparison in logged:
        return
    with stages.stage(
        "wandb", f"{len(new)} runs and the comparison, {chosen}", len(new)
    ) as advance:
        target = Mirror(out, plan.sweep.name, chosen, say=console.print)
        for count, run in enumerate(new, 1):
            facts = store.run(run)
            trials = facts.get("tuning", {}).get("trials", [])
            curves = {"tune_score": [trial["score"] for trial in trials]} if trials else {}
            lessons = [learned.load(file)[1] for file in learned.files(store, run)]
            target.log_run(
                flat(facts, lessons) | protocol(lessons),
                rows[rows["run_id"] == run],
                curves | learning_curves(lessons),
                {short(lesson["shift"]): lesson["coefficients"] for lesson in lessons},
            )
            advance(count)
        target.log_comparison(table)
    console.print(f"  {target.advice()}", style="dim", highlight=False)
    write_json(
        logged_path, logged | {run: fingerprints[run] for run in new} | {comparison: "comparison"}
    )


def protocol(lessons: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a run was shown to learn from, how often and how long; nothing if it did not learn.

    Args:
        lessons: facts about each learning (see :func:`bench.learned.facts_of`).
    """
    if not lessons:
        return {}
    first = lessons[0]
    reports = {short(one["shift"]): one["report"] for one in lessons if one.get("report")}
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


def learning_curves(lessons: Sequence[Mapping[str, Any]]) -> dict[str, Sequence[float]]:
    """Everything that was logged step by step; under several shifts, each by its name."""
    return {
        f"{short(lesson['shift'])}/{name}" if lesson["shift"] else name: values
        for lesson in lessons
        for name, values in lesson["curves"].items()
    }


def short(key: str) -> str:
    """A shift as people type it.

    >>> short("contrast@3-cifar10-c-input-v1")
    'contrast@3'
    """
    return key.partition("-")[0]


def flat(facts: dict, lessons: Sequence[Mapping[str, Any]] = ()) -> dict:
    """The facts of a run in one level, settings and the costs of all its learnings included."""
    cost = dict(facts["cost"])
    if len(lessons) > 1:
        cost["adapt_s"] = sum(lesson["seconds"] for lesson in lessons)
        cost["peak_mb"] = max(lesson["peak_mb"] for lesson in lessons)
    return {**facts["run"], **cost, "config": facts["config"]}
