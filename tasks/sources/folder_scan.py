"""What lies in a folder of images: parts, classes, labels."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from mergeshift import UserError, home
from tasks.images import Reader
from tasks.settings import folders
from tasks.sources.hub import first_line, hashed
from tasks.sources.readers import SUFFIXES, Column, Files, labels_of

if TYPE_CHECKING:
    from datasets import Dataset

T = TypeVar("T")
PARTS = {  # what folders and files of a part are called
    "train": ("train", "training"),
    "test": ("test", "testing", "val", "valid", "validation"),
}
IMAGE = ("image", "img", "jpg", "picture", "pixels")
LABEL = ("label", "fine_label", "labels", "cls", "class", "target")
ABOUT = "task.json"  # what the user says of a task; no data


@dataclass(frozen=True, eq=False)
class Part:
    """Pictures and their labels."""

    reader: Reader
    labels: np.ndarray  # int64 [N], index into the names of the scan


@dataclass(frozen=True, eq=False)
class FolderScan:
    """A folder: parts ``train`` and ``test``, or ``test``, or ``whole``: what is cut by class."""

    parts: dict[str, Part]
    names: tuple[str, ...]  # of the classes
    digest: str  # of names and sizes of all files, of labels and names of classes


@lru_cache(maxsize=256)
def scan_folder(path: str) -> FolderScan:
    """Look through a folder: an Arrow table (``save_to_disk``), parquet, or pictures by class.

    Raises:
        UserError: it is none of these, or its parts have different classes or no pictures.
    """
    root = Path(path)
    if not root.is_dir():
        raise UserError(f"no folder {path}")
    if (root / "dataset_dict.json").exists() or (root / "state.json").exists():
        found = tables(on_disk(root), path)
    elif any(root.rglob("*.parquet")):
        found = tables(from_parquet(root), path)
    else:
        found = trees(root)
    parts, names = found
    if empty := [part for part, images in parts.items() if not len(images.labels)]:
        raise UserError(f"the {empty[0]} part of {path} holds no images")
    labels = {part: sha256(images.labels.tobytes()).hexdigest() for part, images in parts.items()}
    return FolderScan(parts, names, digest=hashed(inventory(root), labels, names))


def inventory(root: Path) -> str:
    """Hex digits of the names and sizes of all data files: a copy elsewhere has the same."""
    files = [
        (str((Path(folder) / name).relative_to(root)), (Path(folder) / name).stat().st_size)
        for folder, _, names in os.walk(root)
        for name in names
        if not name.startswith(".") and name != ABOUT
    ]
    return hashed(sorted(files))


def trees(root: Path) -> tuple[dict[str, Part], tuple[str, ...]]:
    """Pictures in one folder for each class, below a folder for each part or not."""
    below = {part: next(filter(Path.is_dir, (root / n for n in names)), None)
             for part, names in PARTS.items()}  # fmt: skip
    parts = to_cut({part: folder for part, folder in below.items() if folder}, root)
    classes = {part: folders(folder) for part, folder in parts.items()}
    names = next(iter(classes.values()))
    if not names:
        raise UserError(
            f"{root} holds no images: make a folder for each class, below train and test "
            "or not, or put parquet files there"
        )
    if any(found != names for found in classes.values()):
        odd = sorted(set.symmetric_difference(*map(set, classes.values())))
        raise UserError(f"train and test of {root} differ in their classes, e.g. {odd[0]!r}")
    return {part: tree(folder, names) for part, folder in parts.items()}, tuple(names)


def to_cut(parts: dict[str, T], everything: T) -> dict[str, T]:
    """Parts that include a test part; else the whole: train, or ``everything`` if there is none."""
    return parts if "test" in parts else {"whole": parts.get("train", everything)}


def tree(root: Path, names: Sequence[str]) -> Part:
    """One part: all pictures below the folders of the classes, in the order of their names."""
    found = [list(pictures(root / name)) for name in names]
    labels = np.repeat(np.arange(len(names)), [len(paths) for paths in found])
    return Part(Files([path for paths in found for path in paths]), labels)


def pictures(root: Path) -> Iterator[str]:
    """Paths of the pictures below a folder, sorted."""
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
            yield str(path)


def on_disk(root: Path) -> "dict[str, Dataset]":
    """What ``save_to_disk`` wrote: parts, or one table."""
    from datasets import DatasetDict, load_from_disk

    try:
        found = load_from_disk(str(root))
    except (OSError, ValueError, LookupError) as error:  # the last: it has no rows
        why = first_line(error)
        raise UserError(f"{root} is no data set that was saved to disk: {why}") from error
    return dict(found) if isinstance(found, DatasetDict) else {"whole": found}


def from_parquet(root: Path) -> "dict[str, Dataset]":
    """Parquet files whose names, or whose folders' names, begin with that of a part; or one."""
    from datasets import disable_progress_bars, load_dataset

    files: dict[str, list[str]] = {}
    for path in sorted(root.rglob("*.parquet")):
        words = map(called, path.relative_to(root).parts)
        files.setdefault([*filter(None, words), "whole"][0], []).append(str(path))
    disable_progress_bars()
    try:
        found = load_dataset("parquet", data_files=files, cache_dir=str(home() / "hub" / "local"))
    except Exception as error:
        raise UserError(f"cannot read the parquet files of {root}: {first_line(error)}") from error
    return dict(found)


def called(word: str) -> str:
    """How a part is called at the beginning of the name of a file or folder, or nothing.

    >>> called("train-00000-of-00002.parquet"), called("validation"), called("data")
    ('train', 'validation', '')
    """
    first = re.split(r"[^a-z]", word.lower(), maxsplit=1)[0]
    return first if any(first in names for names in PARTS.values()) else ""


def tables(found: "dict[str, Dataset]", path: str) -> tuple[dict[str, Part], tuple[str, ...]]:
    """Parts of tables, with the classes that their label column names."""
    parts = {part: next((found[name] for name in names if name in found), None)
             for part, names in PARTS.items()}  # fmt: skip
    chosen = {part: table for part, table in parts.items() if table is not None}
    if len(found) > 1 and (not chosen or "whole" in found):
        raise UserError(f"{path} has parts that are neither train nor test: {sorted(found)}")
    chosen = to_cut(chosen, next(iter(found.values())))
    image, label = columns(next(iter(chosen.values())), path)
    for part, table in chosen.items():
        if lacking := {image, label} - set(table.column_names):
            raise UserError(
                f"the {part} part of {path} has no column {min(lacking)!r}, as another part has; "
                f"it has: {', '.join(table.column_names)}"
            )
    labels = {part: labels_of(table, label, path) for part, table in chosen.items()}
    names = {names for _, names in labels.values()}
    if len(names) > 1:
        raise UserError(f"train and test of {path} differ in their classes")
    most = max(int(numbers.max(initial=0)) for numbers, _ in labels.values())
    return (
        {part: Part(Column.of(table, image, path), labels[part][0])
         for part, table in chosen.items()},
        names.pop() or tuple(str(number) for number in range(most + 1)),
    )  # fmt: skip


def columns(table: "Dataset", path: str) -> tuple[str, str]:
    """The columns of pictures and labels: by their types, else by their names.

    Raises:
        UserError: there is no such column.
    """
    from datasets import ClassLabel, Image

    found = []
    for kind, names in ((Image, IMAGE), (ClassLabel, LABEL)):
        typed = [c for c, feature in table.features.items() if isinstance(feature, kind)]
        named = [c for c in names if c in table.column_names]
        both = [c for c in named if c in typed] or typed or named
        if not both:
            raise UserError(
                f"{path} has no column {names[0]!r}; it has: {', '.join(table.column_names)}"
            )
        found.append(both[0])
    return found[0], found[1]
