"""Tasks whose images lie in a folder of the user: pictures by class, parquet, or an Arrow table.

``MERGESHIFT_DATA_DIR`` (``--data-dir``) names a folder of folders. One that is called like a task
of the hub takes the place of what would be downloaded; every one is a task ``local_NAME`` of the
suite ``vision_local``, too.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from bench.errors import UserError
from bench.files import read_json
from bench.seeds import rng_of
from tasks.cuts import OWN, Cut
from tasks.hub import Hub, hashed
from tasks.images import Images, Pictures
from tasks.settings import data_dir, folders
from tasks.spec import SPLITS, SUITES, TASKS, Task
from tasks.splits import by_class
from tasks.survey import Survey, survey

LOCAL, SUITE = "local_", "vision_local"
FROM = "from "
ABOUT = "task.json"  # in the folder of a task: title, classes, templates


@dataclass(frozen=True)
class Folder:
    """Images of a folder: with a train and a test part, or one part that is cut by class."""

    path: str
    cut: Cut = OWN
    native: ClassVar[bool] = True

    @property
    def found(self) -> Survey:
        """What lies there."""
        return survey(self.path)

    def identity(self, size: int, version: int) -> str:
        """16 hex digits of all that decides the images of a task: names and sizes of the files."""
        cut = self.cut.published, self.cut.most, self.cut.apart
        return hashed(self.found.digest, cut, size, version)[:16]

    def sizes(self) -> tuple[int, int, int, int]:
        """Images in train, adapt, val, test."""
        parts = self.found.parts
        if "whole" not in parts:
            counts = {part: len(parts[part].labels) if part in parts else 0 for part in SPLITS}
            return self.cut.sizes(counts["train"], counts["test"])
        if self.cut.published:
            raise UserError(f"{self.path} has no train and test folder: it has no published splits")
        splits = by_class(parts["whole"].labels, key=self._key)
        train, adapt, val, test = (int((splits == i).sum()) for i in range(len(SPLITS)))
        return train, adapt, val, test

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
            raise UserError(f"{self.path} has no {name} folder; {split} of {task.name} needs one")
        part = parts[name]
        if name == "whole":
            chosen = by_class(part.labels, key=self._key) == SPLITS.index(split)
            rows = rng_of("order", self._key, split).permutation(np.flatnonzero(chosen))
        else:
            rows = self.cut.rows(split, len(part.labels), f"{self._key}/{name}")
        digest = hashed(task.pixels, task.size, split)[:32]
        labels = renumbered(self.found.names, task)[part.labels]
        return Images(Pictures(part.reader, rows, task.size, digest), labels[rows])

    @property
    def _key(self) -> str:
        return Path(self.path).name


def plain(name: str) -> str:
    """A class name without what spelling differs in.

    >>> plain("AnnualCrop"), plain("baseball_diamond"), plain("Annual crop")
    ('annualcrop', 'baseballdiamond', 'annualcrop')
    """
    return re.sub(r"[^\w]|_", "", name).lower()


def renumbered(names: Sequence[str], task: Task) -> np.ndarray:
    """The task's label of each class of a folder.  ``int64 [C]``.

    Names are matched where they are the task's own; else the order counts: that of the numbers
    that folders are called, or that of the alphabet.

    Raises:
        UserError: there are more or fewer classes than the task has.
    """
    if len(names) != task.num_classes:
        raise UserError(
            f"{task.note.removeprefix(FROM)} has {len(names)} classes, {task.name} has "
            f"{task.num_classes}; put one folder for each class there"
        )
    wanted = {plain(name): label for label, name in enumerate(task.classes)}
    if len(wanted) == len(names) and {plain(name) for name in names} == set(wanted):
        return np.array([wanted[plain(name)] for name in names])
    if all(name.isdigit() for name in names):
        order = np.argsort([int(name) for name in names], kind="stable")
        return np.argsort(order)
    return np.arange(len(names))


@lru_cache(maxsize=256)
def instead(task: Task, path: str) -> Task:
    """A task of the hub with the images of a folder."""
    source = Folder(path)
    new = replace(task, source=source, sizes=source.sizes(), rights="yours", note=FROM + path,
                  pixels=source.identity(task.size, task.version))  # fmt: skip
    renumbered(source.found.names, new)
    return new


@lru_cache(maxsize=256)
def own(path: str) -> Task:
    """A task of the user's own: its classes are called like their folders.

    Raises:
        UserError: its name is not fit for files, or its ``task.json`` has other keys than title,
            classes and templates.
    """
    name, source = Path(path).name, Folder(path)
    if not re.fullmatch(r"[\w.-]+", name):
        raise UserError(f"the name of a task is part of file names; rename the folder {path}")
    facts = about(Path(path))
    names = source.found.names
    ordered = sorted(names, key=int) if all(n.isdigit() for n in names) else names
    size = 224
    return Task(
        name=LOCAL + name,
        title=facts.get("title", name),
        kind="photograph",
        noun="a photo",
        classes=tuple(facts.get("classes", [n.replace("_", " ") for n in ordered])),
        templates=tuple(facts.get("templates", ["a photo of a {}."])),
        source=source,
        sizes=source.sizes(),
        pixels=source.identity(size, 1),
        size=size,
        checkpoint=name,
        rights="yours",
        note=FROM + path,
    )


def about(path: Path) -> dict[str, Any]:
    """What the user says of a task in its ``task.json``."""
    facts = read_json(path / ABOUT) if (path / ABOUT).exists() else {}
    if odd := set(facts) - {"title", "classes", "templates"}:
        raise UserError(
            f"{path / ABOUT} says title, classes and templates of a task; got {sorted(odd)[0]!r}"
        )
    return facts


def local_task(name: str) -> Task | None:
    """The rule of the registry: a task that the user's folder has."""
    task = TASKS.listed(name)
    is_hubs = task is not None and isinstance(task.source, Hub)
    folder = data_dir() if is_hubs or name.startswith(LOCAL) else None
    if folder is None:
        return None
    if task is None:
        return own(str(folder / name[len(LOCAL) :])) if name in local_suite(SUITE) else None
    for called in (task.name, task.checkpoint):
        if called and (folder / called).is_dir():
            return instead(task, str(folder / called))
    return None


def local_suite(name: str) -> tuple[str, ...]:
    """The rule of the registry: all tasks of the user's folder, in the order of the alphabet."""
    folder = data_dir()
    if name != SUITE:
        return ()
    if folder is None:
        raise UserError(f"{SUITE} is the suite of --data-dir; give that folder")
    return tuple(LOCAL + task for task in folders(folder))


TASKS.rules.append(local_task)
SUITES.rules.append(lambda name: local_suite(name) or None)
