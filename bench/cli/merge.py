"""``python -m bench merge``: checkpoints of your own, merged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.files import ModelFormat, Tower, notices, numbered, require_free
from bench.cli.options import EncoderName, setting_words
from mergeshift import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from methods.common.config import BaseConfig


def merge(
    method: Annotated[str, typer.Option(help="see: list methods")],
    base: Annotated[Path, typer.Option(help="the pretrained weights")],
    expert: Annotated[
        list[Path], typer.Option(help="one fine-tuned copy; give several (twice: counts twice)")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="a .safetensors file; with --format a folder")
    ],
    settings: Annotated[list[str], typer.Option("--set", help="FIELD=VALUE,...")] = [],  # noqa: B006
    tower: Tower = "",
    format: ModelFormat = "",
    encoder: EncoderName = "",
    force: Annotated[bool, typer.Option("--force", help="replace the output if it exists")] = False,
) -> None:
    """Merge checkpoints of your own: safetensors, or torch files that hold tensors alone.

    With --format and --encoder, image towers of CLIP become a model that is ready to be shared.
    """
    from rich.console import Console

    from bench.zoo.conversion import require_one_format
    from bench.zoo.model_config import require_one_model
    from methods import METHODS
    from methods import merge as merge_states
    from methods.common.state_dicts import load_checkpoint, under
    from methods.common.weights import save_checkpoint

    wanted = targets_of(output, format, encoder)
    start = perf_counter()
    config: BaseConfig = METHODS[method].Config.parse(setting_words(settings))
    paths = numbered(expert)
    read = [load_checkpoint(path) for path in (base, *paths.values())]
    for target in wanted:
        require_free(target, [file for one in read for file in one.files], force)
    require_one_model([one.files[0] for one in read])
    called = [str(path) for path in (base, *paths.values())]
    require_one_format([(at, one.weights) for at, one in zip(called, read, strict=True)])
    theta_0, *models = under(tower, read)
    experts = {name: one.weights for name, one in zip(paths, models, strict=True)}
    with notices():
        merged = merge_states(method, theta_0.weights, experts, **config.as_dict())
        tensors = {**merged, **theta_0.others}
        facts = {"method": method, "config": config.as_dict()}
        facts["experts"] = [path.name for path in paths.values()]
        if format:
            write_model(tensors, facts, output, format, encoder)
        else:  # one entry: no order, same file
            save_checkpoint(output, tensors, {"merge": json.dumps(facts, sort_keys=True)})
    Console().print(
        f"merged {len(experts)} expert{'s' * (len(experts) != 1)} with {method} {config.as_dict()} "
        f"into {output} ({sum(t.numel() for t in merged.values()):,} entries, "
        f"{perf_counter() - start:.1f} s)",
        highlight=False,
        soft_wrap=True,
    )


def targets_of(output: Path, format: str, encoder: str) -> list[Path]:
    """The files that are written.

    Raises:
        UserError: the output is none that the format has, or the format lacks its encoder.
    """
    from bench.zoo.import_export import targets

    if format:
        if not encoder:
            raise UserError(
                f"--format {format} needs --encoder NAME: weights do not tell what they compute"
            )
        return targets(output, format)
    if encoder:
        raise UserError("--encoder is for --format hf | open_clip; give that, too")
    if output.suffix != ".safetensors":
        raise UserError(f"the merged weights are written as safetensors; got {output.name!r}")
    return [output]


def write_model(
    tensors: Mapping[str, Tensor],
    facts: Mapping[str, Any],
    folder: Path,
    format: str,
    encoder: str,
) -> None:
    """Write what was merged as a model of transformers or open_clip, with its card.

    Raises:
        UserError: it is no image tower of this encoder.
    """
    from bench.reporting.model_card import Origin, model_card
    from bench.zoo.conversion import fitted
    from bench.zoo.encoders import ENCODERS
    from bench.zoo.import_export import write_out

    found = ENCODERS[encoder]
    weights = fitted(tensors, found.vit, "what was merged", found.base()["proj"])
    origin = Origin(
        encoder=found,
        method=facts["method"],
        settings=facts["config"],
        experts=facts["experts"],
    )
    write_out(weights, found, folder, format, model_card(origin, format))
