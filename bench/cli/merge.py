"""``python -m bench merge``: checkpoints of your own, merged."""

from __future__ import annotations

import json
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import typer

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
