"""What a sweep will do: its runs and shifts, what of it is done, what the rest takes."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

from bench.config import Run, Sweep
from bench.forecast import burden, corruption_ms, seconds_of
from bench.stages import artifacts
from bench.stages.build import bind, canonical
from bench.stages.calibrate import temperature_of
from bench.variants import Variant, display_name
from bench.zoo.encoders import ENCODERS, OF_WORLD, Encoder
from bench.zoo.experts import Expert, experts_of
from bench.zoo.heads import TEXT
from corruptions.base import CLEAN, Shift, parse_shifts
from corruptions.cache import Request, missing
from corruptions.matched import frozen
from mergeshift import UserError
from methods import METHODS, MergingMethod, Needs
from results.schema import FLOOR
from results.store import Store
from tasks import SUITES, TASKS, Task
from tasks.datamodule import SuiteDataModule, affordable, image_cache
from tasks.domains import require_shown, shown, sources
from tasks.settings import image_budget


@dataclass
class Plan:
    """A sweep, resolved: every name looked up, everything that is missing listed."""

    sweep: Sweep
    encoder: Encoder
    tasks: list[Task]
    shifts: list[Shift]
    runs: list[Run]
    variants: dict[str, str] = field(default_factory=dict)  # run id -> "keep=0.1", or empty
    todo: dict[Shift, list[Run]] = field(default_factory=dict)  # cells to measure, by shift
    experts: list[Expert] = field(default_factory=list)  # to fine-tune, of all sets
    to_tune: list[Run] = field(default_factory=list)
    to_learn: list[tuple[Run, Shift | None]] = field(default_factory=list)  # longest first
    to_calibrate: list[tuple[Run, Shift | None]] = field(default_factory=list)  # no temperature yet
    images: int = 0  # to corrupt

    @property
    def data(self) -> SuiteDataModule:
        """Every cell of the sweep."""
        sweep = self.sweep
        return SUITES[sweep.suite].datamodule(
            self.shifts, limit=sweep.limit, val_limit=sweep.val_limit, data_seed=sweep.data_seed
        )

    @property
    def seen(self) -> list[Task]:
        """Tasks whose experts are merged."""
        return [task for task in self.tasks if task.name not in self.sweep.unseen]

    @property
    def extra(self) -> list[Task]:
        """Tasks that are not measured, and whose experts are merged."""
        return [TASKS[name] for name in self.sweep.extra_experts]

    @property
    def merged(self) -> list[Task]:
        """Tasks whose experts are merged: those that are seen, and extra ones."""
        return [*self.seen, *self.extra]

    @property
    def domains(self) -> list[Task]:
        """Where images come from that are shown in place of those of the tasks, each once."""
        return sources(self.tasks, self.shifts)

    @property
    def lines(self) -> dict[str, str]:
        """Run id -> line of the table: the method, or the variant of it."""
        return {
            run.id: display_name(run.method, self.variants.get(run.id, "")) for run in self.runs
        }

    @property
    def num_cells(self) -> int:
        """Files that the finished sweep has."""
        return len(self.runs) * len(self.shifts)

    @property
    def num_todo(self) -> int:
        """Files that are missing."""
        return sum(map(len, self.todo.values()))

    @property
    def predictions(self) -> int:
        """Images times methods still to classify, tuning included."""
        tested = sum(min(task.sizes[3], self.sweep.limit or task.sizes[3]) for task in self.tasks)
        return self.num_todo * tested + self.validated

    @property
    def validated(self) -> int:
        """Val images that tuning and calibrating still have to classify."""
        calibrated = len(self.to_calibrate) * sum(task.sizes[2] for task in self.seen)
        return calibrated + sum(
            len(bind(run).candidates) * sum(run.val_images(task.sizes[2]) for task in self.seen)
            for run in self.to_tune
        )

    @property
    def shifted(self) -> int:
        """Test images under the shifts that are missing, as far as they are not clean."""
        tested = sum(min(task.sizes[3], self.sweep.limit or task.sizes[3]) for task in self.tasks)
        return tested * sum(bool(runs) and shift.corrupts for shift, runs in self.todo.items())

    @property
    def steps(self) -> int:
        """Training steps of methods, and their own validation passes, still to take."""
        return sum(bind(run).steps for run, _ in self.to_learn)

    def minutes(self, jobs: int) -> float:
        """A rough forecast."""
        routed = {run.id for run in self.runs if bind(run).routes}
        cells = [run.id in routed for runs in self.todo.values() for run in runs]
        shown = sum(burden(run) for run, _ in self.to_learn)
        shown += sum(burden(run) * len(bind(run).candidates) for run in self.to_tune)
        seconds = seconds_of(
            self.encoder,
            predictions=self.predictions,
            routed=sum(cells) / len(cells) if cells else 0.0,
            shown=shown * len(self.merged),
            experts=len(self.experts),
            corrupted=self.images or self.shifted,
            milliseconds=corruption_ms(
                (shift for shift, runs in self.todo.items() if runs), self.encoder.vit.image_size
            ),
        )
        return seconds / 60 / jobs


def resolve(sweep: Sweep) -> Plan:
    """Look up every name of ``sweep``; nothing is built, nothing is downloaded.

    Raises:
        UserError: a method, suite, task, encoder, shift, severity or setting does not exist.
    """
    suite = SUITES[sweep.suite]
    encoder = ENCODERS[sweep.encoder or OF_WORLD[suite.world]]
    suite = suite.at(encoder.vit.image_size)
    sweep, tasks = replace(sweep, suite=suite.name), suite.tasks
    encoder = encoder.with_heads(sweep.heads, tasks)
    small = encoder.vit.image_size <= 32
    constants = sweep.constants or ("cifar10-c" if small else "imagenet-c")
    shifts = parse_shifts(sweep.shifts, constants, sweep.placement, lambda level: frozen(
        level, suite=suite.name, encoder=encoder.plain, base=encoder.base_hash,
        constants=constants, placement=sweep.placement,
    ))  # fmt: skip
    extra = extra_of(sweep.extra_experts, tasks, suite.name)
    sweep = replace(sweep, extra_experts=tuple(task.name for task in extra))
    for shift in shifts:
        require_shown(tasks, shift, suite.name)
        if sweep.adapt_on == "shifted" and len(shown(tasks, shift)) < len(tasks):
            raise UserError(
                f"{shift} has images of some tasks alone, and methods learn from images of all: "
                "use another --adapt-on"
            )
    fitting(encoder, [*tasks, *extra])
    if sweep.placement == "native" and not all(task.source.native for task in tasks):
        raise UserError("pocket pictures are stored at the input size: use --corrupt-at input")
    if below := [seed for seed in (*sweep.seeds, *sweep.expert_seeds) if seed < 0]:
        raise UserError(f"seeds of a sweep are whole numbers from 0; got {below[0]}")
    plan, seeds = Plan(sweep, encoder, tasks, shifts, []), list(dict.fromkeys(sweep.seeds))
    for line in sweep.lines:
        unbuilt = configured(sweep, line)
        sets = sweep.expert_seeds[:1] if line.method == FLOOR else sweep.expert_seeds
        for expert_seed, seed in product(sets, seeds if unbuilt.depends_on_seed else seeds[:1]):
            run = run_of(sweep, encoder, tasks, line, seed, expert_seed)
            if run not in plan.runs:  # what is said twice, in whatever words, is done once
                plan.runs.append(run)
                plan.variants[run.id] = line.variant(unbuilt.cfg.as_dict())
    return plan


def fitting(encoder: Encoder, tasks: list[Task]) -> None:
    """Refuse an encoder that takes images of another size than those of the tasks."""
    side = encoder.vit.image_size
    if odd := [task for task in tasks if task.size != side]:
        known = [other.name for other in ENCODERS.values()
                 if other.vit.image_size == odd[0].size and other.head == TEXT]  # fmt: skip
        raise UserError(
            f"images of {odd[0].name} are {odd[0].size} pixels wide, {encoder.name} takes {side}; "
            f"encoders that fit: {', '.join(known) or 'none'}"
        )


def configured(sweep: Sweep, line: Variant) -> MergingMethod:
    """The method of a line, not built, with what the sweep sets."""
    cls = METHODS[line.method]
    return cls(cls.Config.make(sweep.fields_of(line)))


def run_of(
    sweep: Sweep, encoder: Encoder, tasks: list[Task], line: Variant, seed: int, expert_seed: int
) -> Run:
    """The run of one line, seed and set of experts."""
    settings, unbuilt = sweep.fields_of(line), configured(sweep, line)
    config, unseen = unbuilt.cfg, unseen_of(sweep.unseen, tasks, sweep.suite)
    merged = [task for task in tasks if task.name not in unseen]
    merged += [TASKS[name] for name in sweep.extra_experts]
    free = {name: values for name, values in config.grid.items() if name not in settings}
    searches = bool(sweep.tune and free) or Needs.VAL_LABELS in unbuilt.needs
    return Run(
        suite=sweep.suite,
        tasks=tuple(f"{task.name}-{task.version}-{task.pixels}" for task in tasks),
        encoder=encoder.name,
        base=encoder.base_hash,
        experts=tuple(encoder.expert_key(task, expert_seed) for task in merged),
        expert_seed=expert_seed,
        method=line.method,
        version=unbuilt.measured_version,
        config=canonical(config),
        grid=json.dumps(free, sort_keys=True) if sweep.tune and free else "",
        seed=seed,
        limit=sweep.limit,
        data_seed=sweep.data_seed,
        adapt_on=sweep.adapt_on if unbuilt.needs & (Needs.IMAGES | Needs.TEST_STREAM) else "",
        unseen=unseen,
        precision=sweep.precision,
        val_limit=sweep.val_limit if searches else None,
        extra_experts=sweep.extra_experts,
        protocol=sweep.protocol,
    )


def extra_of(names: Sequence[str], tasks: Sequence[Task], suite_name: str) -> list[Task]:
    """The tasks outside of a suite whose experts are merged as well, in the order of the alphabet.

    Raises:
        UserError: there is no such task, or it is one of the suite, or named twice.
    """
    known = {task.name for task in tasks}
    for place, name in enumerate(names):
        if name in known:
            raise UserError(
                f"extra experts are of tasks outside of the suite; {name} is one of {suite_name}"
            )
        if name in names[:place]:
            raise UserError(f"the extra expert {name} is named twice: an expert takes part once")
    return [TASKS[name] for name in sorted(names)]


def unseen_of(names: Sequence[str], tasks: Sequence[Task], suite_name: str) -> tuple[str, ...]:
    """``names`` of tasks whose experts are left out, in the order of ``tasks``.

    Raises:
        UserError: one is no task of the suite, or no task is left to merge.
    """
    known = [task.name for task in tasks]
    if odd := [name for name in names if name not in known]:
        raise UserError(
            f"unseen tasks are tasks of the suite; {suite_name} has no {odd[0]!r}, "
            f"it has: {', '.join(known)}"
        )
    if set(names) >= set(known):
        raise UserError(f"every task of {suite_name} is unseen: leave an expert to merge")
    return tuple(name for name in known if name in names)


def inspect(plan: Plan, store: Store, force: bool = False) -> Plan:
    """Fill in what is missing.

    Args:
        plan: from :func:`resolve`.
        store: the results so far.
        force: measure everything again.
    """
    plan.todo = {
        shift: [run for run in plan.runs if force or not finished(plan, store, run, shift)]
        for shift in plan.shifts
    }
    waiting = {run.id for runs in plan.todo.values() for run in runs}
    plan.to_tune = [
        run
        for run in plan.runs
        if run.tuned and run.id in waiting and (force or not chosen(run, store))
    ]
    plan.to_learn = trainings(plan, store, force)
    plan.to_calibrate = calibrations(plan, store, force)
    if waiting:
        plan.experts = [expert for expert in all_experts(plan) if not expert.exists]
        require_curvature(plan, waiting)
    return plan


def require_curvature(plan: Plan, waiting: Collection[str]) -> None:
    """Refuse, before anything is made, a method that needs more of the experts than was kept.

    Raises:
        UserError: one weighs by Adam's second moments, and an expert lacks them.
    """
    needy = [
        run.method
        for run in plan.runs
        if run.id in waiting and Needs.OPTIMIZER_STATE in bind(run).declared.needs
    ]
    lacking = [expert for expert in all_experts(plan) if needy and not expert.has_curvature]
    if lacking:
        sets = "" if len(plan.sweep.expert_seeds) == 1 else f" (set {lacking[0].seed})"
        raise UserError(
            f"{needy[0]} needs what Adam held when the experts' fine-tuning ended, which was not "
            f"kept of {lacking[0].task}{sets}: python -m bench zoo build --keep-curvature; or "
            f"take {needy[0].replace('_adam', '')}, which measures curvature on images"
        )


def all_experts(plan: Plan) -> list[Expert]:
    """The experts of every set, set by set."""
    name = plan.encoder.name
    sets = plan.sweep.expert_seeds
    return [one for seed in sets for one in experts_of(name, plan.merged, seed)]


def finished(plan: Plan, store: Store, run: Run, shift: Shift) -> bool:
    """Whether everything that the sweep wants of a run under a shift is there."""
    images, sweep = store.images_path(run.id, shift.key), plan.sweep
    if not store.has(run.id, shift.key) or (sweep.uncertainty and not images.exists()):
        return False
    return not sweep.temperature or store.has_metric(run.id, shift.key, "temperature")


def calibrations(plan: Plan, store: Store, force: bool) -> list[tuple[Run, Shift | None]]:
    """The models of missing cells that still need a temperature: once per run, or per shift."""
    wanted = {
        (run, shift if run.adapt_on == "shifted" else None): None
        for shift, runs in plan.todo.items()
        for run in runs
        if plan.sweep.temperature
    }
    return [(run, s) for run, s in wanted if force or temperature_of(run, s, store) is None]


def trainings(plan: Plan, store: Store, force: bool) -> list[tuple[Run, Shift | None]]:
    """What methods still have to learn for the missing cells: once per run, or once per shift."""
    learners = {run.id for run in plan.runs if bind(run).learns}
    wanted = {
        (run, shift if run.adapt_on == "shifted" else None): None
        for shift, runs in plan.todo.items()
        for run in runs
        if run.id in learners
    }
    missing = [(r, shift) for r, shift in wanted if force or not artifacts.has(store, r.id, shift)]
    return sorted(missing, key=lambda unit: -burden(unit[0]))


def count_images(plan: Plan) -> int:
    """Images still to corrupt for the missing cells (the tasks must be built)."""
    plan.images = missing(requests(plan), data_seed=plan.sweep.data_seed, folder=image_cache())
    return plan.images


def requests(plan: Plan) -> list[Request]:
    """What the missing cells ask of the image cache, as far as the budget goes.

    Pictures that are decoded on demand are kept where they are looked at again and again (while
    tuning, calibrating and learning) before those that all methods see in one pass.
    """
    data, seen = plan.data, [task for task in plan.seen if task.source.native]
    validated = plan.to_tune or plan.to_calibrate
    asked = [data.request(task, "val", CLEAN) for task in seen if validated]
    learn_on = {run.adapt_on for run, _ in plan.to_learn} & {"adapt", "test"}
    asked += [data.request(task, split, CLEAN) for split in sorted(learn_on) for task in seen]
    asked += [
        data.request(task, "test", shift)
        for shift, runs in plan.todo.items()
        if runs
        for task in shown(plan.tasks, shift)
    ]
    return affordable(asked, image_budget())


def chosen(run: Run, store: Store) -> str:
    """The config that tuning chose for ``run``; empty when it was not tuned yet."""
    path = store.folder / "cells" / run.id / "run.json"
    return store.run(run.id)["tuning"]["config"] if path.exists() else ""
