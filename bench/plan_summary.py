"""What a sweep says before it begins: how much there is to do, and the licences."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from bench.config import HEADS, HIDDEN, MIXED
from bench.plan import Plan
from bench.runtime import devices
from bench.runtime.workers import default_jobs
from bench.stages.build import bind
from bench.zoo.heads import PROTOTYPES, TEXT
from corruptions.base import PRIOR, Shift
from tasks import Task
from tasks.domains import domain_named, shown
from tasks.prior import CONCENTRATION
from tasks.sources.layout import some

PROTOCOLS = {
    MIXED: "images of all tasks in one batch, each under the head of its own task",
    HIDDEN: "images under the heads of all tasks",
}
IMAGES = {"adapt": "the adapt split", "test": "the clean test images", "shifted": "the test images"}


def show(plan: Plan, jobs: int, console: Console) -> None:
    """Print the plan."""
    sweep = plan.sweep
    images = "all test images" if sweep.limit is None else f"up to {sweep.limit} test images a task"
    console.print(
        f"[bold]sweep {sweep.name}[/]: {len(plan.tasks)} tasks of {sweep.suite}, "
        f"{plan.encoder.title}, {images}",
        highlight=False,
    )
    lines = plan.lines
    console.print(f"  methods  {escape(', '.join(dict.fromkeys(lines.values())))}", highlight=False)
    console.print(f"  shifts   {len(plan.shifts)}: {' '.join(sweep.shifts)}", highlight=False)
    for line in unusual(plan):
        console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
    forecast = f"{roughly(plan.minutes(min(jobs, default_jobs())))} with {jobs} jobs"
    if devices.device().type != "cpu":
        forecast = f"no forecast for a {devices.described()}"
    console.print(
        f"  plan     {len(plan.runs)} runs x {len(plan.shifts)} shifts = {plan.num_cells} cells: "
        f"{plan.num_cells - plan.num_todo} done, {plan.num_todo} to do; "
        f"{'' if plan.encoder.is_ready() else 'the encoder to download, '}"
        f"{len(plan.experts)} experts {plan.encoder.doing}, {len(plan.to_tune)} methods to tune; "
        f"{forecast}",
        highlight=False,
    )
    if learners := len({lines[run.id] for run in plan.runs if bind(run).learns}):
        each = "under each shift" if sweep.adapt_on == "shifted" else "once for all shifts"
        console.print(
            f"  adapt    {learners} methods learn from {IMAGES[sweep.adapt_on]}, {each}: "
            f"{trainings(plan)}",
            highlight=False,
        )
    if count := len(plan.to_calibrate):
        told = f"{count} temperatures to fit, each in a pass over the clean val images"
        console.print(f"  scale    {told}", highlight=False)
    console.print(
        "  data     " + licences([*plan.tasks, *plan.domains]), highlight=False, style="dim"
    )


def unusual(plan: Plan) -> list[str]:
    """What is said of a sweep where it is not as most are."""
    sweep = plan.sweep
    lines = [f"{shift}: {said}" for shift in plan.shifts if (said := about_shift(plan, shift))]
    if len(sweep.expert_seeds) > 1:
        sets = " ".join(map(str, sweep.expert_seeds))
        lines.append(f"experts  {len(sweep.expert_seeds)} sets: {sets}")
    if said := about_heads(plan):
        lines.append(f"heads    {said}")
    if sweep.protocol:
        lines.append(f"protocol {sweep.protocol}: {PROTOCOLS[sweep.protocol]}")
    if sweep.unseen:
        lines.append(f"unseen   {', '.join(sweep.unseen)}: measured, their experts not merged")
    if sweep.extra_experts:
        lines.append(f"extra    {', '.join(sweep.extra_experts)}: merged as well, not measured")
    return lines


def about_shift(plan: Plan, shift: Shift) -> str:
    """Which images a shift shows, if it shows others than clean does."""
    if not shift.shows_others:
        return ""
    if shift.corruption == PRIOR:
        ready = all(task.source.is_ready(task) for task in plan.tasks)
        counts = [plan.data.count(task, "test", shift) for task in plan.tasks] if ready else []
        left = f": {min(counts)} to {max(counts)} images of a task remain" if counts else ""
        return f"frequencies of classes drawn from Dirichlet({CONCENTRATION}){left}"
    domain, tasks = domain_named(shift.corruption), shown(plan.tasks, shift)
    others = len(plan.tasks) - len(tasks)
    left = f"; the other {others} tasks have no such images and are left out" if others else ""
    return f"{domain.says}, for {', '.join(task.name for task in tasks)}{left}"


def about_heads(plan: Plan) -> str:
    """What the heads are made of, where that is not all words of all captions."""
    encoder = plan.encoder
    own = [task for task in plan.tasks if task.source.native]
    lacking = encoder.unread_classes(own)
    if encoder.head == PROTOTYPES:
        chosen = bool(lacking) and not plan.sweep.heads
        why = f": the text tower of {encoder.plain} does not know {some(lacking)}" * chosen
        return f"{HEADS[PROTOTYPES]}{why}; `pretrained` is not zero-shot then"
    prompts = [prompt for task in own for prompt in task.prompts]
    unread = encoder.unread(prompts) if encoder.unread is not None and prompts else []
    if not unread:
        return ""
    return (
        f"{HEADS[TEXT]} without {some([repr(word) for word in unread])}, which the text tower of "
        f"{encoder.plain} does not know; compare --heads {PROTOTYPES}"
    )


def roughly(minutes: float) -> str:
    """A forecast with what it is worth: machines differ by a factor of two or so.

    >>> roughly(0.01), roughly(3), roughly(100), roughly(600)
    ('less than a minute', '2 to 5 min', '65 to 160 min', '6.5 to 16 h')
    """
    if minutes < 0.5:
        return "less than a minute"
    low, high = 0.65 * minutes, 1.6 * minutes
    if high >= 180:
        return f"{low / 60:.2g} to {high / 60:.2g} h"
    return f"{max(1, round(low))} to {round(high)} min"


def trainings(plan: Plan) -> str:
    """How much methods still have to learn."""
    passes = sum(bind(run).passes for run, _ in plan.to_learn)
    own = f"{passes:,} validation passes" if passes else ""
    steps = f"{plan.steps - passes:,} steps" if plan.steps > passes or not own else ""
    return f"{len(plan.to_learn)} trainings to do ({', '.join(filter(None, (steps, own)))})"


def licences(tasks: Sequence[Task]) -> str:
    """What the pictures of a sweep may be used for."""
    restricted = [task.name for task in tasks if task.non_commercial]
    named = "; ".join(dict.fromkeys(part for t in tasks for part in t.licence.split("; ")))
    warning = f" | NON-COMMERCIAL: {', '.join(restricted)}" if restricted else ""
    return f"licences: {named}{warning}"
