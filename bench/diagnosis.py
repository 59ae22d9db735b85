"""Diagnose a setting as a merging problem: what its experts are like, and what merging recovers.

Everything is measured on the val split, where methods are tuned as well: numbers to make a setting
by, not results. What is measured once is kept as a file and read from there.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.config import Run, Sweep, digest
from bench.plan import resolve
from bench.runtime.progress import Stages
from bench.runtime.workers import Executor, executor, report_progress
from bench.stages.adapt import learn_to_tune
from bench.stages.build import bind, canonical
from bench.sweep import build_data
from bench.zoo import diagnose
from bench.zoo.encoders import Encoder
from bench.zoo.experts import build as build_experts
from bench.zoo.experts import checkpoints, experts_of
from mergeshift import UserError
from methods import METHODS
from results.diagnosis import FOLDER, Diagnosis, ExpertSet, MergedLine
from results.published.reference import lines_of
from tasks import TASKS, Task

VERSION = 1  # raise it when numbers change: stored ones are then measured again
GRIDS: Mapping[str, Sequence[float]] = {  # scales tried, wide enough for every setting so far
    "task_arithmetic": (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0),
    "ties": (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5),
    "tsv": (0.4, 0.7, 1.0, 1.4, 1.8, 2.2, 2.5),
}
FIXED = (  # as in the published rows, so not tuned
    "ties.keep=0.2",
    "ties.merge=sum",
    "regmean.off_diagonal=0.95",
)
LEARNING = 3  # showing an image in training takes as long as encoding so many


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is diagnosed, and how."""

    suite: str
    encoder: Encoder
    expert_seeds: tuple[int, ...] = (0,)
    limit: int | None = 400  # val images a task
    held_out: bool = False  # also the lines that may not steer how a setting is made
    only: tuple[str, ...] = ()  # some of these lines; none: all

    def __post_init__(self) -> None:
        if odd := [name for name in self.only if name not in self._known]:
            hint = "" if self.held_out else " (and others with --held-out)"
            raise UserError(
                f"a diagnosis has no line {odd[0]!r}; it has: {', '.join(self._known)}{hint}"
            )

    @property
    def _known(self) -> list[str]:
        every = lines_of("development") + (lines_of("held_out") if self.held_out else [])
        return [name for name in every if name in METHODS]

    @property
    def methods(self) -> list[str]:
        """The lines that are published, that we have and that are wanted, in published order."""
        return [name for name in self._known if not self.only or name in self.only]

    def runs(self, expert_seed: int) -> list[Run]:
        """One of each method; what it learns from is the adapt split, as in a sweep."""
        fixed = [setting for setting in FIXED if setting.split(".")[0] in self.methods]
        sweep = Sweep(
            name="diagnosis", suite=self.suite, encoder=self.encoder.name, shifts=("clean",),
            methods=tuple(self.methods), expert_seeds=(expert_seed,), settings=tuple(fixed),
        )  # fmt: skip
        return resolve(sweep).runs

    @property
    def tasks(self) -> list[Task]:
        """In suite order."""
        return [TASKS[name] for name in bind(self.runs(self.expert_seeds[0])[0]).suite.names]

    @property
    def key(self) -> str:
        """Hash of all that decides the numbers."""
        runs = [run.id for seed in self.expert_seeds for run in self.runs(seed)]
        asked = (diagnose.STEPS, diagnose.RANKS, diagnose.PROBED, diagnose.PENALTIES, GRIDS)
        return digest((VERSION, runs, self.expert_seeds, self.limit, asked))

    def path(self, out: Path) -> Path:
        """Where the result is kept in a folder of results."""
        return out / FOLDER / f"{self.suite}-{self.encoder.name}-{self.key}.json"


def candidates(run: Run) -> list[str]:
    """The configs of a method that are tried, canonical JSON: our scales, or its declared grid."""
    if not run.tuned:
        return [run.config]
    if run.method not in GRIDS:
        return bind(run).candidates
    config = bind(run).declared.cfg
    return [canonical(replace(config, scale=scale)) for scale in GRIDS[run.method]]


def run_diagnosis(
    case: Case, out: Path, *, jobs: int, label: str, force: bool, console: Console
) -> Diagnosis:
    """Measure a setting, or read what was measured.

    Args:
        case: which, and how.
        out: the folder of the results.
        jobs: worker processes.
        label: what tables call it; empty: as before, or the name of the encoder.
        force: measure again.
        console: where progress is shown.

    Raises:
        UserError: an expert is missing and cannot be made, or a name does not exist.
        DamagedFileError: the stored diagnosis is damaged, and ``force`` is not given.
    """
    path = case.path(out)
    if path.exists() and not force:
        found = Diagnosis.read(path)
        if label and label != found.label:
            found = replace(found, label=label)
            found.write(path)
        return found
    stages = Stages(console)
    with executor(jobs) as workers:
        prepare(case, workers, stages)
        found = measure(case, workers, stages, label or case.encoder.name)
    found.write(path)
    return found


def prepare(case: Case, workers: Executor, stages: Stages) -> None:
    """Tasks, heads and experts: make what is missing."""
    tasks, encoder = case.tasks, case.encoder
    build_data(tasks, workers, stages)
    encoder.heads(tasks)
    for seed in case.expert_seeds:
        missing = [e for e in experts_of(encoder.name, tasks, seed) if not e.exists]
        if missing:
            total, what = len(missing) * encoder.expert_steps, f"{len(missing)} {encoder.doing}"
            with stages.stage("experts", what, total) as advance:
                build_experts(encoder.name, tasks, seed, workers, advance)


Unit = tuple[Any, ...]  # a function, and its arguments


def call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Units of several kinds, in one queue (a unit of work)."""
    return function(*arguments)


def measure(case: Case, workers: Executor, stages: Stages, label: str) -> Diagnosis:
    """All numbers of a setting whose experts are there."""
    tasks, encoder, limit = case.tasks, case.encoder, case.limit
    names = [task.name for task in tasks]
    counts = {task.name: min(task.sizes[2], limit or task.sizes[2]) for task in tasks}
    units: list[tuple[float, Unit]] = []  # with the images that each encodes
    for task in tasks:
        work = diagnose.images_of_base(task, limit)
        units.append((work, (diagnose.measure_base, encoder.name, task.name, limit)))
    runs = {seed: case.runs(seed) for seed in case.expert_seeds}
    for seed in case.expert_seeds:
        for expert, task in zip(experts_of(encoder.name, tasks, seed), tasks, strict=True):
            work = diagnose.images_of_expert(task, tasks, limit)
            units.append((work, (diagnose.measure_expert, expert, tuple(names), limit)))
        for run in runs[seed]:
            shown = LEARNING * bind(run).images_shown * len(tasks)
            work = shown + sum(counts.values())
            units += [(work, (validate, run, config, limit)) for config in candidates(run)]
    units.sort(key=lambda unit: -unit[0])  # the longest first, so that no worker waits for it
    what = f"{len(case.methods)} methods on {len(case.expert_seeds)} set(s) of experts"
    found: dict[Unit, Any] = {}
    with stages.stage("diagnose", what, sum(work for work, _ in units)) as advance:
        for unit, result in workers.run(call, [unit for _, unit in units], advance):
            found[unit] = result
    base = {name: found[diagnose.measure_base, encoder.name, name, limit] for name in names}
    return Diagnosis(
        label=label,
        world=bind(runs[case.expert_seeds[0]][0]).suite.world,
        suite=case.suite,
        encoder=encoder.name,
        zero_shot={name: accuracy for name, (accuracy, _) in base.items()},
        probe={name: probe.accuracy for name, (_, probe) in base.items()},
        penalty={name: probe.penalty for name, (_, probe) in base.items()},
        images=counts,
        limit=limit or 0,
        base=encoder.base_hash,
        recipe=asdict(encoder.recipe),
        key=case.key,
        measured=datetime.now(UTC).isoformat(timespec="seconds"),
        sets={str(seed): _set(case, seed, runs[seed], found) for seed in case.expert_seeds},
    )


def _set(case: Case, seed: int, runs: Sequence[Run], found: Mapping[Unit, Any]) -> ExpertSet:
    """What was found of one set of experts."""
    encoder, limit = case.encoder, case.limit
    names = tuple(task.name for task in case.tasks)
    experts = {
        expert.task: found[diagnose.measure_expert, expert, names, limit]
        for expert in experts_of(encoder.name, case.tasks, seed)
    }
    ckpts = checkpoints(encoder.name, case.tasks, seed)
    norms, cosines = diagnose.geometry(ckpts.base, list(ckpts.experts.values()))

    def turned(kind: str) -> dict[str, dict[str, float]]:
        """Task -> step -> accuracy becomes step -> task -> accuracy."""
        steps = experts[names[0]][kind]
        return {step: {name: experts[name][kind][step] for name in names} for step in steps}

    return ExpertSet(
        cross={name: experts[name]["cross"] for name in names},
        norm=dict(zip(names, norms.tolist(), strict=True)),
        cosine={name: dict(zip(names, row, strict=True))
                for name, row in zip(names, cosines.tolist(), strict=True)},
        own_line=turned("own_line"),
        kept=turned("kept"),
        lines={run.method: _line(run, limit, found) for run in runs},
    )  # fmt: skip


def _line(run: Run, limit: int | None, found: Mapping[Unit, Any]) -> MergedLine:
    """The best candidate of a method by its mean accuracy; the first of equals."""
    trials = {config: found[validate, run, config, limit] for config in candidates(run)}
    means = {config: sum(each.values()) / len(each) for config, each in trials.items()}
    best = max(means, key=means.__getitem__)
    tried = {*json.loads(run.grid or "{}")} if len(means) > 1 else set()
    return MergedLine(
        title=METHODS[run.method].title,
        config=json.loads(best),
        accuracy=trials[best],
        trials=[
            ({name: value for name, value in json.loads(config).items() if name in tried}, mean)
            for config, mean in means.items()
        ] if tried else (),
    )  # fmt: skip


def validate(run: Run, config: str, limit: int | None) -> dict[str, float]:
    """Accuracy on the first val images of every task: one candidate (a unit of work)."""
    bound = bind(run)
    shown = LEARNING * bound.images_shown * len(bound.tasks) / bound.steps
    if bound.learns:
        method = learn_to_tune(run, config, lambda: report_progress(shown))
    else:
        method = bound.build(config)[0]
    return {task.name: diagnose.accuracy_of(method, bound.encoder, task, limit)
            for task in bound.tasks}  # fmt: skip
