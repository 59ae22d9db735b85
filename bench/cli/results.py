"""``python -m bench results add`` and ``template``: external predictions in the tables."""

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import OUT, Out, SweepName
from bench.config import ADAPT_ON
from mergeshift import UserError
from results.prediction_columns import OPTIONAL, WANTED

app = typer.Typer(help="Put external predictions into the tables.",
                  no_args_is_help=True, rich_markup_mode="rich")  # fmt: skip


def columns() -> str:
    """What a file of predictions holds, a line per column."""
    lines = [f"{name}: {text}" for name, text in WANTED.items()]
    return "\n\n".join([*lines, *(f"{name} (optional): {text}" for name, text in OPTIONAL.items())])


@app.command("add", help=f"""Put predictions into the tables of a sweep.

They are checked against the labels of the sweep's test images: every task, shift and image has to
be there once. Columns of the parquet (or .csv) file, a row per prediction:

{columns()}""")  # fmt: skip
def add(
    file: Annotated[Path, typer.Argument(help="a parquet or .csv file")],
    sweep: SweepName = "",
    needs: Annotated[
        str, typer.Option(help="data that it saw beyond weights, e.g. 'unlabelled images'")
    ] = "weights only",
    stores: Annotated[str, typer.Option(help="what it keeps to predict")] = "one model",
    knows_task: Annotated[
        bool, typer.Option("--knows-task", help="it is told the task of each image")
    ] = False,
    adapt_on: Annotated[
        str, typer.Option(help=f"{' | '.join(ADAPT_ON)}: what it adapts on, if it does")
    ] = "",
    cite: Annotated[str, typer.Option(help="BibTeX key of its paper")] = "",
    force: Annotated[
        bool, typer.Option("--force", help="put it in the place of another of the same name")
    ] = False,
    out: Out = OUT,
) -> None:
    """Put predictions into the tables of a sweep."""
    from rich.console import Console

    from bench.reporting import submissions
    from bench.reporting.submissions import Origin

    if adapt_on not in ("", *ADAPT_ON):
        raise UserError(f"--adapt-on is one of {', '.join(ADAPT_ON)}; got {adapt_on!r}")
    origin = Origin(needs=needs, stores=stores, knows_task=knows_task, adapt_on=adapt_on, cite=cite)
    found = submissions.add(file, out, sweep, origin, force)
    text = f"added {', '.join(found.methods)} to sweep {found.sweep}: {found.num_cells} cells"
    if found.left_out:
        text += f"; left out, as the sweep does not have them: {', '.join(found.left_out)}"
    Console().print(text, highlight=False, markup=False)


@app.command("template")
def template(
    output: Annotated[Path, typer.Option("-o", help="a .parquet file")],
    sweep: SweepName = "",
    out: Out = OUT,
) -> None:
    """Write a file with a row for every prediction that a sweep asks for, to be filled in."""
    from rich.console import Console

    from bench.reporting import submissions

    count = submissions.template(out, sweep, output)
    Console().print(f"wrote {output}: {count:,} predictions to fill in", highlight=False)
