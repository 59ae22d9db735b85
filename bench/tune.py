"""Choose a method's constants on val: the same budget for every method, all trials kept."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from bench.config import Run
from bench.engines import Engine, Watch
from bench.evaluate import validate
from bench.plan import candidates
from bench.unseen import seen_of
from bench.zoo.experts import experts_of


def expert_accuracies(run: Run) -> dict[str, float]:
    """Accuracy of each merged expert on its own val split, from the manifests."""
    experts = experts_of(run.encoder, seen_of(run), run.expert_seed)
    return {expert.task: expert.facts()["val_accuracy"] for expert in experts}


def normalised(accuracies: Mapping[str, float], experts: Mapping[str, float]) -> float:
    """Mean over tasks of merged accuracy over expert accuracy.

    >>> normalised({"a": 0.4, "b": 0.9}, {"a": 0.8, "b": 0.9})
    0.75
    """
    return sum(accuracies[task] / experts[task] for task in experts) / len(experts)


def tune(runs: Sequence[Run], engine: Engine, watch: Watch | None = None) -> dict[str, dict]:
    """Try every config of every run's grid.

    Returns:
        Per run id what is stored as its tuning: the chosen ``config`` (canonical JSON; the first of
        equals), its ``score``, the ``grid``, the ``budget`` spent in validation passes, and every
        trial.
    """
    units = [(run, config) for run in runs for config in candidates(run)]
    trials: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
    for (run, config), accuracies in engine.run(validate, units, watch):
        trials[run.id][config] = accuracies
    return {run.id: _choice(run, trials[run.id]) for run in runs}


def _choice(run: Run, trials: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    experts = expert_accuracies(run)
    scores = {config: normalised(trials[config], experts) for config in candidates(run)}
    best = max(scores, key=scores.__getitem__)
    return {
        "config": best,
        "score": scores[best],
        "grid": run.grid,
        "budget": len(scores),
        "split": "val",
        "trials": [
            {"config": config, "score": score, "accuracy": dict(trials[config])}
            for config, score in scores.items()
        ],
    }
