"""``python -m bench sweep`` and ``speed``."""

from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bench.cli.options import OUT, Jobs, Limit, Methods, Out, Settings, Shifts, Suite, words
from bench.config import Sweep, digest, find_sweep, told, with_fields
from bench.engines import default_jobs
from bench.errors import UserError
from bench.leaderboard import leaderboard
from bench.sweep import run_sweep
from results.wandb import mode


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
UNCERTAINTY = "keep how sure methods are of every image: for `table --by uncertainty`"
UNSEEN = "tasks whose experts are not merged; they are measured like the others"


def chosen_sweep(
    name: str,
    suite: str = "",
    methods: list[str] | None = None,
    shifts: list[str] | None = None,
    seeds: list[int] | None = None,
    limit: int = -1,
    settings: list[str] | None = None,
    unseen: list[str] | None = None,
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
    changed = with_fields(found, changes)
    return changed if changed == found else replace(changed, name=name_of(found, changed))


def name_of(found: Sweep, changed: Sweep) -> str:
    """A sweep that the command line changed has a name of its own.

    >>> name_of(Sweep(name="main"), Sweep(name="main", suite="pocket14", limit=100))
    'main-pocket14-limit100'
    """
    parts = [found.name]
    if changed.suite != found.suite:
        parts.append(changed.suite)
    if changed.limit != found.limit:
        parts.append(f"limit{changed.limit or 'all'}")
    if changed.tune != found.tune:
        parts.append("no-tune")
    if changed.adapt_on != found.adapt_on:
        parts.append(f"on-{changed.adapt_on}")
    if changed.uncertainty != found.uncertainty:
        parts.append("uncertainty")
    named = ("suite", "limit", "tune", "adapt_on", "uncertainty")
    same = replace(changed, **{field: getattr(found, field) for field in named})
    if same != found:
        parts.append(digest(told(same))[:6])
    return "-".join(parts)


def sweep(
    name: Name = "main",
    suite: Suite = "",
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
    unseen: Annotated[list[str], typer.Option(help=UNSEEN)] = [],  # noqa: B006
    uncertainty: Annotated[bool, typer.Option("--uncertainty", help=UNCERTAINTY)] = False,
    out: Out = OUT,
    jobs: Jobs = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the plan and stop")] = False,
    force: Annotated[bool, typer.Option("--force", help="measure again what is there")] = False,
    wandb: Annotated[Wandb, typer.Option(help="log runs")] = Wandb.auto,
) -> None:
    """Run a comparison; what is finished is not run again. Ends in a leaderboard."""
    changed = chosen_sweep(
        name, suite, methods, shifts, seeds, limit, settings, unseen,
        constants=constants, placement=placement, adapt_on=adapt_on,
        expert_seed=expert_seed if expert_seed >= 0 else None,
        tune=tune if not tune else None, uncertainty=uncertainty or None,
    )  # fmt: skip
    mode(wandb.value)  # a mistake in it is found before the work
    console = Console()
    plan, stages = run_sweep(
        changed, out, jobs=jobs or default_jobs(), force=force, dry_run=dry_run, console=console
    )
    if dry_run:
        return
    leaderboard(plan, stages, out, console, wandb.value)


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
    from bench.speed import compare

    changed = chosen_sweep(name, suite, limit=limit, tune=False)
    compare(name, changed, out, jobs or default_jobs(), Console())
