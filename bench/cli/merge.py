"""``python -m bench merge``: checkpoints of your own, merged."""

from __future__ import annotations

import json
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.files import Tower, notices, numbered, require_free
from bench.cli.options import setting_words
from mergeshift import UserError

if TYPE_CHECKING:
    from methods.common.config import BaseConfig


def merge(
    method: Annotated[str, typer.Option(help="see: list methods")],
    base: Annotated[Path, typer.Option(help="the pretrained weights")],
    expert: Annotated[
        list[Path], typer.Option(help="one fine-tuned copy; give several (twice: counts twice)")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="a .safetensors file")],
    settings: Annotated[list[str], typer.Option("--set", help="FIELD=VALUE,...")] = [],  # noqa: B006
    tower: Tower = "",
    force: Annotated[bool, typer.Option("--force", help="replace the output if it exists")] = False,
) -> None:
    """Merge checkpoints of your own: safetensors, or torch files that hold tensors alone."""
    from rich.console import Console

    from bench.zoo.conversion import require_one_format
    from bench.zoo.model_config import require_one_model
    from methods import METHODS
    from methods import merge as merge_states
    from methods.common.state_dicts import load_checkpoint, under
    from methods.common.weights import save_checkpoint

    if output.suffix != ".safetensors":
        raise UserError(f"the merged weights are written as safetensors; got {output.name!r}")
    start = perf_counter()
    config: BaseConfig = METHODS[method].Config.parse(setting_words(settings))
    paths = numbered(expert)
    read = [load_checkpoint(path) for path in (base, *paths.values())]
    require_free(output, [file for one in read for file in one.files], force)
    require_one_model([one.files[0] for one in read])
    called = [str(path) for path in (base, *paths.values())]
    require_one_format([(at, one.weights) for at, one in zip(called, read, strict=True)])
    theta_0, *models = under(tower, read)
    experts = {name: one.weights for name, one in zip(paths, models, strict=True)}
    with notices():
        merged = merge_states(method, theta_0.weights, experts, **config.as_dict())
        facts = json.dumps({"method": method, "config": config.as_dict()}, sort_keys=True)
        tensors = {**merged, **theta_0.others}
        save_checkpoint(output, tensors, {"merge": facts})  # one entry: no order, same file
    Console().print(
        f"merged {len(experts)} expert{'s' * (len(experts) != 1)} with {method} {config.as_dict()} "
        f"into {output} ({sum(t.numel() for t in merged.values()):,} entries, "
        f"{perf_counter() - start:.1f} s)",
        highlight=False,
        soft_wrap=True,
    )
