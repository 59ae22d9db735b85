"""The search for matched levels: what each corruption and severity costs on val."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from rich.console import Console

from bench.config import Run, Sweep
from bench.diagnosis import Case, prepare
from bench.plan import resolve
from bench.runtime.progress import Stages
from bench.runtime.workers import Executor, executor
from bench.stages.build import bind
from bench.stages.scoring import score
from bench.stages.tune import tune_runs
from bench.zoo.encoders import Encoder
from corruptions.base import CLEAN, PROTOCOL, SEVERITIES, Shift
from corruptions.matched import Entry, search

METHOD = "task_arithmetic"  # whose loss the paper's levels are known by


def accuracy_under(run: Run, config: str, shift: Shift) -> float:
    """Mean accuracy over tasks on val under a shift (a unit of work)."""
    bound = bind(run)
    data = bound.suite.datamodule([], data_seed=run.data_seed, val_shifts=(shift,))
    method, _ = bound.build(config)
    _, scorer = score({run.id: method}, data, "val", normalise=bound.encoder.normalise)
    cells = [(run.id, task.name, shift.key) for task in data.tasks]
    return float(np.mean([scorer.measure(cell)["acc"] for cell in cells]))


def match(
    suite: str, encoder: Encoder, expert_seeds: Sequence[int], *, jobs: int, console: Console
) -> Entry:
    """Search for the levels of a suite: experts that are missing are made.

    Args:
        suite: its name.
        encoder: whose base the levels belong to.
        expert_seeds: sets of experts; losses are means over them.
        jobs: worker processes.
        console: where progress is shown.

    Raises:
        UserError: an expert is missing and cannot be made.
    """
    case = Case(suite=suite, encoder=encoder, expert_seeds=tuple(expert_seeds), only=(METHOD,))
    plan = resolve(Sweep(name="matched", suite=suite, encoder=encoder.name, methods=(METHOD,),
                         shifts=("clean",), expert_seeds=tuple(expert_seeds)))  # fmt: skip
    small = encoder.vit.image_size <= 32
    like = Shift(PROTOCOL[0], 1, "cifar10-c" if small else "imagenet-c")
    shifts = [CLEAN, *(replace(like, corruption=name, severity=severity)
                       for name in PROTOCOL for severity in SEVERITIES)]  # fmt: skip
    stages = Stages(console)
    with executor(jobs) as workers:
        prepare(case, workers, stages)
        measured = _measured(plan.runs, shifts, workers, stages)
    loss = {
        name: {severity: 1 - measured[replace(like, corruption=name, severity=severity)]
               / measured[CLEAN] for severity in SEVERITIES}
        for name in PROTOCOL
    }  # fmt: skip
    levels = search(loss)
    means = {level: float(np.mean([loss[name][of[name]] for name in PROTOCOL]))
             for level, of in levels.items()}  # fmt: skip
    return Entry(plan.sweep.suite, encoder.name, encoder.base_hash, like.constants,
                 like.placement, levels, means)  # fmt: skip


def _measured(
    runs: Sequence[Run], shifts: Sequence[Shift], workers: Executor, stages: Stages
) -> dict[Shift, float]:
    """Mean accuracy over sets of experts under each shift."""
    with stages.stage("tune", f"{len(runs)} sets of experts", 1):
        configs = {key: one["config"] for key, one in tune_runs(runs, workers).items()}
    units = [(run, configs[run.id], shift) for run in runs for shift in shifts]
    found: dict[Shift, list[float]] = {shift: [] for shift in shifts}
    with stages.stage("val", f"{len(units)} cells", len(units)) as advance:
        for count, (unit, value) in enumerate(workers.run(accuracy_under, units), 1):
            found[unit[2]].append(value)
            advance(count)
    return {shift: float(np.mean(values)) for shift, values in found.items()}
