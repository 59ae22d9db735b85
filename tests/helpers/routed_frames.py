"""Rows of methods that route, beside the plain ones of ``tests.helpers.result_frames``."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mergeshift import rng_of
from results.schema import check, pack
from tests.helpers.result_frames import MAIN_SHIFTS, TASKS, hits_of, make_rows

# name -> (title, plain method whose answers it gives, whose its oracle gives, seeded)
ROUTED = {
    "centroid_router": ("Centroid Router", "task_arithmetic", "individual", False),
    "twin_merging": ("Twin-Merging", "ties", "adamerging", True),
}


def weights_of(
    method: str, task: str, shift: tuple[str, int], seed: int, routes: Sequence[str]
) -> np.ndarray:
    """Mean weight on each route; most of it on the true task, less so under a severe shift."""
    raw = rng_of("weights", method, task, *shift, seed).random(len(routes))
    raw[routes.index(task)] += len(routes) * 2 / (1 + shift[1])
    return raw / raw.sum()


def routed_rows(
    methods: Sequence[str] = tuple(ROUTED),
    tasks: Sequence[str] = TASKS,
    shifts: Sequence[tuple[str, int]] = MAIN_SHIFTS,
    seeds: Sequence[int] = (0,),
    n: int = 120,
    routes: Sequence[str] = (),
    **overrides: object,
) -> pd.DataFrame:
    """Rows of acc, oracle_acc, route_acc, route_entropy, route_max and one per route."""
    routes = list(routes or tasks)
    found = []
    for method in methods:
        title, answers, oracle, seeded = ROUTED[method]
        mine = seeds if seeded else seeds[:1]
        plain = make_rows([answers], tasks, shifts, mine, n)
        plain = plain[plain["metric"] == "acc"].assign(method=method, title=title, seeded=seeded)
        plain["run_id"] = [f"pocket8-{method}-{seed}" for seed in plain["seed"]]
        for row in plain.to_dict("records"):
            shift, seed = (row["corruption"], row["severity"]), row["seed"]
            hits = hits_of(oracle, row["task"], shift, seed, n)
            weights = weights_of(method, row["task"], shift, seed, routes)
            found.append(row)
            found.append(row | {"metric": "oracle_acc", "value": hits.mean(), "hits": pack(hits)})
            numbers = {
                "route_acc": round(n * weights.max()) / n,
                "route_entropy": float(-(weights * np.log(weights)).sum()),
                "route_max": weights.max(),
                **{f"route:{name}": w for name, w in zip(routes, weights, strict=True)},
            }
            found += [row | {"metric": m, "value": v, "hits": b""} for m, v in numbers.items()]
    return check(pd.DataFrame(found).assign(**overrides))
