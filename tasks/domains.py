"""The shifts ``domain:NAME``: other images of the classes of a task, from another source.

A domain knows of which tasks it has the classes, and gives its images with the labels of such a
task. Images of classes that the task does not have are left out. It has no part in training: what
was fine-tuned, adapted or tuned is what is measured on clean images, too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from corruptions.base import DOMAIN, Shift
from mergeshift import Registry, UserError
from tasks.images import Images
from tasks.sources.hub import Hub
from tasks.task import TASKS, Task, load


@dataclass(frozen=True)
class Domain:
    """Images from one source, for the tasks that have their classes."""

    name: str  # as in domain:NAME
    says: str  # what the images are, in a line
    source: Task | str  # the images: the test split of an entry, or of a registered task
    tasks: tuple[str, ...]  # whose classes they have, as registered, whatever their splits or size
    renamed: Mapping[str, str] = field(default_factory=dict)  # class there -> class of the task

    def fits(self, task: Task) -> bool:
        """Whether it has images of the classes of a task, in whatever splits or size that is."""
        return task.name.partition("@")[0] in self.tasks

    def entry(self, task: Task) -> Task:
        """Where the images come from, at the size of those of ``task``."""
        found = TASKS[self.source] if isinstance(self.source, str) else self.source
        if found.size == task.size:
            return found
        if isinstance(self.source, str):
            return TASKS[f"{self.source}@{task.size}"]
        assert isinstance(found.source, Hub), "pictures that are drawn here have the pocket size"
        pixels = found.source.identity(task.size, found.version)
        return replace(found, size=task.size, pixels=pixels)

    def labels(self, task: Task) -> np.ndarray:
        """The task's label of each class of the source, -1 where it has none.  ``int64 [C]``."""
        numbers = {name.casefold(): label for label, name in enumerate(task.classes)}
        names = (self.renamed.get(name, name) for name in self.entry(task).classes)
        return np.array([numbers.get(name.casefold(), -1) for name in names])

    def images(self, task: Task) -> Images:
        """Its test images with the labels of ``task``."""
        found = load(self.entry(task), "test")
        labels = self.labels(task)[found.labels]
        rows = np.flatnonzero(labels >= 0)
        kept = found if len(rows) == len(found) else found.take(rows)
        return Images(kept.images, labels[rows])


DOMAINS: Registry[Domain] = Registry("domain")


def add_domain(
    name: str,
    says: str,
    source: Task | str,
    tasks: Sequence[str],
    renamed: Mapping[str, str] | None = None,
) -> None:
    """Register a domain under the name that is written behind ``domain:``.

    Args:
        name: its name.
        says: what its images are, in a line.
        source: see :class:`Domain`.
        tasks: see :class:`Domain`.
        renamed: see :class:`Domain`.
    """
    DOMAINS.add(name, Domain(name, says, source, tuple(tasks), renamed or {}))


def domain_named(shift_name: str) -> Domain:
    """The domain of a shift.

    Raises:
        UnknownNameError: there is none of this name.
    """
    return DOMAINS[shift_name.removeprefix(DOMAIN)]


def shown(tasks: Sequence[Task], shift: Shift) -> Sequence[Task]:
    """Those of some tasks that have images under a shift: all, unless it is of some domain."""
    if not shift.corruption.startswith(DOMAIN):
        return tasks
    domain = domain_named(shift.corruption)
    return [task for task in tasks if domain.fits(task)]


def sources(tasks: Sequence[Task], shifts: Sequence[Shift]) -> list[Task]:
    """Where the images of domains come from, each once."""
    entries = (
        domain_named(shift.corruption).entry(task)
        for shift in shifts
        if shift.corruption.startswith(DOMAIN)
        for task in shown(tasks, shift)
    )
    return list(dict.fromkeys(entries))


def require_shown(tasks: Sequence[Task], shift: Shift, suite_name: str) -> None:
    """Refuse a shift under which no task has images.

    Raises:
        UserError: there is no such domain, or none of the tasks has it.
    """
    if shown(tasks, shift):
        return
    domain = domain_named(shift.corruption)
    raise UserError(
        f"no task of {suite_name} has images of {shift} ({domain.says}); these have: "
        f"{', '.join(domain.tasks)}"
    )
