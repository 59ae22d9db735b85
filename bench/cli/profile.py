"""``python -m bench profile``: what fast ways, and intervals, are worth."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import OUT, SWEEP, Jobs, Limit, Methods, Suite, whole, words
from mergeshift import UserError

ENCODER = (
    "mixing: pocket-vit (default) | ViT-B-32; encoders: one of ViT-B-32 ViT-B-16 ViT-L-14, default "
    "all; streaming: one of these, default ViT-B-32; bmm, merges: pocket-vit (default) | ViT-B-32; "
    "memory: default ViT-L-14"
)


class What(StrEnum):
    """What is timed, or simulated."""

    mixing = "mixing"  # per-sample merging over a plain forward and over a loop
    adamerging = "adamerging"  # a step over the published loops
    encoders = "encoders"  # CLIP's, at full size with random weights
    streaming = "streaming"  # one pass for all methods over one for each
    bmm = "bmm"  # its parts, and a trial's solve over its validation pass
    memory = "memory"  # of merging many large checkpoints from disk
    merges = "merges"  # of every method that keeps one model: seconds and memory
    sweep = "sweep"  # a whole sweep over the bare forward passes that it makes
    coverage = "coverage"  # of intervals, in simulated sweeps: how often they hold the truth
    startup = "startup"  # help, completion, mistakes, stored tables: CPU seconds of each


def profile(
    what: Annotated[What, typer.Argument(help=" | ".join(What))],
    name: Annotated[
        str, typer.Argument(help="sweep: which one is timed.", autocompletion=SWEEP)
    ] = "main",
    encoder: Annotated[str, typer.Option(help=ENCODER)] = "",
    suite: Suite = "",
    steps: Annotated[
        int,
        typer.Option(
            parser=whole("--steps", 1), metavar="INTEGER", help="adamerging: steps of each way."
        ),
    ] = 8,
    experts: Annotated[
        int,
        typer.Option(
            parser=whole("--experts"),
            metavar="INTEGER",
            help="memory, merges: how many; 0 = 20 and 8.",
        ),
    ] = 0,
    methods: Methods = [],  # noqa: B006
    layers: Annotated[
        int,
        typer.Option(
            parser=whole("--layers"),
            metavar="INTEGER",
            help="bmm, memory, merges: so many alone; 0 = all.",
        ),
    ] = 0,
    limit: Limit = -1,
    out: Annotated[
        Path | None,
        typer.Option(
            help="sweep: kept results; startup: results that `table` and `plot` show; merges: what "
            "is measured is kept in OUT/profiles."
        ),
    ] = None,
    runs: Annotated[
        int,
        typer.Option(
            parser=whole("--runs", 1), metavar="INTEGER", help="startup: how often each is run."
        ),
    ] = 3,
    draws: Annotated[
        int,
        typer.Option(
            parser=whole("--draws", 1), metavar="INTEGER", help="coverage: sweeps simulated a line."
        ),
    ] = 1000,
    jobs: Jobs = 0,
) -> None:
    """Time a fast way against the plain ones, in one run; print ratios with their spread.

    Of coverage: simulate sweeps over one or more sets of experts, and print how often the 95 %
    intervals of tables hold the truth, and which differences they detect.

    The time of a sweep is that of `sweep --force --no-tune`, of the methods that do not learn, over
    that of the bare forward passes it makes.
    """
    from rich.console import Console

    console = Console()
    if name != "main" and what is not What.sweep:
        raise UserError(f"`profile {what}` takes no sweep; got {name!r}")
    if what in (What.sweep, What.startup, What.coverage):
        _profile_whole(what, name, suite, limit, out, runs, draws, jobs)
    elif what is What.mixing:
        from bench.profiling.mixing import profile_mixing

        profile_mixing(console, encoder or "pocket-vit")
    elif what is What.encoders:
        from bench.profiling.encoders import NAMES, profile_encoders

        profile_encoders(console, [encoder] if encoder else NAMES)
    elif what is What.streaming:
        from bench.profiling.streaming import profile_streaming

        profile_streaming(console, encoder or "ViT-B-32")
    elif what is What.bmm:
        from bench.profiling.bmm import profile_bmm

        profile_bmm(console, encoder or "pocket-vit", layers)
    elif what in (What.memory, What.merges):
        _profile_merging(what, encoder, experts, words(methods), out, layers)
    else:
        from bench.profiling.adamerging import profile_adamerging

        profile_adamerging(console, suite or "pocket8", steps)


def _profile_merging(
    what: What, encoder: str, experts: int, methods: list[str], out: Path | None, layers: int
) -> None:
    """Merges of random experts, each in a process of its own."""
    from rich.console import Console

    if what is What.merges:
        from bench.profiling.merges import profile_merges

        profile_merges(Console(), encoder or "pocket-vit", experts or 8, methods, out, layers)
        return
    from bench.profiling.memory import METHODS_TIMED, profile_memory

    profile_memory(
        Console(), encoder or "ViT-L-14", experts or 20, methods or METHODS_TIMED, layers
    )


def _profile_whole(
    what: What,
    name: str,
    suite: str,
    limit: int,
    out: Path | None,
    runs: int,
    draws: int,
    jobs: int,
) -> None:
    """Whole commands, each in a process of its own; and whole sweeps that are simulated."""
    from rich.console import Console

    if what is What.coverage:
        from bench.profiling.coverage import profile_coverage

        profile_coverage(Console(), draws)
        return
    if what is What.startup:
        from bench.profiling.startup import profile_startup

        profile_startup(Console(), out or OUT, runs)
        return
    from bench.cli.sweep import chosen_sweep
    from bench.profiling.sweep import profile_sweep
    from bench.runtime.workers import default_jobs

    changed = chosen_sweep(name, suite, limit=limit, tune=False)
    profile_sweep(name, changed, out, jobs or default_jobs(), Console())
