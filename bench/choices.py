"""What runs chose on the val split: the harness by tuning them, or methods by themselves."""

import json
from collections.abc import Iterable
from typing import Any

from bench import learned
from bench.mirror import short
from results.store import Store
from results.tuning import Choice
from tasks import TASKS


def choices_of(store: Store, runs: Iterable[str]) -> dict[str, Choice]:
    """Run -> what it chose; without the runs that chose nothing."""
    found = {run: choice_of(store, run) for run in runs}
    return {run: choice for run, choice in found.items() if choice}


def choice_of(store: Store, run: str) -> Choice | None:
    """What one run chose. Of one that learns under each shift: on clean images."""
    facts = store.run(run)
    constants, budget, val = {}, 1, {}
    if tuning := facts.get("tuning"):
        config = json.loads(tuning["config"])
        constants = {name: config[name] for name in json.loads(tuning["grid"])}
        best = next(one for one in tuning["trials"] if one["config"] == tuning["config"])
        budget, val = tuning["budget"], best["accuracy"]
    report = report_of(store, run)
    if own := report.get("budget"):
        constants, budget = {**constants, **report.get("constants", {})}, budget * own
        val = report.get("val", {})
    if not constants:
        return None
    most = json.loads(facts["config"]).get("val_images") or None
    counts = {task: len(range(TASKS[task].sizes[2])[:most]) for task in val}
    return Choice(constants=constants, budget=budget, val=val, counts=counts)


def report_of(store: Store, run: str) -> dict[str, Any]:
    """What a method tells of its learning for all shifts, or for clean images; empty if nothing."""
    for facts in learned.lessons(store, run):
        if short(facts["shift"]) in ("", "clean"):
            return dict(facts.get("report", {}))
    return {}
