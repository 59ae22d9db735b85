"""``python -m bench evaluate``: a merged model of your own in the tables of a sweep."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.files import Tower, notices
from bench.cli.options import (
    OUT,
    DataDir,
    Device,
    EncoderName,
    Heads,
    Jobs,
    Limit,
    Out,
    Precision,
    Protocol,
    Shifts,
    Suite,
    Temperature,
    Uncertainty,
    Unseen,
    Wandb,
)

FORCE = "measure again what is there; put it in the place of another of the same name"


def evaluate(
    weights: Annotated[
        Path, typer.Option(help="an image tower, or a whole CLIP: a file, or a folder with one")
    ],
    name: Annotated[str, typer.Option(help="as printed in tables; default: the file's name")] = "",
    sweep: Annotated[str, typer.Option(help="measure the cells of this sweep")] = "main",
    suite: Suite = "",
    encoder: EncoderName = "",
    heads: Heads = "",
    data_dir: DataDir = None,
    shifts: Shifts = [],  # noqa: B006
    limit: Limit = -1,
    unseen: Unseen = [],  # noqa: B006
    uncertainty: Uncertainty = False,
    temperature: Temperature = False,
    device: Device = "auto",
    precision: Precision = "",
    protocol: Protocol = "",
    out: Out = OUT,
    jobs: Jobs = 0,
    force: Annotated[bool, typer.Option("--force", help=FORCE)] = False,
    tower: Tower = "",
) -> None:
    """Put weights from elsewhere into the tables of a sweep.

    Of a sweep with --unseen, --heads, --protocol, --uncertainty or --temperature, give the same
    here.
    """
    from rich.console import Console

    from bench.cli.sweep import chosen_sweep
    from bench.reporting.leaderboard import leaderboard
    from bench.runtime import devices
    from bench.sweep import run_weights
    from tasks.settings import using

    changed = chosen_sweep(
        sweep, suite, None, shifts, None, limit, unseen=unseen, uncertainty=uncertainty or None,
        encoder=encoder, precision=precision, heads=heads, protocol=protocol,
        temperature=temperature or None,
    )  # fmt: skip
    with using(data_dir), devices.using(device), notices():
        plan, stages = run_weights(
            replace(changed, methods=("pretrained",), seeds=(0,), settings=(), tune=False),
            weights,
            name or weights.stem,
            out,
            jobs=jobs or devices.jobs(),
            force=force,
            console=Console(),
            wanted=tower,
        )
    leaderboard(plan, stages, out, Console(), Wandb.off.value)
