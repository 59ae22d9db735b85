"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from bench.lines import split

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


def words(values: list[str]) -> list[str]:
    """Names that may also be joined by commas; what is in brackets belongs to a name.

    >>> words(["ties,average", "individual"])
    ['ties', 'average', 'individual']
    """
    return [name for value in values for name in split(value)]
