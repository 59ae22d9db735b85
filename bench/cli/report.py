"""``python -m bench report``: everything about a sweep as one HTML file."""

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import OUT, Device, Methods, Out, Protocol, shift_words, whole, words
from mergeshift import UserError


def report(
    output: Annotated[Path, typer.Option("-o", help="an .html file")] = Path("report.html"),
    methods: Methods = [],  # noqa: B006
    examples: Annotated[
        int,
        typer.Option(
            parser=whole("--examples"),
            metavar="INTEGER",
            help="test images of each task to show; builds the methods again",
        ),
    ] = 0,
    shifts: Annotated[
        list[str], typer.Option(help="of the examples; clean and the severest of the protocol")
    ] = [],  # noqa: B006
    sweep: Annotated[str, typer.Option("--sweep", help="which sweep; default: the latest")] = "",
    protocol: Protocol = "",
    device: Device = "auto",
    out: Out = OUT,
) -> None:
    """Write one HTML file that needs no network: leaderboard, curves, heatmaps, cost, examples.

    Reliability diagrams are in it after a sweep with --uncertainty.
    """
    from rich.console import Console

    from bench.reporting.html import page_of
    from bench.runtime import devices
    from results.report.page import write

    if output.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"a report is written as .html; got {output.name!r}")
    with devices.using(device):
        text = page_of(out, sweep, words(methods), examples, shift_words(shifts), protocol)
    path = write(output, text)
    size = path.stat().st_size / 1e6
    Console().print(f"wrote {path} ({size:.1f} MB)", highlight=False, markup=False)
