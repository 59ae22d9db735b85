"""``python -m bench leaderboard`` and ``wandb-sweep``: what W&B is asked to show, and to search."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bench.cli.options import OUT, Methods, Out, words
from bench.errors import UserError
from bench.leaderboard import method_order
from bench.progress import Stages
from bench.records import recorded, rows_of
from results.login import NO_KEY, api_key, contained, mode, unreachable
from results.tables import compare
from results.wandb import PROJECT, Mirror


class Upload(StrEnum):
    """Whether the leaderboard is uploaded."""

    online = "online"
    offline = "offline"


Project = Annotated[str, typer.Option(envvar="WANDB_PROJECT", help="W&B project")]
Entity = Annotated[
    str, typer.Option(envvar="WANDB_ENTITY", help="W&B user or team; default: the account's own")
]


def leaderboard(
    project: Project = PROJECT,
    entity: Entity = "",
    sweep: Annotated[str, typer.Option(help="which sweep; default: the latest")] = "",
    methods: Methods = [],  # noqa: B006
    out: Out = OUT,
    wandb: Annotated[
        Upload, typer.Option(help="offline: kept for `wandb sync`; without the report")
    ] = Upload.online,
) -> None:
    """Upload a sweep's leaderboard to W&B, with a report; both are replaced by the next call."""
    from bench.mirror import publish
    from results.wandb_report import require_workspaces

    record = recorded(out, sweep)
    rows = rows_of(out, record, words(methods))
    if wandb is Upload.online:
        require_workspaces()
        _require_service(out, "or take --wandb offline, which writes no report")
    by = "seen" if (~rows["seen"]).any() else "shift"
    table = compare(rows, by=by, order=method_order())
    console = Console()
    target = Mirror(
        out, record["name"], mode(wandb.value), project, entity or None, say=console.print
    )
    report = publish(target, rows, table, Stages(console))
    console.print(f"  {target.advice()}", style="dim", highlight=False)
    if report:
        console.print(f"report: {report}", soft_wrap=True, highlight=False)
    else:
        console.print("no report: it needs a login (`wandb login`)", highlight=False)


def wandb_sweep(
    file: Annotated[
        str, typer.Argument(help="what to vary: YAML or TOML; or a sweep, in parts. See the README")
    ],
    project: Project = PROJECT,
    entity: Entity = "",
    out: Out = OUT,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="print what W&B would be given, and stop")
    ] = False,
) -> None:
    """Make a W&B Sweep whose agents run `python -m bench sweep`, on as many machines as you like.

    The trial's run is the comparison of its sweep: rank by e.g. best/acc/L2 or acc/ties/clean.
    """
    import yaml

    from bench.wandb_sweep import configuration
    from results.wandb_sweep import make_sweep

    config = configuration(file, () if out == OUT else (f"--out={out}",))
    if dry_run:
        print(yaml.safe_dump(config, sort_keys=False), end="")
        return
    _require_service(out, "or take --dry-run")
    path, address = make_sweep(config, project, entity or None, out)
    console = Console()
    console.print(f"made the W&B Sweep {address}", soft_wrap=True, highlight=False)
    console.print(
        f"on each machine, in this folder: wandb agent {path}", soft_wrap=True, highlight=False
    )


def _require_service(out: Path, advice: str) -> None:
    """Find out before the work what is missing: a key, or the service.

    Raises:
        UserError: either is; one line.
    """
    if os.environ.get("WANDB_MODE", "online") not in ("online", "run", "shared"):
        said = os.environ["WANDB_MODE"]
        raise UserError(f"WANDB_MODE is {said}; unset it, {advice}")
    if not api_key():
        raise UserError(f"{NO_KEY}, {advice}")
    with contained(out, "online"):
        if why := unreachable():
            raise UserError(f"W&B cannot be reached ({why}); try later, {advice}")
