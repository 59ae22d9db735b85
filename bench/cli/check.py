"""``python -m bench check``: the contract of a method, a corruption or a task."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from mergeshift import Registry, UserError

if TYPE_CHECKING:
    from corruptions.base import Corruption
    from methods.base import MergingMethod
    from tasks.task import Task

Check = tuple[str, str, Callable[[], None]]  # its name, what it says, and the check itself


def check(
    name: Annotated[str, typer.Argument(help="a method, a corruption or a task: see list")],
) -> None:
    """Run the contract on a method, a corruption or a task.

    It has to hold for whatever is registered; a task is built or downloaded for it.
    """
    from rich.console import Console

    failed = 0
    for title, says, run in checks_of(name):
        try:
            run()
            verdict = "[green]ok[/]"
        except (AssertionError, PermissionError, UserError) as reason:
            first = next(iter(str(reason).strip().splitlines()), f"does not hold: {says}")
            verdict, failed = f"[red]{escape(first)}[/]", failed + 1
        Console().print(f"  {title:<44} {verdict}", highlight=False)
    if failed:
        raise typer.Exit(1)


def checks_of(name: str) -> list[Check]:
    """The contract of what has this name.

    Raises:
        UnknownNameError: nothing has.
    """
    from corruptions.base import CORRUPTIONS
    from methods import METHODS
    from tasks import TASKS

    if name in METHODS:
        return of_method(METHODS[name])
    if name in CORRUPTIONS:
        return of_corruption(CORRUPTIONS[name])
    if name in TASKS:
        return of_task(TASKS[name])
    known: Registry[None] = Registry("method, corruption or task")
    for other in dict.fromkeys([*METHODS, *CORRUPTIONS, *TASKS]):
        known.add(other, None)
    raise AssertionError(known[name])  # never: the look-up says which names there are


def of_method(cls: type[MergingMethod]) -> list[Check]:
    """Each check on a tiny zoo of its own: it may spoil what it is given.

    Without those that the contract says the method cannot keep.
    """
    from methods.contract import EXEMPT, all_checks, small_checkpoints

    def run(one: Callable[..., None]) -> None:
        one(cls, small_checkpoints())

    kept = [one for one in all_checks() if (cls.name, one.__name__) not in EXEMPT]
    return [_named(one, partial(run, one)) for one in kept]


def of_corruption(corrupt: Corruption) -> list[Check]:
    """Each check with both sets of constants."""
    from corruptions.base import CONSTANTS
    from corruptions.contract import CHECKS

    return [
        _named(one, partial(one, corrupt, constants), f", {constants}")
        for constants in CONSTANTS
        for one in CHECKS
    ]


def of_task(task: Task) -> list[Check]:
    """Each check."""
    from tasks.contract import CHECKS

    return [_named(one, partial(one, task)) for one in CHECKS]


def _named(one: Callable[..., None], run: Callable[[], None], of: str = "") -> Check:
    title = one.__name__.removeprefix("check_") + of
    return title, (one.__doc__ or "").partition("\n")[0], run
