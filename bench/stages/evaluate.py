"""Units of work: measure built methods on the cells of a suite."""

from collections.abc import Sequence

import pandas as pd

from bench.config import Run
from bench.stages.adapt import learn_to_tune
from bench.stages.build import bind
from bench.stages.calibrate import temperature_of
from bench.stages.per_image import error_auroc, images_of
from bench.stages.records import cell_rows, facts_of, write_run_facts
from bench.stages.scoring import score
from corruptions.base import CLEAN, Shift
from methods.routing.method import RoutedMethod
from results.store import Store
from tasks.backdoor import TARGET, TRIGGER


def validate_run(run: Run, config: str) -> dict[str, float]:
    """Accuracy on the val split of every seen task: one validation pass (a unit of work)."""
    bound = bind(run)
    method = learn_to_tune(run, config) if bound.learns else bound.build(config)[0]
    data = bound.validation_data()
    _, scorer = score(
        {run.id: method}, data, "val",
        normalise=bound.encoder.normalise, precision=run.precision,
    )  # fmt: skip
    return {task.name: scorer.measure((run.id, task.name, CLEAN.key))["acc"] for task in data.tasks}


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
    ready = {run.id: bind(run).method(config, shift, store) for run, config in runs}
    first = runs[0][0]  # all see the same tasks
    bound = bind(first)
    data, models = bound.data([shift]), {key: method for key, (method, _) in ready.items()}
    panel, scorer = score(
        models, data, "test", first.unseen, bound.floor, unsure,
        normalise=bound.encoder.normalise, precision=first.precision, space=bound.space,
    )  # fmt: skip
    for run, config in runs:
        method, cost = ready[run.id]
        facts, rows, images = facts_of(run, config, method), [], []
        temperature = temperature_of(run, shift, store)
        for task in data.shown(shift):
            cell = (run.id, task.name, shift.key)
            measured = scorer.measure(cell, temperature) | {"eval_s": panel.seconds[cell]}
            if isinstance(method, RoutedMethod):
                measured |= scorer.routing(cell, method.routes)
            hits = {name: right.numpy() for name, right in scorer.hits(cell).items()}
            if shift.corruption == TRIGGER.corruption:
                taken = scorer.taken_in(cell, TARGET).numpy()
                hits["attack_rate"], measured["attack_rate"] = taken, float(taken.mean())
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
