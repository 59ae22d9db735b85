"""Units of work: measure built methods on the cells of a suite."""

from collections.abc import Sequence

import pandas as pd

from bench.config import Run
from bench.stages import artifacts
from bench.stages.adapt import learn_to_tune
from bench.stages.build import Cost, build, built, floor_of, learns, restored, seen_of
from bench.stages.per_image import error_auroc, images_of
from bench.stages.records import cell_rows, facts_of, write_run_facts
from bench.stages.scoring import score
from bench.zoo.encoders import ENCODERS
from corruptions.base import CLEAN, Shift
from methods import MergingMethod
from methods.routing.method import RoutedMethod
from results.store import Store
from tasks import SUITES
from tasks.datamodule import SuiteDataModule


def data_of(run: Run, shifts: Sequence[Shift]) -> SuiteDataModule:
    """The cells of a run."""
    return SUITES[run.suite].datamodule(shifts, limit=run.limit, data_seed=run.data_seed)


def validate_run(run: Run, config: str) -> dict[str, float]:
    """Accuracy on the val split of every seen task: one validation pass (a unit of work)."""
    method = learn_to_tune(run, config) if learns(run) else build(run, config)[0]
    names = [task.name for task in seen_of(run)]
    data = SUITES[run.suite].datamodule([], tasks=names, limit=run.limit, data_seed=run.data_seed)
    normalise = ENCODERS[run.encoder].normalise
    _, scorer = score({run.id: method}, data, "val", normalise=normalise, precision=run.precision)
    return {task.name: scorer.measure((run.id, task.name, CLEAN.key))["acc"] for task in data.tasks}


def method_for(run: Run, config: str, shift: Shift, store: Store) -> tuple[MergingMethod, Cost]:
    """The method of ``run``, ready for ``shift``; what it has to learn was learned before."""
    if not learns(run):
        return built(run, config)
    if run.adapt_on == "shifted":  # for this shift alone: not worth keeping
        return build(run, config, artifacts.path(store, run.id, shift))
    artifact = artifacts.path(store, run.id)
    changed = artifact.stat().st_mtime_ns if artifact.exists() else 0
    return restored(run, config, artifact, changed)


def evaluate_runs(
    runs: Sequence[tuple[Run, str]], shift: Shift, sweep: str, store: Store, unsure: bool = False
) -> None:
    """Measure several runs under one shift and store each as one file (a unit of work).

    Args:
        runs: each with its chosen config, canonical JSON.
        shift: the shift.
        sweep: name printed in the rows.
        store: where the files go, and where that lies which methods learned; each file is whole
            or absent.
        unsure: whether to keep how sure the methods were of every image.
    """
    ready = {run.id: method_for(run, config, shift, store) for run, config in runs}
    first = runs[0][0]  # all see the same tasks
    data, floor = data_of(first, [shift]), floor_of(first) if first.unseen else None
    members = {key: method for key, (method, _) in ready.items()}
    panel, scorer = score(
        members, data, "test", first.unseen, floor, unsure,
        normalise=ENCODERS[first.encoder].normalise, precision=first.precision,
    )  # fmt: skip
    for run, config in runs:
        method, cost = ready[run.id]
        facts, rows, images = facts_of(run, config, method), [], []
        for task in data.tasks:
            cell = (run.id, task.name, shift.key)
            measured = scorer.measure(cell) | {"eval_s": panel.seconds[cell]}
            if isinstance(method, RoutedMethod):
                measured |= scorer.routing(cell, method.routes)
            hits = {name: right.numpy() for name, right in scorer.hits(cell).items()}
            if unsure:
                images.append(images_of(scorer, cell, shift))
                measured |= error_auroc(images[-1])
            seen = task.name not in run.unseen
            rows += cell_rows(facts, task, seen, shift, sweep, hits, measured)
        write_run_facts(run, config, cost, store)
        store.images_path(run.id, shift.key).unlink(missing_ok=True)  # of other rows than these
        store.write(run.id, shift.key, pd.DataFrame(rows))
        if unsure:
            store.write_images(run.id, shift.key, pd.concat(images))
