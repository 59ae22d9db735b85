"""The main job: plan, make what is missing, measure, show."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from bench.config import Run, Sweep, digest
from bench.engines import Engine, engine
from bench.errors import DamagedFileError
from bench.evaluate import evaluate
from bench.files import write_json
from bench.plan import Plan, candidates, chosen, count_images, inspect, requests, resolve
from bench.progress import Stages
from bench.tune import tune
from bench.zoo.experts import build as build_experts
from bench.zoo.experts import make
from corruptions.base import Shift
from corruptions.cache import path_of, precompute, prune
from results.store import Store
from tasks import Task, load
from tasks.build import folder as task_folder
from tasks.datamodule import image_cache

IMAGE_BUDGET = 20e9  # bytes of corrupted images kept between sweeps


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
    store, plan = Store(out), resolve(sweep)
    clear_damaged(plan.runs, store, force)
    inspect(plan, store, force)
    show(plan, jobs, console)
    stages = Stages(console)
    if dry_run or not plan.num_todo:
        return plan, stages
    with engine(min(jobs, 64)) as workers:
        prepare(plan, workers, stages)
        configs = choose(plan, store, workers, stages)
        measure(plan, configs, store, workers, stages)
    record(plan, stages, out)
    return plan, stages


def clear_damaged(runs: Sequence[Run], store: Store, force: bool) -> None:
    """Refuse damaged result files of this sweep, or delete them."""
    folders = {run.id for run in runs}
    damaged = [path for path in store.damaged() if path.parent.name in folders]
    if damaged and not force:
        raise DamagedFileError(
            f"{len(damaged)} result files are damaged, e.g. {damaged[0]}; "
            "run again with --force to measure them again"
        )
    for path in damaged:
        path.unlink()


def show(plan: Plan, jobs: int, console: Console) -> None:
    """Print the plan."""
    sweep = plan.sweep
    images = "all test images" if sweep.limit is None else f"up to {sweep.limit} test images a task"
    console.print(
        f"[bold]sweep {sweep.name}[/]: {len(plan.tasks)} tasks of {sweep.suite}, "
        f"{plan.encoder.title}, {images}",
        highlight=False,
    )
    console.print(f"  methods  {', '.join(dict.fromkeys(run.method for run in plan.runs))}")
    console.print(f"  shifts   {len(plan.shifts)}: {' '.join(sweep.shifts)}", highlight=False)
    console.print(
        f"  plan     {len(plan.runs)} runs x {len(plan.shifts)} shifts = {plan.num_cells} cells: "
        f"{plan.num_cells - plan.num_todo} done, {plan.num_todo} to do; "
        f"{len(plan.experts)} experts to fine-tune, {len(plan.to_tune)} methods to tune; "
        f"about {plan.minutes(jobs):.1f} min with {jobs} jobs",
        highlight=False,
    )
    console.print("  data     " + licences(plan.tasks), highlight=False, style="dim")


def licences(tasks: Sequence[Task]) -> str:
    """What the pictures of a sweep may be used for."""
    restricted = [task.name for task in tasks if task.non_commercial]
    named = "; ".join(dict.fromkeys(part for t in tasks for part in t.licence.split("; ")))
    warning = f" | NON-COMMERCIAL: {', '.join(restricted)}" if restricted else ""
    return f"licences: {named}{warning}"


def prepare(plan: Plan, workers: Engine, stages: Stages) -> None:
    """Data, experts, images: make what the missing cells need."""
    missing = [(task,) for task in plan.tasks if not (task_folder(task) / "labels.npy").exists()]
    if missing:
        with stages.stage("data", f"{len(missing)} tasks to build", len(missing)) as advance:
            for count, _ in enumerate(workers.run(build_task, [(t.name,) for (t,) in missing]), 1):
                advance(count)
    if plan.experts:
        plan.encoder.heads(plan.tasks)
        total = len(plan.experts) * plan.encoder.recipe.steps
        with stages.stage("experts", f"{len(plan.experts)} to fine-tune", total) as advance:
            build_experts(
                plan.encoder.name, plan.tasks, plan.sweep.expert_seed, workers, advance
            )
    plan.encoder.heads(plan.tasks)
    if count_images(plan):
        with stages.stage("images", f"{plan.images:,} to corrupt", plan.images) as advance:
            corrupt(plan, workers.jobs, advance)


def build_task(name: str) -> None:
    """Build one task (a unit of work)."""
    from tasks import TASKS

    load(TASKS[name], "test")


def corrupt(plan: Plan, jobs: int, advance) -> None:
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
    prune(image_cache(), int(IMAGE_BUDGET), keep=used)


def choose(plan: Plan, store: Store, workers: Engine, stages: Stages) -> dict[str, str]:
    """The config of every run: chosen on val, once, or as declared."""
    if plan.to_tune:
        passes = sum(len(candidates(run)) for run in plan.to_tune)
        total = passes * sum(task.sizes[2] for task in plan.tasks)
        what = f"{len(plan.to_tune)} methods, {passes} validation passes"
        with stages.stage("tune", what, total) as advance:
            for run_id, outcome in tune(plan.to_tune, workers, advance).items():
                run = next(run for run in plan.runs if run.id == run_id)
                facts = {"run": asdict(run), "config": outcome["config"], "tuning": outcome}
                store.write_run(run_id, facts)
    return {run.id: chosen(run, store) if run.tuned else run.config for run in plan.runs}


def measure(
    plan: Plan, configs: dict[str, str], store: Store, workers: Engine, stages: Stages
) -> None:
    """Fill the missing cells; one unit is one shift, shown to all methods that lack it."""
    units = [
        ([(run, configs[run.id]) for run in runs], shift, plan.sweep.name, store)
        for shift, runs in plan.todo.items()
        if runs
    ]
    tested = sum(min(t.sizes[3], plan.sweep.limit or t.sizes[3]) for t in plan.tasks)
    what = f"{plan.num_todo} cells, {plan.num_todo * tested:,} predictions"
    with stages.stage("evaluate", what, plan.num_todo * tested) as advance:
        for _ in workers.run(evaluate, units, advance):
            pass


def record(plan: Plan, stages: Stages, out: Path) -> None:
    """Write which runs and shifts make up the sweep, for tables to find."""
    value = {
        "name": plan.sweep.name,
        "sweep": asdict(plan.sweep),
        "runs": [run.id for run in plan.runs],
        "shifts": [shift.key for shift in plan.shifts],
        "seconds": stages.seconds,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_json(out / "sweeps" / f"{plan.sweep.name}-{digest(asdict(plan.sweep))}.json", value)
