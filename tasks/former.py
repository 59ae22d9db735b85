"""Tasks that have left: stored results name them, and are still read and printed."""

from dataclasses import dataclass
from typing import ClassVar, NoReturn

from mergeshift import UserError
from tasks.images import Images
from tasks.rights import Rights
from tasks.task import TASKS, Task


@dataclass(frozen=True)
class Left:
    """In place of a source: why there is none any more."""

    why: str
    rights: tuple[Rights, ...]
    native: ClassVar[bool] = False

    def is_ready(self, task: Task) -> bool:
        """Never."""
        return False

    def prepare(self, task: Task) -> None:
        """Refuse.

        Raises:
            UserError: always.
        """
        self._refuse(task)

    def split(self, task: Task, split: str) -> Images:
        """Refuse.

        Raises:
            UserError: always.
        """
        self._refuse(task)

    def _refuse(self, task: Task) -> NoReturn:
        raise UserError(
            f"the task {task.name} has left: {self.why}; results that name it are still shown, "
            "but it cannot be measured again"
        )


# name, title, classes, sizes of the splits, why, licence, where that was read, use
for _name, _title, _classes, _sizes, _why, _rights in (
    ("solardefect", "SolarDefect", 2, (1334, 222, 222, 445), "its licence excludes commerce",
     Rights("CC-BY-NC-SA-4.0", "elpv_dataset-1.0.0.post1.dist-info", "non-commercial")),
    ("games", "Games", 20, (4000, 500, 500, 1000), "the rights in the games are unclear",
     Rights("ale-py, GPL-2.0; rights in the ROMs unclear", "ale_py-0.12.1.dist-info", "unclear")),
    ("face", "Face", 2, (80, 20, 20, 80), "it was made of press photographs",
     Rights("Labeled Faces in the Wild", "skimage/data/_fetchers.py", "unclear")),
    ("leaf", "Leaf", 6, (242, 46, 44, 110), "nobody states a licence for its data",
     Rights("OSULeaf, no licence stated", "aeon/datasets/data/OSULeaf", "unclear")),
    ("arrowhead", "ArrowHead", 3, (117, 20, 22, 52), "nobody states a licence for its data",
     Rights("ArrowHead, no licence stated", "aeon/datasets/data/ArrowHead", "unclear")),
):  # fmt: skip
    TASKS.former[_name] = Task(
        name=_name,
        title=_title,
        kind="",
        noun="",
        classes=tuple(f"class {k}" for k in range(_classes)),
        template="{}",
        sizes=_sizes,
        pixels="",
        source=Left(_why, (_rights,)),
    )
