"""Classes of a folder and those of a task: which is which, where their spelling differs."""

import re
from collections.abc import Callable, Sequence

import numpy as np

from mergeshift import UserError
from tasks.task import Task

LOCAL = "local_"  # begins the name of a task of the user's own
SHOWN = 5  # names that an error lists


def plain(name: str) -> str:
    """A class name without what spelling differs in.

    >>> plain("AnnualCrop"), plain("baseball_diamond"), plain("Annual crop")
    ('annualcrop', 'baseballdiamond', 'annualcrop')
    """
    return re.sub(r"[^\w]|_", "", name).lower()


def renumbered(names: Sequence[str], task: Task, path: str, numbered: bool = False) -> np.ndarray:
    """The task's label of each class of a folder.  ``int64 [C]``.

    Names are matched where they are the task's own. Where none is, the order counts: that of the
    numbers that folders are called, or that of the alphabet. A ``task.json`` may change some names
    as long as the others keep their places in that order.

    Args:
        names: of the classes, as the folder has them.
        task: whose classes they are.
        path: of the folder, for errors.
        numbered: whether the names are labels of a table: numbers of the task's classes, then,
            where the task has more classes than the table.

    Raises:
        UserError: there are more or fewer classes than the task has, or only some names are its.
    """
    if numbered and len(names) < task.num_classes and int(names[-1]) < task.num_classes:
        return np.array([int(name) for name in names])
    if len(names) != task.num_classes:
        raise UserError(
            f"{path} has {len(names)} classes, {task.name} has {task.num_classes}; "
            "put one folder for each class there"
        )
    order = np.argsort([names.index(name) for name in in_order(names)])
    spell = spelling(names, task.classes)
    label_of = {spell(name): label for label, name in enumerate(task.classes)}
    found = np.array([label_of.get(spell(name), -1) for name in names])
    known = found >= 0
    if known.all():
        return found
    if not (found == order)[known].all() if task.name.startswith(LOCAL) else known.any():
        missing = set(range(len(names))) - set(found.tolist())
        raise UserError(
            f"only some classes of {path} are those of {task.name}: unknown are "
            f"{listed([name for name, label in zip(names, found, strict=True) if label < 0])}, "
            f"missing are {listed([task.classes[label] for label in sorted(missing)])}; "
            "name all of them so, or call them 0, 1, 2, ... in the task's order"
        )
    return order


def in_order(names: Sequence[str]) -> list[str]:
    """Names of classes as numbers if they all are, else as they come."""
    return sorted(names, key=int) if all(name.isdecimal() for name in names) else list(names)


def spelling(*lists: Sequence[str]) -> Callable[[str], str]:
    """What names are compared by: :func:`plain`, unless that makes two of a list alike."""
    return str if any(len(set(map(plain, names))) < len(names) for names in lists) else plain


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(repr, names[:SHOWN])) + more
