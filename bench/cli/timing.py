"""``python -m bench time``: what the fast ways are worth, measured beside the others."""

from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console


class What(StrEnum):
    """What is timed."""

    mixing = "mixing"  # per-sample merging over a plain forward and over a loop
    adamerging = "adamerging"  # a step over the published loops


def time(
    what: Annotated[What, typer.Argument(help="mixing | adamerging")],
    encoder: Annotated[str, typer.Option(help="mixing: pocket-vit | ViT-B-32")] = "pocket-vit",
    suite: Annotated[str, typer.Option(help="adamerging: whose experts")] = "pocket8",
    steps: Annotated[int, typer.Option(min=1, help="adamerging: steps of each way")] = 8,
) -> None:
    """Time a fast way against the plain ones, in one run; prints ratios with their spread."""
    if what is What.mixing:
        from bench.timing_mixing import compare

        compare(Console(), encoder)
    else:
        from bench.timing_adamerging import compare as compare_steps

        compare_steps(Console(), suite, steps)
