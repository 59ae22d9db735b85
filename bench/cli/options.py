"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from bench.variants import split

OUT = Path("results/runs")

Out = Annotated[Path, typer.Option(help="folder of the results")]
Jobs = Annotated[int, typer.Option(min=0, help="worker processes; 0 = one per core")]
Suite = Annotated[str, typer.Option(help="see: list suites")]
Methods = Annotated[
    list[str], typer.Option(help="names, see: list methods; or variants, NAME\\[FIELD=VALUE,...]")
]
Shifts = Annotated[list[str], typer.Option(help="clean, L1, gaussian_noise@1,3,5, contrast ...")]
Limit = Annotated[int, typer.Option(help="test images per task, at most; 0 = all")]
Settings = Annotated[list[str], typer.Option("--set", help="METHOD.FIELD=VALUE; not tuned then")]
Unseen = Annotated[
    list[str],
    typer.Option(help="tasks whose experts are not merged; they are measured like the others"),
]
Uncertainty = Annotated[
    bool,
    typer.Option(
        "--uncertainty",
        help="keep how sure methods are of every image: for `table --by uncertainty`",
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(help="images of vision tasks: a folder with a folder (or parquet) for each task"),
]
Val = Annotated[
    str, typer.Option(help="own | as-published: which splits of vision tasks; see the README")
]
ImageBudget = Annotated[
    float | None, typer.Option(help="GB of decoded and corrupted images that are kept; 20")
]
Workers = Annotated[
    int, typer.Option(help="processes that decode images beside each that evaluates; -1 = auto")
]
EncoderName = Annotated[
    str, typer.Option("--encoder", help="pocket-vit | ViT-B-32 | ViT-B-16 | ViT-L-14")
]
Experts = Annotated[
    str, typer.Option(help="hub | finetuned | imported: where the experts come from")
]
Device = Annotated[str, typer.Option(help="auto | cpu | cuda | cuda:NUMBER | mps")]
Precision = Annotated[str, typer.Option(help="32 | bf16: of evaluating; merging always has 32")]


def words(values: list[str]) -> list[str]:
    """Names that may also be joined by commas; what is in brackets belongs to a name.

    >>> words(["ties,average", "individual"])
    ['ties', 'average', 'individual']
    """
    return [name for value in values for name in split(value)]
