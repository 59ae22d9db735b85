"""A frame of results as a sweep would write it, from seeded coin flips."""

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from corruptions.base import PROTOCOL
from mergeshift import rng_of
from results.schema import COLUMNS, check, pack
from results.tables.comparison import Table

TASKS = ("mnist", "optdigits", "animals", "landcover")
MAIN_SHIFTS = (("clean", 0), *((name, level) for level in (1, 2, 3) for name in PROTOCOL))

METHODS = {  # name -> (title, cite, clean accuracy, config, tuned, needs)
    "pretrained": ("Pretrained", "radford2021clip", 0.52, {}, False, "nothing"),
    "average": ("Weight Averaging", "wortsman2022soups", 0.63, {}, False, "nothing"),
    "task_arithmetic": ("Task Arithmetic", "ilharco2023editing", 0.71, {"scale": 0.3}, True,
                        "nothing"),
    "ties": ("TIES-Merging", "yadav2023ties", 0.72, {"keep": 0.2, "merge": "sum", "scale": 0.3},
             True, "nothing"),
    "adamerging": ("AdaMerging", "yang2024adamerging", 0.78, {"lr": 0.001}, False,
                   "unlabelled images"),
    "individual": ("Individual", "radford2021clip", 0.91, {}, False, "nothing"),
}  # fmt: skip


# A name with everything that means something to LaTeX, markdown, CSV or a console.
NASTY = 'A_b%c&d#e$f<g>"h|i~j^k\\l{m}*n[o],p \u00e9 \u4e2d'


def nasty(table: Table) -> Table:
    """The same table with such a name for every method."""
    renamed = tuple(replace(entry, title=NASTY, data_access=NASTY) for entry in table.entries)
    return replace(table, entries=renamed)


def hits_of(method: str, task: str, shift: tuple[str, int], seed: int, n: int) -> np.ndarray:
    """Right or wrong for each image: an image is as hard for every method, so answers pair."""
    hardness = rng_of("hardness", task).random(n)
    noise = rng_of("noise", method, task, *shift, seed).normal(0, 0.08, n)
    ability = METHODS[method][2] - 0.035 * shift[1]
    return hardness + noise < ability


def make_rows(
    methods: Sequence[str] = tuple(METHODS),
    tasks: Sequence[str] = TASKS,
    shifts: Sequence[tuple[str, int]] = MAIN_SHIFTS,
    seeds: Sequence[int] = (0,),
    n: int = 120,
    **overrides: object,
) -> pd.DataFrame:
    """Rows of acc, nll and ece for every cell; checked against the schema."""
    rows = [
        row
        for method in methods
        for seed in seeds
        for shift in shifts
        for task in tasks
        for row in cell_rows(method, task, shift, seed, n)
    ]
    return check(pd.DataFrame([{**row, **overrides} for row in rows], columns=list(COLUMNS)))


def cell_rows(method: str, task: str, shift: tuple[str, int], seed: int, n: int) -> list[dict]:
    title, cite, _, config, tuned, needs = METHODS[method]
    individual = method == "individual"
    hits = hits_of(method, task, shift, seed, n)
    common = {
        "run_id": f"pocket8-{method}-{seed}", "sweep": "main", "world": "pocket",
        "suite": "pocket8", "encoder": "pocket-vit", "method": method, "title": title,
        "cite": cite, "config": json.dumps(config, sort_keys=True), "tuned": tuned,
        "needs": needs, "stores": "one model per task" if individual else "one model",
        "knows_task": individual, "adapt_on": "adapt" if method == "adamerging" else "",
        "seeded": True, "seed": seed, "expert_seed": 0, "limit": 0,
        "precision": "float32", "protocol": "task", "task": task,
        "seen": True, "extra_experts": "",
        "corruption": shift[0], "severity": shift[1], "constants": "cifar10-c",
        "placement": "input", "n": n,
    }  # fmt: skip
    accuracy = float(hits.mean())
    return [
        {**common, "metric": "acc", "value": accuracy, "hits": pack(hits)},
        {**common, "metric": "nll", "value": 2 - accuracy, "hits": b""},
        {**common, "metric": "ece", "value": 0.2 - accuracy / 10, "hits": b""},
    ]
