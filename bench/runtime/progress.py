"""Stages of a long job: a bar while one runs, a line with its time when it is done."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from time import perf_counter

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Advance = Callable[[float], None]  # told how much of the stage is done so far


def shows_bars(console: Console) -> bool:
    """Whether a bar can move: in a terminal, and in a notebook that has widgets."""
    in_notebook = console.is_jupyter and find_spec("ipywidgets") is not None
    return console.is_terminal or in_notebook


@contextmanager
def counting(console: Console, what: str) -> Iterator[Callable[[int], None]]:
    """Show how many things were done, while nobody knows how many there are."""
    columns = TextColumn("{task.description}"), TextColumn("{task.completed:,}")
    silent = not shows_bars(console)
    with Progress(*columns, console=console, transient=True, disable=silent) as progress:
        bar = progress.add_task(what, total=None)
        yield lambda more: progress.update(bar, advance=more)


class Stages:
    """Shows the stages of a job and remembers how long each took."""

    def __init__(self, console: Console):
        self.console = console
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, what: str, total: float) -> Iterator[Advance]:
        """Run one stage of ``total`` units.

        Args:
            name: short, e.g. "experts"; the key in ``seconds``.
            what: what is done, e.g. "8 experts to fine-tune".
            total: how much there is to do; the block calls the yielded function with the part done.
        """
        start = perf_counter()
        columns = (
            TextColumn("  {task.description}"),
            BarColumn(bar_width=28),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        silent = not shows_bars(self.console)
        with Progress(*columns, console=self.console, transient=True, disable=silent) as progress:
            bar = progress.add_task(f"{name:<9}{what}", total=total)
            yield lambda done: progress.update(bar, completed=done)
        self.seconds[name] = perf_counter() - start
        self.console.print(
            f"  [green]done[/]  {name:<9}{what}  [dim]{self.seconds[name]:.1f} s[/]",
            highlight=False,
        )

    def summary(self) -> str:
        """All stages in one line."""
        parts = [f"{name} {seconds:.0f} s" for name, seconds in self.seconds.items()]
        return " | ".join([*parts, f"in all {sum(self.seconds.values()):.0f} s"])
