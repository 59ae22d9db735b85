"""What tuning found out on val about the scale of methods."""

import json
from typing import Any

import pandas as pd

from results.scale_plot import FIELD, Trials
from results.store import Store
from tasks import TASKS


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
    counts = {task: TASKS[task].sizes[2] for task in tasks}
    rest = {name: value for name, value in chosen.items() if name != FIELD}
    return Trials(method, rest, alike, counts, chosen[FIELD])
