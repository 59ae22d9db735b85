"""The main job: plan, make what is missing, measure, show."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from shutil import rmtree

from rich.console import Console

from bench.config import HEADS, Sweep
from bench.plan import Plan, all_experts, chosen, count_images, inspect, requests, resolve
from bench.plan_summary import show, trainings
from bench.reporting.external_names import check_name, require_free, require_one_set
from bench.reporting.sweep_index import save_sweep
from bench.runtime import devices
from bench.runtime.progress import Advance, Stages
from bench.runtime.workers import Executor, executor
from bench.stages import artifacts
from bench.stages.adapt import adapt_run, adopt_learning
from bench.stages.build import ImportedWeights, bind
from bench.stages.calibrate import calibrate_run, keep_temperature
from bench.stages.evaluate import evaluate_runs
from bench.stages.pictures import check_pictures, say_notes
from bench.stages.provenance import changed_code, require_same, seen_before, told_of
from bench.stages.source import SOURCE, source_of
from bench.stages.tune import tune_runs
from bench.zoo.encoders import Encoder, planning
from bench.zoo.experts import damaged as damaged_experts
from bench.zoo.experts import make_experts
from bench.zoo.heads import PROTOTYPES
from bench.zoo.import_export import tower
from corruptions.cache import path_of, precompute, prune
from mergeshift import DamagedFileError, UserError
from results.store import Store
from tasks import TASKS, Task
from tasks.datamodule import image_cache
from tasks.settings import image_budget


def run_sweep(
    sweep: Sweep, out: Path, *, jobs: int, force: bool, dry_run: bool, console: Console
) -> tuple[Plan, Stages]:
    """Bring the results of ``sweep`` in ``out`` up to date.

    What is finished is not run again, unless ``force``. Returns the plan and the time each stage
    took.

    Raises:
        DamagedFileError: a result file is damaged and ``force`` is not given.
        UserError: see :func:`bench.plan.resolve`.
    """
    if not dry_run:
        return execute(resolve(sweep), out, jobs, force, dry_run, console)
    with planning():
        return execute(resolve(sweep), out, jobs, force, dry_run, console)


def run_weights(
    sweep: Sweep,
    weights: Path,
    title: str,
    out: Path,
    *,
    jobs: int,
    force: bool,
    console: Console,
    wanted: str = "",
) -> tuple[Plan, Stages]:
    """Measure weights that were merged elsewhere on the cells of ``sweep``.

    ``wanted`` stands in front of the names of the tower to take, where a file holds several.

    Raises:
        UserError: the file cannot be read, does not fit the encoder, or holds NaN; or ``title`` is
            that of a method, or of other weights.
    """
    check_name(title, "give these weights another --name")
    require_one_set(sweep)
    plan = resolve(sweep)
    tensors, files = tower(weights, plan.encoder, wanted)
    (run,) = plan.runs
    kept = ImportedWeights.keep(files[0], tensors if wanted or len(files) > 1 else None)
    config, content = json.dumps({"file": kept.name}), kept.stem
    plan.runs = [replace(run, method=title, config=config, weights=content, seed=0, version=1)]
    require_free(plan, out, force)
    return execute(plan, out, jobs, force, dry_run=False, console=console)


def execute(
    plan: Plan, out: Path, jobs: int, force: bool, dry_run: bool, console: Console
) -> tuple[Plan, Stages]:
    """Do what a resolved plan lacks."""
    store = Store(out)
    clear_damaged(plan, store, force, dry_run)
    before = {} if dry_run else seen_before(plan.runs, store)
    if not (force or dry_run):
        adopt_learning(plan.runs, store)
    changed = changed_code(plan.runs, store)
    if force and not dry_run:
        delete_results(plan, store, changed)
    inspect(plan, store, force)
    show(plan, jobs, console)
    require_same_code(plan, changed, force, console)
    stages = Stages(console)
    if dry_run:
        say_notes(plan.tasks, console)
        return plan, stages
    save_sweep(plan, out, {})
    if plan.num_todo:
        with executor(jobs) as workers:
            makes_experts = bool(plan.experts) and plan.encoder.experts == "finetuned"
            every = [*plan.tasks, *plan.extra]
            train = makes_experts or of_pictures(plan.encoder, every)
            build_data(every, workers, stages, train=train)
            build_domains(plan.domains, workers, stages)
            require_same(plan.runs, before, store, force)
            prepare_experts_and_images(plan, workers, stages)
            configs = tune(plan, store, workers, stages)
            adapt(plan, configs, store, workers, stages)
            calibrate(plan, configs, store, workers, stages)
            evaluate(plan, configs, store, workers, stages)
        save_sweep(plan, out, stages.seconds)
    return plan, stages


def clear_damaged(plan: Plan, store: Store, force: bool, dry_run: bool) -> None:
    """Refuse damaged results and experts of this sweep, or delete them (not in a dry run).

    Raises:
        DamagedFileError: there are some, and ``force`` is not given.
    """
    folders = {run.id for run in plan.runs}
    damaged = [path for path in store.damaged() if path.parent.name in folders]
    damaged += artifacts.damaged(store, sorted(folders))
    damaged += store.damaged_images(sorted(folders)) if plan.sweep.uncertainty else []
    damaged += damaged_experts(all_experts(plan))
    if damaged and not force:
        raise DamagedFileError(
            f"{damaged[0]} is damaged, {len(damaged)} such files in all; "
            "run again with --force to make them anew"
        )
    for path in damaged if not dry_run else ():
        path.unlink()


def require_same_code(
    plan: Plan, changed: Mapping[str, list[str]], force: bool, console: Console
) -> None:
    """Say which finished results are of other code; refuse to put new ones beside them.

    Args:
        plan: what is missing is known.
        changed: see :func:`bench.stages.provenance.changed_code`.
        force: all of it is measured anew.
        console: where it is said.

    Raises:
        UserError: a run whose code changed lacks some results.
    """
    if not changed or force:
        return
    mixed = {run.id for runs in plan.todo.values() for run in runs} & changed.keys()
    if mixed:
        raise UserError(told_of({run: changed[run] for run in sorted(mixed)}))
    console.print(told_of(changed), highlight=False, markup=False, soft_wrap=True)


def delete_results(plan: Plan, store: Store, changed: Collection[str] = ()) -> None:
    """Delete what is to be measured again, so that a forced sweep that is killed goes on right.

    Args:
        plan: the sweep.
        store: the results so far.
        changed: runs whose code changed, which lose all that was measured, under any shift.
    """
    for run in plan.runs:
        if run.id in changed:
            rmtree(store.folder / "cells" / run.id)
        for shift in plan.shifts:
            store.path(run.id, shift.key).unlink(missing_ok=True)
            artifacts.path(store, run.id, shift).unlink(missing_ok=True)
        artifacts.path(store, run.id).unlink(missing_ok=True)
        for journal in (store.folder / "cells" / run.id).glob("study-*.journal"):
            journal.unlink()
        store.path(run.id, "run").with_suffix(".json").unlink(missing_ok=True)


def prepare_experts_and_images(plan: Plan, workers: Executor, stages: Stages) -> None:
    """Experts and images: make what the missing cells need of them."""
    make_heads(plan.encoder, [*plan.tasks, *plan.extra], stages)
    if plan.experts:
        total = len(plan.experts) * plan.encoder.expert_steps
        what = f"{len(plan.experts)} {plan.encoder.doing}"
        with stages.stage("experts", what, total) as advance:
            make_experts(plan.experts, workers, advance)
    if count_images(plan):
        with stages.stage("images", f"{plan.images:,} to corrupt", plan.images) as advance:
            corrupt(plan, devices.cores(workers.jobs), advance)


def of_pictures(encoder: Encoder, tasks: Sequence[Task]) -> bool:
    """Whether heads have to be made of train pictures."""
    return encoder.head == PROTOTYPES and bool(encoder.without_head(tasks))


def make_heads(encoder: Encoder, tasks: Sequence[Task], stages: Stages) -> None:
    """Put the heads of tasks into the cache; what is made of pictures takes a stage of its own."""
    if not of_pictures(encoder, tasks):
        encoder.heads(tasks)
        return
    missing = encoder.without_head(tasks)
    what = f"{len(missing)} of {HEADS[PROTOTYPES]}"
    with stages.stage("heads", what, len(missing)) as advance:
        for count, task in enumerate(missing, 1):
            encoder.heads([task])
            advance(count)


def build_data(
    tasks: Sequence[Task], workers: Executor, stages: Stages, train: bool = True
) -> None:
    """Build or download the tasks that are missing, side by side; check pictures of the user.

    Args:
        tasks: of a suite.
        workers: that build.
        stages: where progress is shown.
        train: whether the train split is needed, too.

    Raises:
        UserError: a task cannot be had, or a picture cannot be read.
    """
    check_pictures(tasks, stages, train)
    say_notes(tasks, stages.console)
    missing = [(task.name,) for task in tasks if not task.source.is_ready(task)]
    if missing:
        with stages.stage("data", f"{len(missing)} tasks to make", len(missing)) as advance:
            for count, _ in enumerate(workers.run(build_task, missing), 1):
                advance(count)


def build_domains(entries: Sequence[Task], workers: Executor, stages: Stages) -> None:
    """Build or download other images of the classes of tasks, as far as shifts ask for them.

    Raises:
        UserError: they cannot be had.
    """
    missing = [(entry,) for entry in entries if not entry.source.is_ready(entry)]
    if missing:
        with stages.stage("data", f"{len(missing)} domains to make", len(missing)) as advance:
            for count, _ in enumerate(workers.run(prepare, missing), 1):
                advance(count)


def prepare(entry: Task) -> None:
    """Build or download what an entry stands for (a unit of work)."""
    entry.source.prepare(entry)


def build_task(name: str) -> None:
    """Build or download one task (a unit of work)."""
    TASKS[name].source.prepare(TASKS[name])


def corrupt(plan: Plan, jobs: int, advance: Advance) -> None:
    """Fill the cache of corrupted images and keep it within its budget."""
    done, asked, seed = 0, requests(plan), plan.sweep.data_seed

    def add(count: int) -> None:
        nonlocal done
        done += count
        advance(done)

    precompute(asked, data_seed=seed, folder=image_cache(), jobs=jobs, progress=add)
    used = [
        path_of(images, shift, data_seed=seed, task=name, folder=image_cache())
        for images, shift, name in asked
    ]
    prune(image_cache(), int(image_budget()), keep=used)


def tune(plan: Plan, store: Store, workers: Executor, stages: Stages) -> dict[str, str]:
    """The config of every run: chosen on val, once, or as declared."""
    if plan.to_tune:
        passes = sum(len(bind(run).candidates) for run in plan.to_tune)
        what = f"{len(plan.to_tune)} methods, {passes} validation passes"
        with stages.stage("tune", what, plan.validated) as advance:
            for run_id, outcome in tune_runs(plan.to_tune, workers, advance).items():
                run = next(run for run in plan.runs if run.id == run_id)
                facts = {"run": asdict(run), "config": outcome["config"], "tuning": outcome}
                facts[SOURCE] = source_of(run.method)
                store.write_run(run_id, facts | bind(run).data_revisions)
    return {run.id: chosen(run, store) if run.tuned else run.config for run in plan.runs}


def adapt(
    plan: Plan, configs: dict[str, str], store: Store, workers: Executor, stages: Stages
) -> None:
    """Let methods learn what the missing cells need; what was learned is kept and never redone."""
    if plan.to_learn:
        units = [(run, configs[run.id], shift, store) for run, shift in plan.to_learn]
        with stages.stage("adapt", trainings(plan), plan.steps) as advance:
            for _ in workers.run(adapt_run, units, advance):
                pass


def calibrate(
    plan: Plan, configs: dict[str, str], store: Store, workers: Executor, stages: Stages
) -> None:
    """Fit a temperature to every model that lacks one, on clean val; it is kept with the run."""
    if plan.to_calibrate:
        units = [(run, configs[run.id], shift, store) for run, shift in plan.to_calibrate]
        what = f"{len(units)} temperatures, on val"
        total = len(units) * sum(task.sizes[2] for task in plan.seen)
        with stages.stage("calibrate", what, total) as advance:
            for (run, config, shift, _), found in workers.run(calibrate_run, units, advance):
                keep_temperature(run, config, shift, found, store)


def evaluate(
    plan: Plan, configs: dict[str, str], store: Store, workers: Executor, stages: Stages
) -> None:
    """Fill the missing cells; one unit is one shift, shown to all methods that lack it.

    Set of experts by set: what was built for one set is not kept while another is measured.
    """
    sweep = plan.sweep
    units = [
        ([(run, configs[run.id]) for run in runs], shift, sweep.name, store, sweep.uncertainty)
        for expert_seed in sweep.expert_seeds
        for shift, lacking in plan.todo.items()
        if (runs := [run for run in lacking if run.expert_seed == expert_seed])
    ]
    data = plan.data
    tested = sum(
        len(runs) * data.count(task, "test", shift)
        for shift, runs in plan.todo.items() if runs
        for task in data.shown(shift)
    )  # fmt: skip
    with stages.stage(
        "evaluate", f"{plan.num_todo} cells, {tested:,} predictions", tested
    ) as advance:
        for _ in workers.run(evaluate_runs, units, advance):
            pass
