"""Settings with invented numbers."""

import numpy as np

from results.diagnosis import Diagnosis, ExpertSet, MergedLine

METHODS = {"average": 0.2, "task_arithmetic": 0.3, "ties": 0.25, "tsv": 0.6}


def invented(count: int = 3, seeds: int = 1, spread: float = 0.1, **facts) -> Diagnosis:
    """A setting of ``count`` tasks: zero-shot .5, experts .9, methods in between.

    Args:
        count: tasks.
        seeds: sets of experts.
        spread: how far accuracies may be from these, task by task.
        facts: fields of :class:`results.diagnosis.Diagnosis`.
    """
    rng, tasks = np.random.default_rng(0), [f"task{i}" for i in range(count)]

    def around(centre: float) -> dict[str, float]:
        return {task: centre + spread * rng.uniform(-1, 1) for task in tasks}

    def experts() -> ExpertSet:
        own = around(0.9)
        return ExpertSet(
            cross={a: around(0.4) | {a: own[a]} for a in tasks},
            norm=around(0.07),
            cosine={a: around(0.2) | {a: 1.0} for a in tasks},
            own_line={"0.125": around(0.55), "0.5": around(0.8)},
            kept={"0.05": around(0.7)},
            lines={
                name: MergedLine(
                    title=name.title(), accuracy=around(0.5 + 0.4 * share),
                    config={"scale": 0.3}, trials=[({"scale": 0.3}, 0.5), ({"scale": 0.4}, 0.4)],
                )
                for name, share in METHODS.items()
            },
        )  # fmt: skip

    known = {"label": "ours", "world": "toy", "suite": "toy", "encoder": "toy-vit"}
    return Diagnosis(
        **known | facts, zero_shot=around(0.5), probe=around(0.7),
        images=dict.fromkeys(tasks, 100), sets={str(seed): experts() for seed in range(seeds)},
    )  # fmt: skip
