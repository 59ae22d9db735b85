"""Names of lines from elsewhere: none that a reader could take for another line of a table."""

import re
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

from bench.reporting.sweep_index import standing
from mergeshift import UserError
from methods import METHODS

if TYPE_CHECKING:
    from bench.config import Sweep
    from bench.plan import Plan


def check_name(name: str, todo: str) -> None:
    """Refuse the name or the title of a method, however it is written, and what no option names.

    Args:
        name: of predictions or weights that were made elsewhere.
        todo: what the user may do.

    Raises:
        UserError: it is such a name.
    """
    if name in METHODS:
        raise UserError(f"{name!r} is a method here; {todo}")
    for method, cls in METHODS.items():
        if _letters(name) in (_letters(method), _letters(cls.title)):
            raise UserError(
                f"{name!r} reads like the method {method}, which tables call {cls.title!r}; {todo}"
            )
    if not name.strip() or "," in name or not name.isprintable():
        raise UserError(f"no option could name {name!r}; leave out commas and line breaks")


def require_free(plan: "Plan", out: Path, force: bool) -> None:
    """Refuse names that stand in the sweep's tables with other numbers, unless ``force``.

    Args:
        plan: of runs from elsewhere, on the cells of a sweep.
        out: the results folder.
        force: put the new ones in their place.

    Raises:
        UserError: a name is used.
    """
    used = standing(plan, out)
    for name in dict.fromkeys(run.method for run in plan.runs):
        mine = {run.id for run in plan.runs if run.method == name}
        if name in used and not mine <= used[name] and not force:
            raise UserError(
                f"{name!r} stands in the tables of sweep {plan.sweep.name} already, and is "
                "something else; give another name, or --force to put this in its place"
            )


def require_one_set(sweep: "Sweep") -> None:
    """Refuse a sweep over several sets of experts: what was made elsewhere is of one set.

    Raises:
        UserError: it has several.
    """
    if len(sweep.expert_seeds) > 1:
        raise UserError(
            f"sweep {sweep.name} has {len(sweep.expert_seeds)} sets of experts, and what was made "
            "elsewhere is merged from one; take a sweep of one set"
        )


def _letters(text: str) -> str:
    """A name as a reader hears it: without case, blanks and signs, nor what is in brackets.

    >>> _letters("Task-Arithmetic [scale=0.3]") == _letters("task_arithmetic")
    True
    """
    plain = unicodedata.normalize("NFKC", text).partition("[")[0]
    return re.sub(r"[\W_]", "", plain.casefold())
