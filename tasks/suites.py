"""Suites: what one knows, the registry of them, and those that are built in.

A suite is an ordered tuple of task names; the order is that of every table and every method. It
hands out its images as a DataModule::

    SUITES["pocket8"].datamodule(parse_shifts(["clean", "gaussian_noise@3"]), limit=500)
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from corruptions.base import Shift
from mergeshift import UnknownNameError
from tasks.task import TASKS, RuleRegistry, Task

if TYPE_CHECKING:
    from tasks.datamodule import SuiteDataModule


@dataclass(frozen=True)
class Suite:
    """An ordered tuple of tasks under one name."""

    name: str
    names: tuple[str, ...]  # of its tasks

    @property
    def tasks(self) -> list[Task]:
        """The tasks, in the order that every table and every method uses."""
        return [TASKS[name] for name in self.names]

    def at(self, size: int) -> "Suite":
        """The same tasks with pictures of ``size`` x ``size`` pixels, or this suite itself.

        Itself, where they have that size, or where pictures of a task are stored at another.
        """
        tasks = self.tasks
        if all(task.size == size for task in tasks) or not all(t.source.native for t in tasks):
            return self
        return SUITES[f"{self.name}@{size}"]

    @property
    def world(self) -> str:
        """See :func:`world_of`."""
        return world_of(self.name)

    def datamodule(
        self, shifts: Sequence[Shift], *, tasks: Collection[str] | None = None, **settings: Any
    ) -> "SuiteDataModule":
        """Every cell of the suite: each task under each shift.

        Args:
            shifts: of the test images; may be empty where others are looked at.
            tasks: names of those of its tasks that are wanted; all if not given.
            settings: ``limit``, ``data_seed`` and the others of
                :class:`tasks.datamodule.SuiteDataModule`.

        Raises:
            UnknownNameError: a name is of no task of the suite.
        """
        from tasks.datamodule import SuiteDataModule  # Lightning takes seconds to import

        wanted = set(self.names if tasks is None else tasks)
        if odd := sorted(wanted - set(self.names)):
            raise UnknownNameError(
                f"{self.name} has no task {odd[0]!r}; it has: {', '.join(self.names)}"
            )
        mine = [task for task in self.tasks if task.name in wanted]
        return SuiteDataModule(mine, shifts, **settings)


SUITES: RuleRegistry[Suite] = RuleRegistry("suite")


def add_suite(name: str, names: Sequence[str]) -> Suite:
    """Register the suite ``name`` of the tasks ``names``, in this order."""
    return SUITES.add(name, Suite(name, tuple(names)))


def suite(name: str) -> list[Task]:
    """The tasks of a suite, in its order."""
    return SUITES[name].tasks


def world_of(suite_name: str) -> str:
    """``toy``, ``pocket`` or ``vision``: printed with every number.

    >>> world_of("pocket8"), world_of("vision14_tall@published")
    ('pocket', 'vision')
    """
    return re.split(r"[^a-z]", suite_name, maxsplit=1)[0]


_EIGHT = (
    "mnist", "optdigits", "animals", "landcover", "texture", "brainplane", "scripts", "letters",
)  # fmt: skip
_FOURTEEN = (*_EIGHT, "climate", "icons", "speaker", "emoji", "kanji", "language")
_TWENTY = (
    *_FOURTEEN, "microstructure", "ising", "symbols", "numerals", "fashion", "clipart"
)  # fmt: skip

add_suite("pocket8", _EIGHT)
add_suite("pocket14", _FOURTEEN)
add_suite("pocket20", _TWENTY)
add_suite("toy", ("toy_two", "toy_three", "toy_four"))
