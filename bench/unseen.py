"""Tasks whose experts are left out of merging: which, and how they are measured all the same.

Their heads and test images are used to evaluate what was merged from the others. Nothing else of
them is: they are not adapted on, not tuned on, and no method knows that they exist.
"""

from collections.abc import Sequence

from bench.config import Run
from bench.errors import UserError
from bench.zoo.encoders import ENCODERS
from methods import MergingMethod
from methods.weights import Held
from tasks import Task, suite


def unseen_of(names: Sequence[str], tasks: Sequence[Task], suite_name: str) -> tuple[str, ...]:
    """``names`` in the order of ``tasks``.

    Raises:
        UserError: one is no task of the suite, or no task is left to merge.
    """
    known = [task.name for task in tasks]
    if odd := [name for name in names if name not in known]:
        raise UserError(
            f"unseen tasks are tasks of the suite; {suite_name} has no {odd[0]!r}, "
            f"it has: {', '.join(known)}"
        )
    if set(names) >= set(known):
        raise UserError(f"every task of {suite_name} is unseen: leave an expert to merge")
    return tuple(name for name in known if name in names)


def seen_of(run: Run) -> list[Task]:
    """The tasks of a run whose experts are merged, in suite order."""
    return [task for task in suite(run.suite) if task.name not in run.unseen]


def show_heads(method: MergingMethod, run: Run) -> None:
    """Give a built method the heads of the unseen tasks, of which it knew nothing till now."""
    if run.unseen:
        method.heads = Held(ENCODERS[run.encoder].heads(suite(run.suite)))
