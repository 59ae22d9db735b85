"""The fronts of methods that fit quadratics to val accuracies, out of what their learning told."""

from collections.abc import Iterable

import numpy as np

from bench.reporting.tuning_history import report_of
from methods.map import SHARES, front
from results.store import Store
from results.tables.pareto import Front

ERRORS = {  # of a report -> where
    "error at the points": "at the points of the fit",
    "error at points left out": "at points left out of it",
    "error at the optimum": "at the optimum",
}


def fronts_of(store: Store, runs: Iterable[str]) -> dict[str, Front]:
    """Run -> its front; without the runs that have fitted nothing, or two tasks apart."""
    return {
        run: found for run in dict.fromkeys(runs) if (found := front_of(store, run)) is not None
    }


def front_of(store: Store, run: str) -> Front | None:
    """What one run can trade; nothing of a method, or of one task, that has nothing to trade."""
    report = report_of(store, run)
    if "fits" not in report or "high" not in report or len(report["tasks"]) < 2:
        return None
    tasks = report["tasks"]
    curves: dict[str, dict[float, list[float]]] = {task: {} for task in tasks}
    for one in front(report, SHARES):
        curves[one.task][one.share] = list(one.accuracies)
    (equal,) = front({**report, "tasks": tasks}, (1 / len(tasks),))[:1]
    return Front(
        tasks=tasks,
        equal=list(equal.accuracies),
        curves=curves,
        measured=np.array(report["accuracies"]).tolist(),
        errors={where: report[name] for name, where in ERRORS.items() if name in report},
    )
