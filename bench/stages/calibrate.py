"""Units of work: one temperature for each method, fitted on clean val.

It divides the logits of all tasks and shifts, so it changes no prediction. A method that learns
anew under each shift is a model for each shift, and each model has its own.
"""

from dataclasses import asdict
from typing import Any

from bench.config import Run
from bench.stages.build import bind
from bench.stages.scoring import score
from bench.stages.source import SOURCE, source_of
from corruptions.base import CLEAN, Shift
from results.metrics import temperature
from results.store import Store

FACT = "temperature"  # its place among the facts of a run: key of a shift, or "" -> what was fitted


def calibrate_run(run: Run, config: str, shift: Shift | None, store: Store) -> dict[str, Any]:
    """Fit the temperature of one model on the clean val images of seen tasks (a unit of work).

    Every task counts alike, as in a table, whatever number of images it has.

    Args:
        run: of the model.
        config: of its method, canonical JSON.
        shift: under which it learned, if the run learns under each.
        store: where that lies which it learned.

    Returns:
        What is stored: ``value``, ``split``, ``tasks``, and ``images`` in all of them.
    """
    bound = bind(run)
    method, data = bound.method(config, shift or CLEAN, store)[0], bound.calibration_data()
    _, scorer = score(
        {run.id: method}, data, "val",
        normalise=bound.encoder.normalise, precision=run.precision,
    )  # fmt: skip
    names = [task.name for task in data.tasks]
    answers = [scorer.answers((run.id, name, CLEAN.key)) for name in names]
    value = temperature(*([part.numpy() for part in parts] for parts in zip(*answers, strict=True)))
    images = sum(len(labels) for _, labels in answers)
    return {"value": value, "split": "val", "tasks": names, "images": images}


def keep_temperature(
    run: Run, config: str, shift: Shift | None, found: dict[str, Any], store: Store
) -> None:
    """Write what was fitted among the facts of the run."""
    path = store.path(run.id, "run").with_suffix(".json")
    new: dict[str, Any] = {"run": asdict(run), "config": config}
    facts = store.run(run.id) if path.exists() else new
    if not run.weights:
        facts.setdefault(SOURCE, source_of(run.method))
    known = facts.get(FACT, {})
    store.write_run(run.id, facts | {FACT: known | {shift.key if shift else "": found}})


def temperature_of(run: Run, shift: Shift | None, store: Store) -> float | None:
    """What was fitted to the model of a run that is measured under a shift; None if nothing was."""
    path = store.path(run.id, "run").with_suffix(".json")
    known = store.run(run.id).get(FACT, {}) if path.exists() else {}
    key = shift.key if shift and run.adapt_on == "shifted" else ""
    return float(known[key]["value"]) if key in known else None
