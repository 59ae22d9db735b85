"""A small search for tests."""

import numpy as np

from methods.common.study import search

SPACE = {"alpha": (1e-4, 1e6, True), "scale": (0.3, 2.0, False)}
STARTS = ({"alpha": 1e6, "scale": 1.0}, {"alpha": 1e-2, "scale": 1.0})


def bowl(params):
    """Highest, 0, at alpha 10 and scale 1.5."""
    return -((np.log10(params["alpha"]) - 1) ** 2) / 9 - (params["scale"] - 1.5) ** 2


def find(score=bowl, trials=12, sampler="tpe", seed=0, journal=None, startup=5, starts=STARTS):
    return search(
        SPACE, score, starts=starts, trials=trials, startup=startup, sampler=sampler, seed=seed,
        journal=journal,
    )  # fmt: skip


def points(trials):
    return [(trial.params, trial.value) for trial in trials]
