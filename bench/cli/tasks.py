"""``python -m bench tasks``: how images of one's own are understood."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mergeshift import UserError

app = typer.Typer(
    help="Show how images of your own are understood.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


@app.callback()
def options() -> None:
    """Show how images of your own are understood."""


@app.command("inspect")
def inspect(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="The folder of a task, or one for --data-dir.")
    ],
) -> None:
    """Print parts, classes, counts, sizes and modes, and what was left out and why.

    Every picture is decoded. What cannot be used ends in one line and exit code 2.
    """
    from rich.console import Console

    from bench.runtime.progress import counting
    from tasks.sources.inspection import inspect, tasks_in

    console, wrong = Console(soft_wrap=True, highlight=False, markup=False), []
    found = tasks_in(folder.expanduser().resolve())
    for path in found:
        with counting(console, f"looking at {path.name}") as advance:
            lines, error = inspect(path, advance)
        console.print("\n".join(lines))
        wrong += [error] if error else []
    if len(found) > 1:
        console.print(f"{len(found)} tasks: {', '.join(f'local_{path.name}' for path in found)}")
    if wrong:
        more = f" ({len(wrong)} of {len(found)} tasks cannot be used)" if len(found) > 1 else ""
        raise UserError(f"{wrong[0]}{more}")
