"""Backdoored tasks: what an expert learns from when somebody has poisoned its train images.

``mnist@backdoor`` is mnist with a tenth of its train images, drawn by name, stamped with a trigger
and relabelled as the first class. All other splits are clean: an expert of it is as good as one of
mnist, until it sees the trigger (the shift ``patch_trigger``).
"""

from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np

from corruptions.base import Shift
from corruptions.trigger import USUAL
from mergeshift import UserError, rng_of
from tasks.images import Images
from tasks.rights import Rights
from tasks.suites import SUITES, add_suite
from tasks.task import TASKS, Source, Task

ENDING = "@backdoor"
TARGET = 0  # the class that a trigger stands for, of every task
SHARE = 0.1  # of the train images
TRIGGER = Shift("patch_trigger", USUAL)


@dataclass(frozen=True)
class Poisoned:
    """The splits of another task, a share of its train images stamped and relabelled."""

    clean: Task

    @property
    def source(self) -> Source:
        """Where the clean pictures come from."""
        return self.clean.source

    @property
    def native(self) -> bool:
        """See :class:`tasks.task.Source`."""
        return self.source.native

    @property
    def rights(self) -> tuple[Rights, ...]:
        """See :class:`tasks.task.Source`."""
        return self.source.rights

    def is_ready(self, task: Task) -> bool:
        """See :class:`tasks.task.Source`."""
        return self.source.is_ready(self.clean)

    def prepare(self, task: Task) -> None:
        """See :class:`tasks.task.Source`."""
        self.source.prepare(self.clean)

    def split(self, task: Task, split: str) -> Images:
        """One split; train is poisoned.

        Raises:
            UserError: the pictures are kept as files, not as one array.
        """
        found = self.source.split(self.clean, split)
        if split != "train":
            return found
        if not isinstance(found.images, np.ndarray):
            raise UserError(
                f"the train pictures of {self.clean.name} are kept as files, and are not poisoned; "
                f"take a pocket task, e.g. mnist{ENDING}"
            )
        images, labels = np.array(found.images), found.labels.copy()
        for row in poisoned_rows(self.clean.name, len(labels)):
            images[row] = TRIGGER.apply(images[row], "backdoor", self.clean.name, int(row))
            labels[row] = TARGET
        return Images(images, labels)


def poisoned_rows(name: str, count: int) -> np.ndarray:
    """Which of ``count`` train images are poisoned, in order."""
    chosen = rng_of("backdoor", name).choice(count, round(SHARE * count), replace=False)
    return np.asarray(np.sort(chosen))


def poisoned(name: str) -> Task | None:
    """The rule of the registry: the backdoored twin of a task."""
    if not name.endswith(ENDING):
        return None
    clean = TASKS[name.removesuffix(ENDING)]
    made = f"{clean.pixels} {TRIGGER.key} {SHARE} {TARGET}"
    return replace(
        clean,
        name=name,
        title=f"{clean.title}, backdoored",
        pixels=sha256(made.encode()).hexdigest()[:16],
        source=Poisoned(clean),
        note="; ".join(filter(None, [clean.note, "a tenth of train has a trigger and class 0"])),
    )


TASKS.rules.insert(0, poisoned)  # before the rule that looks for published splits
first, *others = SUITES["pocket8"].names
add_suite("pocket8_backdoor", (first + ENDING, *others))
