"""``python -m bench table --published`` and ``reproduce``: ours against what others published."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from bench.cli.options import OUT, Device, Jobs, Limit, Out
from mergeshift import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from bench.reproduce import Finding, Reproduction


def reproduce(
    name: Annotated[str, typer.Argument(help="which row; none: list them")] = "",
    limit: Limit = 0,
    out: Out = OUT,
    jobs: Jobs = 0,
    device: Device = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the plan and stop")] = False,
) -> None:
    """Run a published row again, on its images with its constants, and say how near we come.

    With --limit, on the first test images alone, the tolerances grow by our interval over images.
    Exit code 1 if a number lies outside its tolerance, or was not published.
    """
    from rich.console import Console

    from bench.reproduce import REPRODUCTIONS, summary, tolerances
    from bench.reproduce import reproduce as run_again
    from bench.runtime import devices

    console = Console()
    if not name:
        console.print(listed())
        return
    wanted = REPRODUCTIONS[name]
    if limit < 0:
        raise UserError(f"--limit is a number of images, or 0 for all; got {limit}")
    with devices.using(device):
        found = run_again(
            wanted,
            out,
            jobs=jobs or devices.jobs(),
            limit=limit or None,
            dry_run=dry_run,
            console=console,
        )
    if dry_run:
        return
    console.print()
    console.print(comparison(wanted, found))
    for sentence in (tolerances(wanted, found), summary(wanted, found)):
        console.print(sentence, highlight=False, markup=False)
    if not all(one.agrees for one in found):
        raise typer.Exit(1)


def listed() -> Table:
    """Every row that can be run again."""
    from rich.table import Table

    from bench.reproduce import REPRODUCTIONS

    shown = Table(box=None, show_header=False)
    shown.add_column(style="bold", no_wrap=True)
    shown.add_column(overflow="fold")
    for one in REPRODUCTIONS.values():
        copies = f" and {len(one.copies)} corrupted copies of it" if one.copies else ""
        what = f"{', '.join(one.methods)} on {one.suite}{copies} with {one.encoder}"
        shown.add_row(one.name, f"{escape(what)} [dim]({one.source})[/]")
    return shown


def comparison(wanted: Reproduction, found: list[Finding]) -> Table:
    """Ours, published, difference, tolerance, verdict; of many copies, means and what is off."""
    from rich.table import Table

    from results.published import sources
    from results.tables.columns import MEAN
    from results.tables.layout import points

    title = sources.sources()[wanted.source].title
    head = ("ours", "published", "difference", "tolerance")
    shown = Table(f"{wanted.name}, against {title}", box=None)
    for text in head:
        shown.add_column(text, justify="right")
    shown.add_column("verdict")
    methods = list(dict.fromkeys(one.title for one in found))
    for one in found:
        if wanted.copies and one.task != MEAN and one.agrees:
            continue
        parts = [one.title] * (len(methods) > 1) + [one.images] * bool(wanted.copies)
        numbers = [points(one.ours, decimals=2), points(one.published, decimals=2),
                   points(one.difference, "+", 2), points(one.tolerance, decimals=2)]  # fmt: skip
        verdict = "agrees" if one.agrees else "DIFFERS" if one.compares else "not published"
        shown.add_row(escape(", ".join([*parts, one.task])), *numbers, verdict)
    return shown
