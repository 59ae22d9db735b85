"""Choose a method's constants on val: one budget, which no grid exceeds; all trials kept."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from bench.config import Run
from bench.runtime.workers import Executor, OnProgress
from bench.stages.build import bind
from bench.stages.evaluate import validate_run
from bench.zoo.experts import assess
from mergeshift import UserError
from tasks import TASKS


def expert_accuracies(run: Run) -> dict[str, float]:
    """Accuracy of each merged expert on its own val split; one image at least counts as right.

    Raises:
        UserError: of one that was not made here it was not measured yet.
    """
    found = {expert.task: expert.val_accuracy for expert in bind(run).experts}
    known = {task: accuracy for task, accuracy in found.items() if accuracy is not None}
    if len(known) < len(found):
        raise UserError(f"{len(found) - len(known)} experts were not measured on val; tune again")
    return {task: max(known[task], 1 / run.val_images(TASKS[task].sizes[2])) for task in known}


def normalised(accuracies: Mapping[str, float], experts: Mapping[str, float]) -> float:
    """Mean over tasks of merged accuracy over expert accuracy.

    >>> normalised({"a": 0.4, "b": 0.9}, {"a": 0.8, "b": 0.9})
    0.75
    """
    return sum(accuracies[task] / experts[task] for task in experts) / len(experts)


def tune_runs(
    runs: Sequence[Run], engine: Executor, watch: OnProgress | None = None
) -> dict[str, dict]:
    """Try every config of every run's grid.

    Returns:
        Per run id what is stored as its tuning: the chosen ``config`` (canonical JSON; the first of
        equals), its ``score``, the ``grid``, the ``budget`` spent in validation passes, and every
        trial.
    """
    experts = {expert for run in runs for expert in bind(run).experts}
    unmeasured = [(e,) for e in experts if e.val_accuracy is None]
    for _ in engine.run(assess, sorted(unmeasured, key=str)):
        pass
    units = [(run, config) for run in runs for config in bind(run).candidates]
    trials: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
    for (run, config), accuracies in engine.run(validate_run, units, watch):
        trials[run.id][config] = accuracies
    return {run.id: _choice(run, trials[run.id]) for run in runs}


def _choice(run: Run, trials: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    experts = expert_accuracies(run)
    scores = {config: normalised(trials[config], experts) for config in bind(run).candidates}
    best = max(scores, key=scores.__getitem__)
    return {
        "config": best,
        "score": scores[best],
        "grid": run.grid,
        "budget": len(scores),
        "split": "val",
        "images": {task: run.val_images(TASKS[task].sizes[2]) for task in experts},
        "trials": [
            {"config": config, "score": score, "accuracy": dict(trials[config])}
            for config, score in scores.items()
        ],
    }
