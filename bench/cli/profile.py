"""``python -m bench time``: what the fast ways are worth, measured beside the others."""

from enum import StrEnum
from typing import Annotated

import typer

from bench.cli.options import Methods, words

ENCODER = (
    "mixing: pocket-vit (default) | ViT-B-32; encoders: one of ViT-B-32 ViT-B-16 ViT-L-14, default "
    "all; streaming: one of these, default ViT-B-32; bmm: pocket-vit (default) | ViT-B-32; memory: "
    "default ViT-L-14"
)


class What(StrEnum):
    """What is timed."""

    mixing = "mixing"  # per-sample merging over a plain forward and over a loop
    adamerging = "adamerging"  # a step over the published loops
    encoders = "encoders"  # CLIP's, at full size with random weights
    streaming = "streaming"  # one pass for all methods over one for each
    bmm = "bmm"  # its parts, and a trial's solve over its validation pass
    memory = "memory"  # of merging many large checkpoints from disk


def time(
    what: Annotated[What, typer.Argument(help=" | ".join(What))],
    encoder: Annotated[str, typer.Option(help=ENCODER)] = "",
    suite: Annotated[str, typer.Option(help="adamerging: whose experts")] = "pocket8",
    steps: Annotated[int, typer.Option(min=1, help="adamerging: steps of each way")] = 8,
    experts: Annotated[int, typer.Option(min=1, help="memory: how many")] = 20,
    methods: Methods = [],  # noqa: B006
    layers: Annotated[int, typer.Option(min=0, help="bmm, memory: so many alone; 0 = all")] = 0,
) -> None:
    """Time a fast way against the plain ones, in one run; prints ratios with their spread."""
    from rich.console import Console

    if what is What.mixing:
        from bench.profiling.mixing import compare

        compare(Console(), encoder or "pocket-vit")
    elif what is What.encoders:
        from bench.profiling.encoders import NAMES
        from bench.profiling.encoders import compare as compare_encoders

        compare_encoders(Console(), [encoder] if encoder else NAMES)
    elif what is What.streaming:
        from bench.profiling.streaming import compare as compare_passes

        compare_passes(Console(), encoder or "ViT-B-32")
    elif what is What.bmm:
        from bench.profiling.bmm import compare as compare_parts

        compare_parts(Console(), encoder or "pocket-vit", layers)
    elif what is What.memory:
        from bench.profiling.memory import METHODS_TIMED
        from bench.profiling.memory import compare as compare_memory

        chosen = words(methods) or METHODS_TIMED
        compare_memory(Console(), encoder or "ViT-L-14", experts, chosen, layers)
    else:
        from bench.profiling.adamerging import compare as compare_steps

        compare_steps(Console(), suite, steps)
