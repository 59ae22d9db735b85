"""Options that several commands share, and what they complete to.

What a command imports at its top is loaded before its options are read, so these modules hold
light imports alone: help, completion and a mistake in an option must not wait for torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench import index
from bench.variants import split
from mergeshift import UserError

if TYPE_CHECKING:
    import pandas as pd

OUT = Path("results/runs")
LARGEST = 2**63 - 1  # of the integers that are stored
MANY = 1000  # numbers that one range may stand for
PROCESSES = 512  # that one command may start; more is a slip of the hand
METRICS = (
    "acc | nll | ece | aece | dece | brier | aurc | bacc | worst_acc | "
    "nll_ts | ece_ts | aece_ts | brier_ts | temperature | eval_s | "
    "oracle_acc | attack_rate | route_acc | route_entropy | route_max | norm_chance | robustness"
)


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
METRIC = completed(lambda: METRICS.split(" | "))


def whole(option: str, least: int = 0, most: int = LARGEST) -> Any:
    """What reads the one whole number of an option: digits alone, so that no range becomes one.

    >>> whole("--limit")("20")
    20
    """

    def read(text: Any) -> Any:
        if not isinstance(text, str):  # the default, which may stand outside the bounds
            return text
        good = re.fullmatch(r"\s*-?[0-9]+\s*", text)
        if not good or not least <= int(text) <= most:
            bounds = f"at least {least}" if most == LARGEST else f"{least} to {most}"
            raise UserError(f"{option} is a whole number, {bounds}; got {text!r}")
        return int(text)

    return read


def number(option: str) -> Any:
    """What reads the one number of an option: finite, and at least 0."""

    def read(text: Any) -> Any:
        if not isinstance(text, str):
            return text
        try:
            value = math.nan if "_" in text else float(text)
        except ValueError:
            value = math.nan
        if not 0 <= value < math.inf:
            raise UserError(f"{option} is a number from 0 on; got {text!r}")
        return value

    return read


Out = Annotated[Path, typer.Option(help="The folder of the results.")]
Folders = Annotated[
    list[Path],
    typer.Option(
        "--results", help="Folders of results, several in one table; takes the place of --out."
    ),
]
Jobs = Annotated[
    int,
    typer.Option(
        parser=whole("--jobs", most=PROCESSES),
        metavar="INTEGER",
        help="Worker processes; 0 takes one for each core.",
    ),
]
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
Limit = Annotated[
    int,
    typer.Option(
        parser=whole("--limit"),
        metavar="INTEGER",
        show_default=False,
        help="Use at most so many test images per task; 0 takes all.",
    ),
]
ValLimit = Annotated[
    int,
    typer.Option(
        parser=whole("--val-limit"),
        metavar="INTEGER",
        show_default=False,
        help="val images of a task to tune on, at most; 0 takes all",
    ),
]
Loggers = Annotated[
    list[str],
    typer.Option(
        "--logger", help="tensorboard | csv: also write runs so, under OUT/tensorboard, OUT/csv."
    ),
]
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
ExtraExperts = Annotated[
    list[str],
    typer.Option(
        "--extra-experts",
        help="Tasks outside of the suite whose experts are merged as well; not measured.",
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
Temperature = Annotated[
    bool,
    typer.Option(
        "--temperature",
        help="Fit one temperature to each method on clean val, for `table --metric ece_ts` etc.",
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
    float | None,
    typer.Option(
        parser=number("--image-budget"),
        metavar="NUMBER",
        help="GB of decoded and corrupted images that are kept; 20.",
    ),
]
Workers = Annotated[
    int,
    typer.Option(
        parser=whole("--workers", -1, PROCESSES),
        metavar="INTEGER",
        show_default=False,
        help="Processes that decode images beside each that evaluates; -1 = auto.",
    ),
]
EncoderName = Annotated[
    str,
    typer.Option(
        "--encoder",
        help="pocket-vit | ViT-B-32 | ViT-B-16 | ViT-L-14, or MODEL:TAG of open_clip, as in "
        "ViT-B-32:laion2b_s34b_b79k",
    ),
]
Experts = Annotated[
    str, typer.Option(help="hub | finetuned | imported: where the experts come from.")
]
Heads = Annotated[
    str,
    typer.Option(
        help="text | prototypes: heads of captions, or of class means of the train pictures; "
        "by default captions, if the encoder knows their words."
    ),
]
Device = Annotated[str, typer.Option(help="auto | cpu | cuda | cuda:NUMBER | mps")]
Precision = Annotated[
    str, typer.Option(help="32 | bf16, of evaluating; merging always has 32 bits.")
]
Protocol = Annotated[
    str,
    typer.Option(
        "--protocol",
        help="task | mixed-task | hidden-task: how test images are put before the models.",
    ),
]
SweepName = Annotated[
    str,
    typer.Option("--sweep", help="Which sweep; by default the latest.", autocompletion=SWEEP),
]
Metric = Annotated[str, typer.Option(help=METRICS, autocompletion=METRIC)]


def selected(
    folders: Sequence[Path], sweep: str, methods: list[str], protocol: str = ""
) -> pd.DataFrame:
    """The rows of a sweep, of all methods or of some; of several folders together."""
    from bench.reporting.sweep_index import load_sweep, rows_of_all

    records = [(out, load_sweep(out, sweep, protocol=protocol)) for out in folders]
    for _, record in records:
        if record["left_out"]:
            typer.echo(
                f"not shown, as sweep {record['name']} has shifts or data that they did not see: "
                f"{', '.join(record['left_out'])}; `evaluate` or `results add` them again",
                err=True,
            )
    return rows_of_all(records, words(methods))


def words(values: list[str]) -> list[str]:
    """Names that may also be joined by commas; what is in brackets belongs to a name.

    >>> words(["ties, average", "individual"])
    ['ties', 'average', 'individual']
    """
    return [name.strip() for value in values for name in split(value)]


def parts(values: Sequence[str]) -> list[str]:
    """What stands between commas or blanks, for lists of what holds neither.

    >>> parts(["0, 1", "2 3,"])
    ['0', '1', '2', '3']
    """
    return [part for value in values for part in re.split(r"[,\s]+", value) if part]


def shift_words(values: Sequence[str]) -> list[str]:
    """Shifts, see :func:`parts`; numbers behind ``@`` are severities of the one before.

    >>> shift_words(["clean,L1", "fog@1-3,5 contrast", "jpeg_compression@2", "4"])
    ['clean', 'L1', 'fog@1,2,3,5', 'contrast', 'jpeg_compression@2,4']
    """
    found: list[str] = []
    open_ = False  # whether a number would be one more severity
    for part in parts(values):
        name, at, severities = part.partition("@")
        if open_ and re.fullmatch(r"[0-9]+(-[0-9]+)?", part):
            found[-1] += "," + ",".join(map(str, numbers([part], "severities")))
        else:
            if re.fullmatch(r"[0-9]+-[0-9]+", severities):
                part = f"{name}@{','.join(map(str, numbers([severities], 'severities')))}"
            found.append(part)
            open_ = bool(at)
    return found


def setting_words(values: Sequence[str]) -> list[str]:
    """Settings that may also be joined by commas; a comma before a word without = is text.

    >>> setting_words(["ties.keep=0.1,ties.merge=sum", "average.note=a,b"])
    ['ties.keep=0.1', 'ties.merge=sum', 'average.note=a,b']
    """
    return [
        part.strip() for value in values for part in re.split(r",(?=\s*[\w.]+=)", value)
        if part.strip()
    ]  # fmt: skip


def numbers(texts: Sequence[str], what: str) -> tuple[int, ...]:
    """Whole numbers from 0 and ranges of them, each once, in order.

    Args:
        texts: each a number, a range, or several joined by commas or blanks.
        what: they are, for the message.

    Raises:
        UserError: a text is neither, or a range goes down or stands for very many.

    >>> numbers(["0-2", "2, 7 9"], "seeds")
    (0, 1, 2, 7, 9)
    """
    found: dict[int, None] = {}
    for part in parts(texts):
        match = re.fullmatch(r"([0-9]{1,18})(?:-([0-9]{1,18}))?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first:
            raise UserError(
                f"{what} are whole numbers from 0, as 0 or 0-2 or 0,1,2 or 0 1 2; got {part!r}"
            )
        if last - first >= MANY:
            raise UserError(f"{what} {part} are {last - first + 1}; give at most {MANY} at once")
        found |= dict.fromkeys(range(first, last + 1))
    if texts and not found:
        raise UserError(f"{what} are whole numbers from 0, as 0 or 0-2 or 0,1,2; got {texts[0]!r}")
    return tuple(found)
