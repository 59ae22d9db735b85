"""Options that several commands share, and what they complete to.

What a command imports at its top is loaded before its options are read, so these modules hold
light imports alone: help, completion and a mistake in an option must not wait for torch.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench import index
from bench.variants import split

if TYPE_CHECKING:
    import pandas as pd

OUT = Path("results/runs")
METRICS = "acc | nll | ece | eval_s | oracle_acc | route_acc | route_entropy | route_max"


class Wandb(StrEnum):
    """Where runs are logged."""

    auto = "auto"  # online if logged in, else offline
    online = "online"
    offline = "offline"
    off = "off"


def completed(names: Callable[[], list[str]]) -> Callable[[str], list[str]]:
    """Completes a word to one of ``names()``; after a comma the next of several."""

    def complete(incomplete: str) -> list[str]:
        before, comma, word = incomplete.rpartition(",")
        return [before + comma + name for name in names() if name.startswith(word)]

    return complete


METHOD = completed(index.methods)
TASK = completed(index.tasks)
SUITE = completed(index.suites)
SWEEP = completed(index.sweeps)
SHIFT = completed(index.shifts)

Out = Annotated[Path, typer.Option(help="The folder of the results.")]
Jobs = Annotated[int, typer.Option(min=0, help="Worker processes; 0 takes one for each core.")]
Suite = Annotated[str, typer.Option(help="See `list suites`.", autocompletion=SUITE)]
Methods = Annotated[
    list[str],
    typer.Option(
        help="Names (see `list methods`), or variants of them: NAME\\[FIELD=VALUE,...].",
        autocompletion=METHOD,
    ),
]
Shifts = Annotated[
    list[str],
    typer.Option(help="clean, L1, gaussian_noise@1,3,5, contrast ...", autocompletion=SHIFT),
]
Limit = Annotated[int, typer.Option(help="Use at most so many test images per task; 0 takes all.")]
Settings = Annotated[
    list[str], typer.Option("--set", help="METHOD.FIELD=VALUE; such a field is not tuned.")
]
Unseen = Annotated[
    list[str],
    typer.Option(
        help="Tasks whose experts are not merged; they are measured like the others.",
        autocompletion=TASK,
    ),
]
Uncertainty = Annotated[
    bool,
    typer.Option(
        "--uncertainty",
        help="Keep how sure the methods are of every image, for `table --by uncertainty`.",
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(help="Images of vision tasks: a folder with a folder (or parquet) for each task."),
]
Splits = Annotated[
    str,
    typer.Option(help="own | published: which splits of vision tasks; see docs/protocol.md."),
]
ImageBudget = Annotated[
    float | None, typer.Option(help="GB of decoded and corrupted images that are kept; 20.")
]
Workers = Annotated[
    int, typer.Option(help="Processes that decode images beside each that evaluates; -1 = auto.")
]
EncoderName = Annotated[
    str, typer.Option("--encoder", help="pocket-vit | ViT-B-32 | ViT-B-16 | ViT-L-14")
]
Experts = Annotated[
    str, typer.Option(help="hub | finetuned | imported: where the experts come from.")
]
Device = Annotated[str, typer.Option(help="auto | cpu | cuda | cuda:NUMBER | mps")]
Precision = Annotated[
    str, typer.Option(help="32 | bf16, of evaluating; merging always has 32 bits.")
]
SweepName = Annotated[
    str,
    typer.Option("--sweep", help="Which sweep; by default the latest.", autocompletion=SWEEP),
]
Metric = Annotated[str, typer.Option(help=METRICS)]


def selected(out: Path, sweep: str, methods: list[str]) -> pd.DataFrame:
    """The rows of a sweep, of all methods or of some."""
    from bench.reporting.sweep_index import load_sweep, rows_of

    record = load_sweep(out, sweep)
    if record["left_out"]:
        typer.echo(
            f"not shown, as sweep {record['name']} has shifts or data that they did not see: "
            f"{', '.join(record['left_out'])}; `evaluate` or `results add` them again",
            err=True,
        )
    return rows_of(out, record, words(methods))


def words(values: list[str]) -> list[str]:
    """Names that may also be joined by commas; what is in brackets belongs to a name.

    >>> words(["ties,average", "individual"])
    ['ties', 'average', 'individual']
    """
    return [name for value in values for name in split(value)]
