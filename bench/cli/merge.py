"""``python -m bench merge``, ``evaluate`` and ``check``."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.options import (
    OUT,
    Device,
    EncoderName,
    Jobs,
    Limit,
    Out,
    Precision,
    Shifts,
    Suite,
    Uncertainty,
    Unseen,
    Wandb,
)
from mergeshift import UserError

if TYPE_CHECKING:
    from methods.common.config import BaseConfig


def merge(
    method: Annotated[str, typer.Option(help="see: list methods")],
    base: Annotated[Path, typer.Option(help="the pretrained weights")],
    expert: Annotated[list[Path], typer.Option(help="one fine-tuned copy; give several")],
    output: Annotated[Path, typer.Option("-o", "--output", help="a .safetensors file")],
    settings: Annotated[list[str], typer.Option("--set", help="FIELD=VALUE")] = [],  # noqa: B006
) -> None:
    """Merge checkpoints of your own: safetensors, or torch files that hold tensors alone."""
    from rich.console import Console

    from methods import METHODS
    from methods import merge as merge_states
    from methods.common.weights import load_checkpoint, save_checkpoint

    if output.suffix != ".safetensors":
        raise UserError(f"the merged weights are written as safetensors; got {output.name!r}")
    start = perf_counter()
    config: BaseConfig = METHODS[method].Config.parse(settings)
    theta_0, others = load_checkpoint(base)
    experts = {str(path): load_checkpoint(path)[0] for path in expert}
    merged = merge_states(method, theta_0, experts, **config.as_dict())
    facts = json.dumps({"method": method, "config": config.as_dict()}, sort_keys=True)
    save_checkpoint(
        output, {**merged, **others}, {"merge": facts}
    )  # one entry: no order, same file
    Console().print(
        f"merged {len(experts)} experts with {method} {config.as_dict()} into {output} "
        f"({sum(t.numel() for t in merged.values()):,} entries, {perf_counter() - start:.1f} s)",
        highlight=False,
    )


def evaluate(
    weights: Annotated[Path, typer.Option(help="an image tower, or a whole CLIP")],
    name: Annotated[str, typer.Option(help="as printed in tables; default: the file's name")] = "",
    sweep: Annotated[str, typer.Option(help="measure the cells of this sweep")] = "main",
    suite: Suite = "",
    encoder: EncoderName = "",
    shifts: Shifts = [],  # noqa: B006
    limit: Limit = -1,
    unseen: Unseen = [],  # noqa: B006
    uncertainty: Uncertainty = False,
    device: Device = "auto",
    precision: Precision = "",
    out: Out = OUT,
    jobs: Jobs = 0,
    force: Annotated[bool, typer.Option("--force", help="measure again what is there")] = False,
) -> None:
    """Put weights from elsewhere into the tables of a sweep.

    Of a sweep with --unseen or --uncertainty, give the same here.
    """
    from rich.console import Console

    from bench.cli.sweep import chosen_sweep
    from bench.reporting.leaderboard import leaderboard
    from bench.runtime import devices
    from bench.sweep import run_weights

    changed = chosen_sweep(
        sweep, suite, None, shifts, None, limit, unseen=unseen, uncertainty=uncertainty or None,
        encoder=encoder, precision=precision,
    )  # fmt: skip
    with devices.using(device):
        plan, stages = run_weights(
            replace(changed, methods=("pretrained",), seeds=(0,), settings=(), tune=False),
            weights,
            name or weights.stem,
            out,
            jobs=jobs or devices.jobs(),
            force=force,
            console=Console(),
        )
    leaderboard(plan, stages, out, Console(), Wandb.off.value)


def check(method: Annotated[str, typer.Argument(help="see: list methods")]) -> None:
    """Run the contract that every method must satisfy on one method."""
    from rich.console import Console

    from methods import METHODS
    from methods.contract import all_checks, small_checkpoints

    cls, failed = METHODS[method], 0
    for one in all_checks():
        try:
            one(cls, small_checkpoints())
            verdict = "[green]ok[/]"
        except (AssertionError, PermissionError, UserError) as reason:
            verdict, failed = f"[red]{reason}[/]", failed + 1
        Console().print(f"  {one.__name__.removeprefix('check_'):<44} {verdict}", highlight=False)
    if failed:
        raise typer.Exit(1)
