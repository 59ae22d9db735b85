"""The searches that methods made on val: their history, and which constants mattered."""

import warnings
from collections.abc import Sequence
from typing import Any

import pandas as pd

from bench.choices import report_of
from bench.errors import UserError
from bench.lines import named
from methods.search import Trial, study_of
from results.heatmaps import only
from results.schema import WORLDS
from results.search_plot import History
from results.store import Store

FEWEST = 5  # trials that count as good, at least: fewer make the importance a matter of luck
GOOD = 0.1  # share of all trials that count as good


def history_of(rows: pd.DataFrame, store: Store) -> History:
    """The searches of the one line in ``rows`` that searched, all its seeds.

    Raises:
        UserError: no method here searched, or several did.
    """
    found: dict[str, dict[str, Any]] = {}
    titles: dict[str, str] = {}
    for (method, variant, run), part in rows.groupby(["method", "variant", "run_id"], sort=False):
        report = report_of(store, str(run))
        if "trials" in report:
            line, first = named(str(method), str(variant)), part.iloc[0]
            world = WORLDS.get(first["world"], first["world"])
            titles[line] = f"{named(first['title'], first['variant'])} on {first['suite']}"
            titles[line] += f" with {first['encoder']} ({world})"
            name = f"seed {first['seed']}"
            name += f", experts {first['expert_seed']}" if rows["expert_seed"].nunique() > 1 else ""
            found.setdefault(line, {})[name] = report
    if not found:
        raise UserError("no method here searched on val; choose a sweep with one, e.g. bmm")
    line = only(found, "searched on val")
    reports = found[line]
    first_report = next(iter(reports.values()))
    return History(
        title=titles[line],
        objective=first_report["objective"],
        values={name: [one["value"] for one in r["trials"]] for name, r in reports.items()},
        anchor={name: r["anchor"] for name, r in reports.items()},
        importance=importance(first_report["space"], [r["trials"] for r in reports.values()]),
    )


def importance(
    space: dict[str, Sequence[Any]], searches: Sequence[Sequence[dict[str, Any]]]
) -> dict[str, float]:
    """How much each constant decides whether a trial is among the good ones: shares, largest first.

    PED-ANOVA, Optuna's own, over the trials of all seeds together; empty where the trials are too
    few.
    """
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    trials = [Trial(**one) for trials in searches for one in trials]
    if len(trials) < 2 * FEWEST:
        return {}
    good = max(GOOD, FEWEST / len(trials))
    evaluator = PedAnovaImportanceEvaluator(target_quantile=good)
    bounds = {
        name: (float(low), float(high), bool(log)) for name, (low, high, log) in space.items()
    }
    with warnings.catch_warnings(action="ignore"):
        return dict(get_param_importances(study_of(bounds, trials), evaluator=evaluator))
