"""What a task is, where its images come from, and the registry of tasks."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, TypeVar

from mergeshift import Registry, UserError
from tasks.images import Images
from tasks.rights import USES, Rights

T = TypeVar("T")

SPLITS = ("train", "adapt", "val", "test")
RESERVED = "test-b"  # test images that no command reads: they are for a last look at findings


class Source(Protocol):
    """How the splits of a task come to be; hashable, and equal where the data are."""

    @property
    def native(self) -> bool:
        """Whether pictures come at sizes of their own and are resized to the task's."""

    @property
    def rights(self) -> tuple[Rights, ...]:
        """The rights in all that the pictures are made of."""

    def is_ready(self, task: "Task") -> bool:
        """Whether adapt, val and test can be read without a build or a download."""

    def prepare(self, task: "Task") -> None:
        """Make it so: build or download, and check against the entry (a unit of work).

        Raises:
            UserError: the data cannot be had, or are not what the entry says.
        """

    def split(self, task: "Task", split: str) -> Images:
        """One split, prepared if need be; train is downloaded when it is first asked for."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One image-classification data set, in one pinned version.

    ``sizes`` and ``pixels`` are facts about the built data and are checked after every build:
    another version of a drawing library that moves one pixel is found here.
    """

    name: str  # registry key, snake_case
    title: str  # as printed in tables
    kind: str  # photograph | measurement | drawing | rendered text | simulation | synthetic
    noun: str  # the coarse caption of every picture, e.g. "a handwritten digit"
    classes: tuple[str, ...]
    template: str = ""  # the prompt, with {} for the class name
    templates: tuple[str, ...] = ()  # all prompts, where a class has more than one
    sizes: tuple[int, int, int, int]  # images in train, adapt, val, test
    reserved: int = 0  # images that are kept apart from test, in a split of their own
    pixels: str  # 16 hex digits: built, of images and labels; else of all that decides them
    source: Source  # where the images come from
    size: int = 32  # pixels, square, that an encoder is given
    checkpoint: str = ""  # what published checkpoints of it are called
    note: str = ""  # what a reader must know before quoting a number
    version: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "templates", self.templates or (self.template,))
        object.__setattr__(self, "template", self.templates[0])

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def prompts(self) -> list[str]:
        """One prompt per class and template, class by class, in the order of the labels."""
        return [text.replace("{}", name) for name in self.classes for text in self.templates]

    @property
    def rights(self) -> tuple[Rights, ...]:
        """The rights in what its pictures are made of."""
        return self.source.rights

    @property
    def licence(self) -> str:
        """The licences of what its pictures are made of."""
        return "; ".join(dict.fromkeys(rights.licence for rights in self.rights))

    @property
    def use(self) -> str:
        """Who may use its pictures: the strictest of its rights, a key of USES."""
        return max((rights.use for rights in self.rights), key=list(USES).index)

    @property
    def non_commercial(self) -> bool:
        """Whether a source forbids commercial use."""
        return self.use == "non-commercial"


class RuleRegistry(Registry[T]):
    """A registry that also knows things that are not listed.

    Rules make them from a name; and those that have left are known for the results that name them.
    """

    def __init__(self, kind: str):
        super().__init__(kind)
        self.rules: list[Callable[[str], T | None]] = []
        self.former: dict[str, T] = {}

    def listed(self, name: str) -> T | None:
        """What was added under ``name``, whatever the rules say."""
        return self._items.get(name)

    def __getitem__(self, name: str) -> T:
        for rule in self.rules:
            if (item := rule(name)) is not None:
                return item
        if name in self.former and name not in self._items:
            return self.former[name]
        return super().__getitem__(name)


TASKS: RuleRegistry[Task] = RuleRegistry("task")


@lru_cache(maxsize=256)
def load(task: Task, split: str) -> Images:
    """One split, built or downloaded on first use; see :class:`tasks.task.Source`.

    Raises:
        UserError: the task has no such split.
    """
    splits = (*SPLITS, RESERVED) if task.reserved else SPLITS
    if split not in splits:
        raise UserError(f"{task.name} has no split {split!r}; it has: {', '.join(splits)}")
    return task.source.split(task, split)
