"""``python -m bench sweep`` and ``speed``."""

from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bench.cli.options import (
    OUT,
    DataDir,
    Device,
    EncoderName,
    Experts,
    ImageBudget,
    Jobs,
    Limit,
    Methods,
    Out,
    Precision,
    Settings,
    Shifts,
    Suite,
    Uncertainty,
    Unseen,
    Val,
    Workers,
    words,
)
from bench.config import Sweep, digest, identity_fields
from bench.reporting.leaderboard import leaderboard
from bench.runtime import devices
from bench.runtime.devices import device
from bench.runtime.workers import default_jobs
from bench.sweep import run_sweep
from bench.sweeps import find_sweep, with_fields
from bench.zoo.encoders import ENCODERS, OF_WORLD
from mergeshift import UserError
from results.wandb.login import mode
from tasks import world_of
from tasks.settings import using
from tasks.vision import PUBLISHED


class Wandb(StrEnum):
    """Where runs are logged."""

    auto = "auto"  # online if logged in, else offline
    online = "online"
    offline = "offline"
    off = "off"


Name = Annotated[
    str,
    typer.Argument(
        help="main, routed, bd, bd-ablation, bd-unseen, severity, smoke; or a TOML file"
    ),
]

ADAPT_ON = "adapt | test | shifted: images that methods learn from"


def chosen_sweep(
    name: str,
    suite: str = "",
    methods: list[str] | None = None,
    shifts: list[str] | None = None,
    seeds: list[int] | None = None,
    limit: int = -1,
    settings: list[str] | None = None,
    unseen: list[str] | None = None,
    val: str = "",
    experts: str = "",
    **more: Any,
) -> Sweep:
    """A named sweep with what the command line changes."""
    changes: dict[str, Any] = {k: v for k, v in more.items() if v not in (None, "")}
    if suite:
        changes["suite"] = suite
    if limit < -1:
        raise UserError(f"--limit is a number of images, or 0 for all; got {limit}")
    if limit >= 0:
        changes["limit"] = limit or None
    lists: dict[str, Sequence[Any]] = {
        "methods": words(methods or []),
        "shifts": shifts or [],
        "seeds": seeds or [],
        "settings": settings or [],
        "unseen": words(unseen or []),
    }
    changes |= {field: tuple(values) for field, values in lists.items() if values}
    found = find_sweep(name)
    if val not in ("", "own", "as-published"):
        raise UserError(f"--val is own or as-published; got {val!r}")
    if val == "as-published":
        changes["suite"] = f"{suite or found.suite}@{PUBLISHED}"
    changed = with_experts(with_fields(found, changes), experts)
    return changed if changed == found else replace(changed, name=name_of(found, changed))


def with_experts(sweep: Sweep, family: str) -> Sweep:
    """The sweep with the experts of a family; those of its encoder, if no family is named."""
    if not family:
        return sweep
    own = OF_WORLD[world_of(sweep.suite)]
    encoder = ENCODERS[sweep.encoder or own].of(family).name
    return replace(sweep, encoder="" if encoder == own else encoder)


def name_of(found: Sweep, changed: Sweep) -> str:
    """A sweep that the command line changed has a name of its own.

    >>> name_of(Sweep(name="main"), Sweep(name="main", suite="pocket14", limit=100))
    'main-pocket14-limit100'
    """
    said = {
        "suite": changed.suite,
        "encoder": changed.encoder or "own-encoder",
        "limit": f"limit{changed.limit or 'all'}",
        "tune": "no-tune",
        "adapt_on": f"on-{changed.adapt_on}",
        "uncertainty": "uncertainty",
        "precision": changed.precision or "32",
    }
    before = {field: getattr(found, field) for field in said}
    parts = [text for field, text in said.items() if getattr(changed, field) != before[field]]
    parts = [found.name, *parts]
    same = replace(changed, **before)
    if same != found:
        parts.append(digest(identity_fields(same))[:6])
    return "-".join(parts)


def sweep(
    name: Name = "main",
    suite: Suite = "",
    encoder: EncoderName = "",
    experts: Experts = "",
    methods: Methods = [],  # noqa: B006
    shifts: Shifts = [],  # noqa: B006
    seeds: Annotated[list[int], typer.Option(help="of the methods")] = [],  # noqa: B006
    expert_seed: Annotated[int, typer.Option(help="which set of experts")] = -1,
    limit: Limit = -1,
    settings: Settings = [],  # noqa: B006
    tune: Annotated[bool, typer.Option(help="search declared grids on val")] = True,
    constants: Annotated[str, typer.Option(help="imagenet-c | cifar10-c")] = "",
    placement: Annotated[str, typer.Option(help="input | native")] = "",
    adapt_on: Annotated[str, typer.Option(help=ADAPT_ON)] = "",
    unseen: Unseen = [],  # noqa: B006
    uncertainty: Uncertainty = False,
    data_dir: DataDir = None,
    val: Val = "",
    image_budget: ImageBudget = None,
    workers: Workers = -1,
    device: Device = "auto",
    precision: Precision = "",
    out: Out = OUT,
    jobs: Jobs = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the plan and stop")] = False,
    force: Annotated[bool, typer.Option("--force", help="measure again what is there")] = False,
    wandb: Annotated[Wandb, typer.Option(help="log runs")] = Wandb.auto,
) -> None:
    """Run a comparison; what is finished is not run again. Ends in a leaderboard."""
    changed = chosen_sweep(
        name, suite, methods, shifts, seeds, limit, settings, unseen, val, experts,
        encoder=encoder, precision=precision,
        constants=constants, placement=placement, adapt_on=adapt_on,
        expert_seed=expert_seed if expert_seed >= 0 else None,
        tune=tune if not tune else None, uncertainty=uncertainty or None,
    )  # fmt: skip
    mode(wandb.value)  # a mistake in it is found before the work
    console = Console()
    handled = using(data_dir, None if workers < 0 else workers, image_budget)
    with handled, devices.using(device):
        plan, stages = run_sweep(
            changed, out, jobs=jobs or devices.jobs(), force=force, dry_run=dry_run, console=console
        )
        if not dry_run:
            leaderboard(plan, stages, out, console, wandb.value)


def decoders(workers: int) -> int:
    """Processes that decode images: what was said; else one for each core that a GPU leaves."""
    if workers >= 0:
        return workers
    return 0 if device().type == "cpu" else default_jobs() - 1


def speed(
    name: Name = "main",
    suite: Suite = "",
    limit: Limit = -1,
    out: Annotated[
        Path | None, typer.Option(help="kept results; default: a temporary folder")
    ] = None,
    jobs: Jobs = 0,
) -> None:
    """Time `sweep --force --no-tune` against the bare forward passes it makes, in one run."""
    from bench.profiling.sweep import compare

    changed = chosen_sweep(name, suite, limit=limit, tune=False)
    compare(name, changed, out, jobs or default_jobs(), Console())
