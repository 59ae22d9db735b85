"""What a task is, and the registries of tasks and suites."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bench.registry import Registry
from tasks.wheels import WHEELS

SPLITS = ("train", "adapt", "val", "test")
MOST = (4000, 500, 500, 1000)  # images a split keeps, at most


@dataclass(frozen=True)
class Pool:
    """What a builder returns: every usable picture of a source, each assigned to a split."""

    images: np.ndarray  # uint8 [N, 32, 32, 3]
    labels: np.ndarray  # int [N]
    splits: np.ndarray  # int8 [N], index into SPLITS; -1 is left out


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
    template: str  # the prompt, with {} for the class name
    wheels: tuple[str, ...]  # names in WHEELS
    sizes: tuple[int, int, int, int]  # images in train, adapt, val, test
    pixels: str  # first 16 hex digits of the sha256 of images and labels
    build: Callable[[], Pool]
    rights: str = ""  # licences of what does not come from a wheel
    note: str = ""  # what a reader must know before quoting a number
    version: int = 1

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def prompts(self) -> list[str]:
        """One prompt per class, in the order of the labels."""
        return [self.template.format(name) for name in self.classes]

    @property
    def licence(self) -> str:
        """The licences of the sources."""
        named = [*(WHEELS[name].licence for name in self.wheels), self.rights]
        return "; ".join(dict.fromkeys(filter(None, named)))

    @property
    def non_commercial(self) -> bool:
        """Whether a source forbids commercial use."""
        return "non-commercial" in self.licence


TASKS: Registry[Task] = Registry("task")
SUITES: Registry[tuple[str, ...]] = Registry("suite")


def suite(name: str) -> list[Task]:
    """The tasks of a suite, in the order that every table and every method uses."""
    return [TASKS[task] for task in SUITES[name]]


def world_of(suite_name: str) -> str:
    """``toy``, ``pocket`` or ``vision``: printed with every number."""
    return suite_name.rstrip("0123456789")
