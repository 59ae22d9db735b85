"""Tasks whose images lie in a folder of the user: pictures by class, parquet, or an Arrow table.

``MERGESHIFT_DATA_DIR`` (``--data-dir``) names a folder of folders. One that is called like a task
of the hub takes the place of what would be downloaded; every one is a task ``local_NAME`` of the
suite ``vision_local``, too.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mergeshift import UserError, read_json, rng_of
from tasks.images import Images, Pictures
from tasks.rights import Rights
from tasks.settings import data_dir, folders
from tasks.sources.class_names import LOCAL, in_order, renumbered
from tasks.sources.folder_scan import FolderScan, scan_folder
from tasks.sources.hub import Hub, hashed
from tasks.sources.layout import part_called, pictures
from tasks.sources.survey import checked
from tasks.sources.walk import ABOUT
from tasks.splits import OWN, SplitScheme, by_class
from tasks.suites import SUITES, Suite
from tasks.task import SPLITS, TASKS, Task

SUITE = "vision_local"
TOLD = ("title", "classes", "templates")  # what a task.json may say


@dataclass(frozen=True)
class Folder:
    """Images of a folder: with a train and a test part, or a whole that is cut by class."""

    path: str
    cut: SplitScheme = OWN
    native: ClassVar[bool] = True
    rights: ClassVar[tuple[Rights, ...]] = (Rights("yours", "you know it", "own"),)

    @property
    def found(self) -> FolderScan:
        """What lies there."""
        return scan_folder(self.path)

    def identity(self, task: Task) -> str:
        """16 hex digits of all that decides images, labels and prompts of a task.

        Of the images: names and sizes of their files, see
        :attr:`tasks.sources.folder_scan.FolderScan.digest`; and
        the folder's own name, by which they are cut.
        """
        cut = self.cut.published, self.cut.most, self.cut.apart
        words = task.classes, task.templates
        return hashed(self.found.digest, self._key, cut, task.size, task.version, *words)[:16]

    def sizes(self) -> tuple[int, int, int, int]:
        """Images in train, adapt, val, test.

        Raises:
            UserError: there are too few, or published splits are asked of a whole.
        """
        counts = {part: len(images.labels) for part, images in self.found.parts.items()}
        if "whole" not in counts:
            sizes = self.cut.sizes(counts.get("train", 0), counts["test"])
        elif self.cut.published:
            raise UserError(f"{self.path} has no train and test part: it has no published splits")
        else:
            splits = by_class(self.found.parts["whole"].labels, key=self._key)
            train, adapt, val, test = np.bincount(splits, minlength=len(SPLITS)).tolist()
            sizes = train, adapt, val, test
        if min(sizes[1:]) < 1:
            there = ", ".join(f"{part} {count}" for part, count in counts.items())
            raise UserError(f"{self.path} has too few images ({there}) for adapt, val and test")
        return sizes

    def unchecked(self, train: bool) -> list[str]:
        """Parts with pictures that nobody has looked at yet.

        Args:
            train: whether the train part is needed, too.
        """
        needed = [part for part in self.found.parts
                  if part != "train" or train or self.cut.published]  # fmt: skip
        return [part for part in needed if not self.found.memory.knows(f"checked {part}")]

    def check(self, part: str, advance: Callable[[int], None] | None = None) -> None:
        """Decode every picture of a part, once: it is remembered until a file changes.

        Args:
            part: train, test or whole.
            advance: told how many more pictures were decoded.

        Raises:
            DamagedFileError: one cannot be read.
        """
        reader = self.found.parts[part].reader
        self.found.memory.get(f"checked {part}", partial(checked, reader, self.path, advance))

    @property
    def notes(self) -> list[str]:
        """What is not read, or not as it is stored."""
        facts = self.found.memory.facts
        ways = [facts.get(f"checked {part}", {}) for part in self.found.parts]
        counts = {what: sum(way.get(what, 0) for way in ways) for way in ways for what in way}
        said = [f"{what}: {pictures(count)}" for what, count in counts.items() if count]
        return [*self.found.notes, *said]

    def is_ready(self, task: Task) -> bool:
        """The images are there, or the task would not be."""
        return True

    def prepare(self, task: Task) -> None:
        """Nothing is to be done."""

    def split(self, task: Task, split: str) -> Images:
        """One split; its images are decoded when they are looked at.

        Raises:
            UserError: there is no such part.
        """
        parts = self.found.parts
        name = "whole" if "whole" in parts else self.cut.part(split)
        if name not in parts:
            raise UserError(f"{self.path} has no {name} part; {split} of {task.name} needs one")
        part = parts[name]
        if name == "whole":
            chosen = by_class(part.labels, key=self._key) == SPLITS.index(split)
            rows = rng_of("order", self._key, split).permutation(np.flatnonzero(chosen))
        else:
            rows = self.cut.rows(split, len(part.labels), f"{self._key}/{name}")
        digest = hashed(task.pixels, task.size, split)[:32]
        labels = self.labels_of(task)[part.labels]
        return Images(Pictures(part.reader, rows, task.size, digest), labels[rows])

    def labels_of(self, task: Task) -> np.ndarray:
        """The task's label of each class of the folder; see :func:`renumbered`."""
        return renumbered(self.found.names, task, self.path, self.found.numbered)

    @property
    def _key(self) -> str:
        return Path(self.path).name


def from_folder(task: Task, source: Folder, **facts: Any) -> Task:
    """A task with the images of a folder, and other facts that change.

    Raises:
        UserError: the folder does not have its classes, or too few images.
    """
    new = replace(task, source=source, sizes=source.sizes(), **facts)
    source.labels_of(new)
    return replace(new, pixels=source.identity(new))


@lru_cache(maxsize=256)
def instead(task: Task, path: str) -> Task:
    """A task of the hub with the images of a folder."""
    return from_folder(task, Folder(path), note=f"from {path}")


@lru_cache(maxsize=256)
def own(path: str) -> Task:
    """A task of the user's own: its classes are called like their folders, or as they say.

    Raises:
        UserError: its name is not fit for files, its ``task.json`` says something else than title,
            classes and templates, or see :func:`from_folder`.
    """
    name, source = Path(path).name, Folder(path)
    if not re.fullmatch(r"[\w.-]+", name):
        raise UserError(f"the name of a task is part of file names; rename the folder {path}")
    facts = about(Path(path) / ABOUT)
    classes = [name.replace("_", " ") for name in in_order(source.found.names)]
    task = Task(
        source=source,
        name=LOCAL + name,
        title=facts.get("title", name),
        kind="photograph",
        noun="a photo",
        classes=tuple(facts.get("classes", classes)),
        templates=tuple(facts.get("templates", ["a photo of a {}."])),
        sizes=(0, 0, 0, 0),  # these and the pixels follow from the source
        pixels="",
        size=224,
        checkpoint=name if name in published_names() else "",
        note=f"from {path}",
    )
    return from_folder(task, source)


def published_names() -> set[str]:
    """What the published checkpoints of tasks of the hub are called."""
    entries = [task for name in TASKS if (task := TASKS.listed(name)) is not None]
    return {task.checkpoint for task in entries if isinstance(task.source, Hub)}


def about(path: Path) -> dict[str, Any]:
    """What the user says of a task in its ``task.json``, if there is one."""
    facts = read_json(path) if path.exists() else {}
    odd = [key for key in facts if key not in TOLD] if isinstance(facts, dict) else [facts]
    if odd:
        raise UserError(f"{path} says title, classes and templates of a task; got {odd[0]!r}")
    if not isinstance(facts.get("title", ""), str):
        raise UserError(f"title in {path} is a text; got {facts['title']!r}")
    for key in ("classes", "templates"):
        texts = facts.get(key, ["{}"])
        said = isinstance(texts, list) and texts and all(isinstance(text, str) for text in texts)
        if not said or len(set(texts)) < len(texts):
            raise UserError(f"{key} in {path} is a list of texts, all different; got {texts!r}")
    if lacking := [text for text in facts.get("templates", []) if "{}" not in text]:
        raise UserError(f"a template in {path} has {{}} for the class; got {lacking[0]!r}")
    return facts


def require_unseen(task: Task) -> None:
    """Refuse test images that the published expert of a task may have been trained on.

    Raises:
        UserError: they are cut out of a folder that has no test part.
    """
    source = task.source
    if isinstance(source, Folder) and "whole" in source.found.parts:
        raise UserError(
            f"{source.path} has no test part, and the published expert of {task.name} has seen "
            "train: add a test part, or make experts of your own (--experts finetuned)"
        )


def local_task(name: str) -> Task | None:
    """The rule of the registry: a task that the user's folder has."""
    task = TASKS.listed(name)
    is_hubs = task is not None and isinstance(task.source, Hub)
    folder = data_dir() if is_hubs or name.startswith(LOCAL) else None
    if folder is None:
        return None
    if task is None:
        return own(str(folder / name[len(LOCAL) :])) if name in local_names() else None
    for called in (task.name, task.checkpoint):
        if called and (folder / called).is_dir():
            return instead(task, str(folder / called))
    return None


def local_names() -> tuple[str, ...]:
    """The tasks of the user's folder, in the order of the alphabet.

    Raises:
        UserError: there is no such folder, or it is that of a task.
    """
    folder = data_dir()
    if folder is None:
        raise UserError(f"{SUITE} is the suite of --data-dir; give that folder")
    names = folders(folder)
    if len(names) > 1 and all((called := part_called(name)) and called.tier < 2 for name in names):
        raise UserError(
            f"{folder} is the folder of one task: it has {', '.join(names)}; --data-dir is the "
            f"folder above, {folder.parent}, in which every folder is a task"
        )
    return tuple(LOCAL + name for name in names)


def local_suite(name: str) -> Suite | None:
    """The rule of the registry: all tasks of the user's folder."""
    return Suite(SUITE, local_names()) if name == SUITE else None


TASKS.rules.append(local_task)
SUITES.rules.append(local_suite)
