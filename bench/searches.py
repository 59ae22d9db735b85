"""The searches that methods made on val: their history, and which constants mattered."""

import warnings
from collections.abc import Mapping, Sequence
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
    return History(
        title=titles[line],
        objective=next(iter(reports.values()))["objective"],
        values={name: [one["value"] for one in r["trials"]] for name, r in reports.items()},
        anchor={name: r["anchor"] for name, r in reports.items()},
        importance=importance(list(reports.values())),
    )


def importance(reports: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """How much each constant decides whether a trial is among the good ones: shares, largest first.

    PED-ANOVA, Optuna's own (Watanabe, Bansal and Hutter 2023, arXiv 2304.10255). What is pooled
    over seeds are gains, each trial's value less that of its own search's anchor: a seed whose
    search began higher is not the better one for it. Good are the best ``GOOD`` of all gains
    together, at least ``FEWEST``, and all that equal the last of these. A constant's importance is
    how far its values among the good trials differ from those among all that were tried, not from
    the whole range: where a sampler has narrowed a constant down, less is left to tell.

    Args:
        reports: one for each search, all of one space (see :func:`methods.bmm_search.choose`).

    Returns:
        Constant -> share; empty where the trials are too few.
    """
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    trials = [
        Trial(one["params"], one["value"] - report["anchor"], one["seconds"])
        for report in reports
        for one in report["trials"]
    ]
    if len(trials) < 2 * FEWEST:
        return {}
    space = {
        name: (float(low), float(high), bool(log))
        for name, (low, high, log) in reports[0]["space"].items()
    }
    evaluator = PedAnovaImportanceEvaluator(target_quantile=max(GOOD, FEWEST / len(trials)))
    with warnings.catch_warnings(action="ignore"):
        shares = get_param_importances(study_of(space, trials), evaluator=evaluator)
    return {name: shares[name] for name in sorted(space, key=lambda name: -shares[name])}
