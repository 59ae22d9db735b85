"""Pictures and shifts that write down, from any process, when they are looked at or applied."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from PIL.Image import Image

from corruptions.base import CLEAN, Shift
from tasks import Task
from tasks.images import Images, Pictures, Reader
from tasks.sources.folder import Folder


def write(log: str, line: str) -> None:
    """Append a line at once, so that those of several processes do not mix."""
    handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, f"{line}\n".encode())
    os.close(handle)


def read(log: Path, kind: str) -> Counter[str]:
    """How often each line of a kind was written; the log is empty afterwards."""
    lines = log.read_text().splitlines() if log.exists() else []
    log.write_text("".join(f"{line}\n" for line in lines if not line.startswith(kind)))
    return Counter(line for line in lines if line.startswith(kind))


@dataclass(frozen=True, eq=False)
class Noted:
    """A reader that writes ``decoded TASK/SPLIT ROW``."""

    reader: Reader
    name: str
    log: str

    def __len__(self) -> int:
        return len(self.reader)

    def picture(self, row: int) -> Image:
        write(self.log, f"decoded {self.name} {row}")
        return self.reader.picture(row)


@dataclass(frozen=True)
class NotedFolder(Folder):
    """A folder whose pictures are noted."""

    log: str = ""

    def split(self, task: Task, split: str) -> Images:
        found = super().split(task, split)
        assert isinstance(found.images, Pictures)
        reader = Noted(found.images.reader, f"{task.name}/{split}", self.log)
        return replace(found, images=replace(found.images, reader=reader))


@dataclass(frozen=True)
class NotedShift(Shift):
    """A shift that writes ``corrupted KEY SEED TASK INDEX``."""

    log: str = ""

    def apply(self, image: np.ndarray, *identity: object) -> np.ndarray:
        write(self.log, " ".join(map(str, ("corrupted", self.key, *identity))))
        return super().apply(image, *identity)


def noted(shifts: Sequence[Shift], log: Path) -> list[Shift]:
    """The same shifts, noted; clean is none."""
    named = [{f.name: getattr(shift, f.name) for f in fields(Shift)} for shift in shifts]
    return [NotedShift(**told, log=str(log)) if Shift(**told) != CLEAN else CLEAN for told in named]
