"""What was chosen on the val split, by the harness or by methods themselves, and how it was found.

The choice of every run; the searches that methods made, with which constants mattered; and what
tuning found out about the scale of methods.
"""

import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from bench.stages import artifacts
from bench.variants import display_name
from mergeshift import UserError
from results.plots.learned import only
from results.plots.scale import FIELD, Trials
from results.plots.search import History
from results.schema import world_name
from results.store import Store
from results.tables.tuning import Choice
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
    limit = facts.get("run", {}).get("val_limit")
    counts = {task: len(range(TASKS[task].sizes[2])[:limit][:most]) for task in val}
    return Choice(constants=constants, budget=budget, val=val, counts=counts)


def report_of(store: Store, run: str) -> dict[str, Any]:
    """What a method tells of its learning for all shifts, or for clean images; empty if nothing."""
    for facts in artifacts.adaptation_records(store, run):
        if facts["shift"].partition("-")[0] in ("", "clean"):  # a key begins with the shift
            return dict(facts.get("report", {}))
    return {}


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
            line, first = display_name(str(method), str(variant)), part.iloc[0]
            world = world_name(first["world"])
            titles[line] = f"{display_name(first['title'], first['variant'])} on {first['suite']}"
            titles[line] += f" with {first['encoder']}; setting: {world}"
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
        reports: one for each search, all of one space; see
            :func:`methods.bmm.outer.search_hyperparameters`.

    Returns:
        Constant -> share; empty where the trials are too few.
    """
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    from methods.common.study import Trial, study_of

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


def trials_of(rows: pd.DataFrame, store: Store) -> list[Trials]:
    """For each method that was tuned over its scale: val accuracy, other constants as chosen.

    Of several sets of experts, the first.
    """
    found: dict[str, Trials] = {}
    for (method, run), _ in rows.groupby(["method", "run_id"], sort=False):
        tuning = store.run(str(run)).get("tuning")
        if tuning and FIELD in json.loads(tuning["grid"]):
            found.setdefault(str(method), _trials(str(method), tuning))
    return list(found.values())


def _trials(method: str, tuning: dict[str, Any]) -> Trials:
    chosen = json.loads(tuning["config"])
    configs = [(json.loads(trial["config"]), trial["accuracy"]) for trial in tuning["trials"]]
    alike = {
        config[FIELD]: accuracy
        for config, accuracy in configs
        if {**config, FIELD: chosen[FIELD]} == chosen
    }
    tasks = next(iter(alike.values()))
    counts = tuning.get("images") or {task: TASKS[task].sizes[2] for task in tasks}
    rest = {name: value for name, value in chosen.items() if name != FIELD}
    return Trials(method, rest, alike, counts, chosen[FIELD])
