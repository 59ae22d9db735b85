"""``python -m bench sweep``: run a comparison, and end in a leaderboard."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

import typer

from bench.cli.options import (
    OUT,
    SWEEP,
    DataDir,
    Device,
    EncoderName,
    Experts,
    ExtraExperts,
    Heads,
    ImageBudget,
    Jobs,
    Limit,
    Loggers,
    Methods,
    Out,
    Precision,
    Protocol,
    Settings,
    Shifts,
    Splits,
    Suite,
    Temperature,
    Uncertainty,
    Unseen,
    ValLimit,
    Wandb,
    Workers,
    numbers,
    parts,
    setting_words,
    shift_words,
    whole,
    words,
)
from bench.config import Sweep, digest, identity_fields
from bench.sweeps import SWEEPS, find_sweep, with_fields
from mergeshift import UserError

Name = Annotated[
    str,
    typer.Argument(help=f"{', '.join(SWEEPS)}; or a TOML file.", autocompletion=SWEEP),
]

ADAPT_ON = "adapt | test | shifted: images that methods learn from"


def chosen_sweep(
    name: str,
    suite: str = "",
    methods: list[str] | None = None,
    shifts: list[str] | None = None,
    seeds: list[str] | None = None,
    limit: int = -1,
    val_limit: int = -1,
    settings: list[str] | None = None,
    unseen: list[str] | None = None,
    splits: str = "",
    experts: str = "",
    expert_seeds: list[str] | None = None,
    **more: Any,
) -> Sweep:
    """A named sweep with what the command line changes."""
    changes: dict[str, Any] = {k: v for k, v in more.items() if v not in (None, "")}
    if suite:
        changes["suite"] = suite
    for option, images in (("limit", limit), ("val_limit", val_limit)):
        if images < -1:
            option = f"--{option.replace('_', '-')}"
            raise UserError(f"{option} is a number of images, or 0 for all; got {images}")
        if images >= 0:
            changes[option] = images or None
    lists: dict[str, Sequence[Any]] = {
        "methods": words(methods or []),
        "shifts": shift_words(shifts or []),
        "seeds": numbers(seeds or [], "seeds"),
        "expert_seeds": numbers(expert_seeds or [], "sets of experts"),
        "settings": setting_words(settings or []),
        "unseen": parts(unseen or []),
    }
    changes |= {field: tuple(values) for field, values in lists.items() if values}
    found = find_sweep(name)
    if splits not in ("", "own", "published"):
        raise UserError(f"--splits is own or published; got {splits!r}")
    if splits == "published":
        from tasks.vision import PUBLISHED

        changes["suite"] = f"{suite or found.suite}@{PUBLISHED}"
    changed = with_experts(with_fields(found, changes), experts)
    return changed if changed == found else replace(changed, name=name_of(found, changed))


def with_experts(sweep: Sweep, family: str) -> Sweep:
    """The sweep with the experts of a family; those of its encoder, if no family is named."""
    from bench.zoo.encoders import ENCODERS, OF_WORLD
    from tasks import world_of

    if not family:
        return sweep
    own = OF_WORLD[world_of(sweep.suite)]
    encoder = ENCODERS[sweep.encoder or own].of(family).name
    return replace(sweep, encoder="" if encoder == own else encoder)


def name_of(found: Sweep, changed: Sweep) -> str:
    """A sweep that the command line changed has a name of its own.

    >>> name_of(Sweep(name="main"), Sweep(name="main", suite="pocket14", limit=100))
    'main-pocket14-limit100'
    >>> name_of(Sweep(name="main"), Sweep(name="main", expert_seeds=(0, 1, 2)))
    'main-experts0-1-2'
    """
    said = {
        "suite": changed.suite,
        "encoder": changed.encoder.replace(":", "-") or "own-encoder",
        "limit": f"limit{changed.limit or 'all'}",
        "val_limit": f"val{changed.val_limit or 'all'}",
        "tune": "no-tune",
        "adapt_on": f"on-{changed.adapt_on}",
        "uncertainty": "uncertainty",
        "temperature": "temperature",
        "precision": changed.precision or "32",
        "heads": changed.heads or "own-heads",
        "protocol": changed.protocol or "task",
    }
    if len(changed.expert_seeds) > 1:
        said["expert_seeds"] = f"experts{'-'.join(map(str, changed.expert_seeds))}"
    before = {field: getattr(found, field) for field in said}
    told = [text for field, text in said.items() if getattr(changed, field) != before[field]]
    told = [found.name, *told]
    same = replace(changed, **before)
    if same != found:
        told.append(digest(identity_fields(same))[:6])
    return "-".join(told)


def sweep(
    name: Name = "main",
    suite: Suite = "",
    encoder: EncoderName = "",
    experts: Experts = "",
    heads: Heads = "",
    methods: Methods = [],  # noqa: B006
    shifts: Shifts = [],  # noqa: B006
    seeds: Annotated[list[str], typer.Option(help="of the methods: 0 1 2, or 0,1,2, or 0-2")] = [],  # noqa: B006
    expert_seeds: Annotated[
        list[str],
        typer.Option(
            "--expert-seeds", "--expert-seed", help="which sets of experts: 0, or 0-2, or 0,1,2"
        ),
    ] = [],  # noqa: B006
    limit: Limit = -1,
    val_limit: ValLimit = -1,
    settings: Settings = [],  # noqa: B006
    tune: Annotated[bool, typer.Option(help="search declared grids on val")] = True,
    constants: Annotated[
        str,
        typer.Option("--corruption-constants", help="imagenet-c | cifar10-c: of the corruptions."),
    ] = "",
    placement: Annotated[
        str,
        typer.Option(
            "--corrupt-at",
            help="input | native: corrupt at the model's input size, or before resizing.",
        ),
    ] = "",
    adapt_on: Annotated[str, typer.Option(help=ADAPT_ON)] = "",
    unseen: Unseen = [],  # noqa: B006
    extra_experts: ExtraExperts = [],  # noqa: B006
    leave_out: Annotated[
        int,
        typer.Option(
            "--leave-out",
            parser=whole("--leave-out"),
            metavar="INTEGER",
            show_default=False,
            help="Leave out so many tasks in turn: a sweep for each choice of unseen tasks.",
        ),
    ] = 0,
    rounds: Annotated[
        int,
        typer.Option(
            "--leave-out-rounds",
            parser=whole("--leave-out-rounds"),
            metavar="INTEGER",
            help="Of --leave-out: 0 = all choices; else rounds that leave out each task as often.",
        ),
    ] = 0,
    uncertainty: Uncertainty = False,
    temperature: Temperature = False,
    data_dir: DataDir = None,
    splits: Splits = "",
    image_budget: ImageBudget = None,
    workers: Workers = -1,
    device: Device = "auto",
    precision: Precision = "",
    protocol: Protocol = "",
    out: Out = OUT,
    jobs: Jobs = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the plan and stop")] = False,
    force: Annotated[bool, typer.Option("--force", help="measure again what is there")] = False,
    wandb: Annotated[Wandb, typer.Option(help="log runs")] = Wandb.auto,
    logger: Loggers = [],  # noqa: B006
) -> None:
    """Run a comparison; what is finished is not run again. Ends in a leaderboard."""
    from rich.console import Console

    from bench.index import method_order
    from bench.reporting.leaderboard import leaderboard
    from bench.reporting.leave_out import rows_by_choice, sweeps_of
    from bench.runtime import devices
    from bench.sweep import run_sweep
    from results.loggers import require_logger
    from results.render.text import renderable
    from results.tables.leave_out import leave_out as over_choices
    from results.wandb.login import mode
    from tasks.settings import using

    changed = chosen_sweep(
        name, suite, methods, shifts, seeds, limit, val_limit, settings, unseen, splits, experts,
        encoder=encoder, precision=precision, heads=heads, protocol=protocol,
        constants=constants, placement=placement, adapt_on=adapt_on,
        expert_seeds=expert_seeds,
        tune=tune if not tune else None, uncertainty=uncertainty or None,
        temperature=temperature or None,
        extra_experts=words(extra_experts) or None,
    )  # fmt: skip
    mode(wandb.value)  # a mistake in it is found before the work
    require_logger(loggers := words(logger))
    console = Console()
    handled = using(data_dir, None if workers < 0 else workers, image_budget)
    with handled, devices.using(device):
        every = sweeps_of(changed, leave_out, rounds) if leave_out else [changed]
        if leave_out:
            console.print(f"{len(every)} choices of {leave_out} unseen tasks", highlight=False)
        for one in every:
            plan, stages = run_sweep(
                one, out, jobs=jobs or devices.jobs(), force=force, dry_run=dry_run, console=console
            )
            if not dry_run:
                leaderboard(plan, stages, out, console, wandb.value, loggers)
    if leave_out and not dry_run:
        rows = rows_by_choice(out, changed.name, leave_out, protocol=changed.protocol or "task")
        table = over_choices(rows, order=method_order())
        console.print(renderable(table, min(console.width, 120), brief=True))


def decoders(workers: int) -> int:
    """Processes that decode images: what was said; else one for each core that a GPU leaves."""
    from bench.runtime.devices import device
    from bench.runtime.workers import default_jobs

    if workers >= 0:
        return workers
    return 0 if device().type == "cpu" else default_jobs() - 1
