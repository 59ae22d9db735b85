"""External predictions: methods that ran outside this benchmark, in the tables of a sweep."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.config import HIDDEN, Run, Sweep
from bench.plan import Plan, resolve
from bench.reporting.external_names import check_name, require_free, require_one_set
from bench.reporting.sweep_index import load_sweep, save_sweep
from bench.stages.build import ImportedWeights, bind
from bench.stages.per_image import error_auroc, lines_of
from bench.stages.records import cell_rows, facts_of
from bench.sweeps import with_fields
from corruptions.base import Shift, ShiftName
from mergeshift import UserError, atomic, sha256_of
from results import predictions
from results.predictions import Answers, Truth
from results.store import Store
from tasks import Task
from tasks.images import Pictures
from tasks.sources.readers import Files
from tasks.task import load


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What tables must say of a method that nobody can look into."""

    needs: str = "weights only"  # data that it saw beyond weights, as `list methods` words it
    stores: str = "one model"
    knows_task: bool = False
    adapt_on: str = ""  # adapt | test | shifted; empty if it does not adapt
    cite: str = ""  # BibTeX key


@dataclass(frozen=True)
class Added:
    """What was put into the tables."""

    methods: list[str]
    sweep: str
    num_cells: int
    left_out: list[str]  # shifts that the sweep does not have


def add(
    path: Path, out: Path, sweep: str = "", origin: Origin = Origin(), force: bool = False
) -> Added:
    """Check the predictions in ``path`` and store what they measure beside a sweep's results.

    Args:
        path: a parquet or CSV file; for its columns see :mod:`results.predictions`.
        out: folder of the results.
        sweep: its name; empty for the latest.
        origin: what must be said of the methods.
        force: put them in the place of others of the same name.

    Raises:
        UserError: there is no such sweep, the file cannot be read, its predictions do not fit
            the tasks, images, shifts and seeds of the sweep, or a name is used or misleads.
            Nothing is stored then.
    """
    plan = plan_of(out, sweep)
    frame = predictions.read(path)
    for name in frame["method"].unique():
        check_name(name, f"call the one in {path} something else")
    named = {str(shift): shift for shift in plan.shifts}
    truths = {task.name: Truth(plan.data.labels(task, "test"), task.classes) for task in plan.tasks}
    found, others = predictions.answers(frame, truths, list(named))
    seeds = {method: sorted(seed for one, seed in found if one == method) for method, _ in found}
    for method, mine in seeds.items():
        if len(mine) > 1 and set(mine) != set(plan.sweep.seeds):
            raise UserError(
                f"{method} has seeds {_listed(mine)}, sweep {plan.sweep.name} has "
                f"{_listed(plan.sweep.seeds)}; give the same, or a single one"
            )
    store, content, template = Store(out), sha256_of(path), plan.runs[0]
    runs = {
        (method, seed): replace(
            template, method=method, seed=seed, version=1, weights=content, grid="",
            adapt_on=origin.adapt_on, config=json.dumps({"predictions": content[:16]}),
        )
        for method, seed in found
    }  # fmt: skip
    plan.runs = list(runs.values())
    require_free(plan, out, force)
    for key, run in runs.items():
        facts = _facts(run, origin, seeded=len(seeds[key[0]]) > 1)
        for shift in plan.shifts:
            _write(run, facts, shift, plan, found[key], truths, store)
        told = {"run": asdict(run), "config": run.config, "cost": {}, "elsewhere": path.name}
        told |= bind(run).data_revisions
        store.write_run(run.id, told)
    save_sweep(plan, out, {})
    return Added(list(seeds), plan.sweep.name, len(runs) * len(plan.shifts), others)


def template(out: Path, sweep: str, output: Path) -> int:
    """Write a parquet file with a row for every prediction that a sweep asks for; count them.

    ``prediction`` is -1 everywhere: that is to be filled in.

    Raises:
        UserError: the file is not called .parquet, or is there already: it may be filled in.
    """
    if output.exists():
        raise UserError(f"{output} is there already; move it away, or write another one")
    if output.suffix != ".parquet":
        raise UserError(f"the template is written as parquet; got {output.name!r}")
    plan, parts = plan_of(out, sweep), []
    named = any(files_of(plan, task) for task in plan.tasks)
    for task in plan.tasks:
        images = np.arange(len(plan.data.labels(task, "test")))
        for shift in plan.shifts:
            cell = {"method": "mine", "task": task.name, "shift": str(shift), "image": images}
            cell |= {"file": files_of(plan, task)} if named else {}
            parts.append(pd.DataFrame(cell | {"prediction": np.int64(-1)}))
    frame = pd.concat(parts, ignore_index=True)
    with atomic(output) as temporary:
        frame.to_parquet(temporary, index=False)
    return len(frame)


def files_of(plan: Plan, task: Task) -> list[str] | str:
    """The file of each test image, from the folder of its task; empty where they lie in none."""
    images = load(task, "test").first(plan.sweep.limit).images
    if not isinstance(images, Pictures) or not isinstance(images.reader, Files):
        return ""
    paths = [Path(images.reader.paths[int(row)]) for row in images.rows]
    root = Path(getattr(task.source, "path", ""))
    return [(p.relative_to(root) if p.is_relative_to(root) else p).as_posix() for p in paths]


def plan_of(out: Path, name: str = "") -> Plan:
    """The cells of a recorded sweep, with one run to be put in its place.

    Raises:
        UserError: no such sweep, or its data are no longer those of this version.
    """
    found = load_sweep(out, name)
    known = {field.name for field in fields(Sweep)} | {"expert_seed"}
    values = {key: value for key, value in found["sweep"].items() if key in known}
    sweep = with_fields(Sweep(), values)
    require_one_set(sweep)
    if others := [key for key in found["shifts"] if ShiftName.of_key(key).shows_others]:
        raise UserError(
            f"sweep {sweep.name} has the shift {others[0]}, which shows other images than the test "
            "set; add predictions to a sweep of clean and corrupted images"
        )
    if sweep.protocol == HIDDEN:
        raise UserError(
            f"sweep {sweep.name} hides the task, and predictions are classes of a task that is "
            "known; add them to a sweep of another --protocol"
        )
    plan = resolve(
        replace(sweep, methods=("pretrained",), seeds=sweep.seeds[:1], settings=(), tune=False)
    )
    if [shift.key for shift in plan.shifts] != found["shifts"]:
        raise UserError(f"sweep {sweep.name} was run with other shifts; run it again first")
    plan.sweep = replace(plan.sweep, seeds=sweep.seeds)
    return plan


def _facts(run: Run, origin: Origin, seeded: bool) -> dict[str, Any]:
    """What the rows say about the method."""
    unknown = ImportedWeights(ImportedWeights.Config())
    told = {"needs": origin.needs, "stores": origin.stores, "cite": origin.cite}
    return facts_of(run, run.config, unknown) | told | {
        "knows_task": origin.knows_task,
        "seeded": seeded,
    }  # fmt: skip


def _write(
    run: Run,
    facts: Mapping[str, Any],
    shift: Shift,
    plan: Plan,
    found: Mapping[tuple[str, str], Answers],
    truths: Mapping[str, Truth],
    store: Store,
) -> None:
    """Store all tasks of one shift; what is known of single images, where the sweep keeps that."""
    rows, images = [], []
    for task in plan.tasks:
        given = found[task.name, str(shift)]
        measured, right = predictions.measure(given, truths[task.name].labels)
        if plan.sweep.uncertainty and (scores := predictions.uncertainty_scores(given)):
            images.append(lines_of(run.id, task.name, shift, right, scores))
            measured |= error_auroc(images[-1])
        seen = task.name not in run.unseen
        rows += cell_rows(facts, task, seen, shift, plan.sweep.name, {"acc": right}, measured)
    store.write(run.id, shift.key, pd.DataFrame(rows))
    if len(images) == len(plan.tasks):
        store.write_images(run.id, shift.key, pd.concat(images))


def _listed(values: Any) -> str:
    return " ".join(map(str, values))
