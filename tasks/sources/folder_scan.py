"""What lies in a folder of images: parts, classes, labels."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from mergeshift import DamagedFileError, UserError, home
from tasks.sources.hub import first_line, hashed
from tasks.sources.layout import (
    Layout,
    no_pictures,
    part_called,
    parts_of_files,
    pictures,
    require,
    understand,
)
from tasks.sources.readers import Column, Files, Labels, labels_of
from tasks.sources.survey import Memory, Stored, ways
from tasks.sources.walk import ABOUT, Folder, walk

if TYPE_CHECKING:
    from datasets import Dataset

T = TypeVar("T")
IMAGE = ("image", "img", "jpg", "picture", "pixels")
FEW = 2**16  # numbers of classes up to which they may be those of a longer list
LABEL = ("label", "fine_label", "labels", "cls", "class", "target")
SAVED = ("dataset_dict.json", "state.json")  # of what ``save_to_disk`` wrote


@dataclass(frozen=True, eq=False)
class Part:
    """Pictures and their labels."""

    reader: Stored
    labels: np.ndarray  # int64 [N], index into the names of the scan


@dataclass(frozen=True, eq=False)
class FolderScan:
    """A folder: parts ``train`` and ``test``, or ``test``, or ``whole``: what is cut by class."""

    parts: dict[str, Part]
    names: tuple[str, ...]  # of the classes
    digest: str  # of names and sizes of all files, of labels and names of classes
    notes: tuple[str, ...]  # what was entered, and what was left out
    memory: Memory  # of what was seen of the pictures
    numbered: bool = False  # whether names are numbers of a table: labels of whoever made it


@dataclass(frozen=True, eq=False)
class Found:
    """What a folder holds, in one of its forms."""

    parts: dict[str, Part]
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    former: tuple[dict[str, np.ndarray], tuple[str, ...]] | None = None  # for the digest: as ids
    numbered: bool = False


@lru_cache(maxsize=256)
def scan_folder(path: str) -> FolderScan:
    """Look through a folder: an Arrow table (``save_to_disk``), parquet, or pictures by class.

    Raises:
        UserError: it is none of these, or its parts have different classes or no pictures.
    """
    root = Path(path)
    if not root.is_dir():
        raise UserError(f"no folder {path}")
    tree = walk(root)
    if saved := saved_in(tree):
        found = tables(on_disk(Path(saved.path)), path)
    elif files := parquet_in(tree):
        found = tables(from_parquet(files, tree), path)
        found = replace(found, notes=(*found.notes, *beside_tables(found, tree)))
    else:
        found = by_class(tree)
    if empty := [part for part, images in found.parts.items() if not len(images.labels)]:
        raise UserError(f"the {empty[0]} part of {path} holds no images")
    if len(found.names) < 2:
        raise UserError(f"{path} has one class, {found.names[0]!r}: two are the least")
    return remembered(found, root, tree)


def remembered(found: Found, root: Path, tree: Folder) -> FolderScan:
    """The scan, with its digest, of which the way that pictures are read is a part."""
    of_parts, names = found.former or (
        {part: images.labels for part, images in found.parts.items()}, found.names,
    )  # fmt: skip
    labels = {part: sha256(of.tobytes()).hexdigest() for part, of in of_parts.items()}
    files = inventory(root, tree)
    memory = Memory(str(root), hashed(str(root), changes(root, tree), labels))
    odd = {part: memory.get(f"ways of {part}", partial(ways, images.reader))
           for part, images in found.parts.items()}  # fmt: skip
    said = [{part: ways for part, ways in odd.items() if ways}] if any(odd.values()) else []
    digest = hashed(files, labels, names, *said)
    return FolderScan(found.parts, found.names, digest, found.notes, memory, found.numbered)


def inventory(root: Path, tree: Folder) -> str:
    """Hex digits of the names and sizes of all data files: a copy elsewhere has the same."""
    files = {
        str((Path(folder) / name).relative_to(root)): size_of(Path(folder) / name)
        for folder, _, names in os.walk(root)
        for name in names
        if not name.startswith(".") and name != ABOUT
    }
    read = {str(Path(path).relative_to(root)): size for path, size, _ in tree.pictures()}
    return hashed(sorted((read | files).items()))


def size_of(path: Path) -> int:
    """Bytes of a file; of a link that leads nowhere, of the link."""
    return path.stat().st_size if path.exists() else path.lstat().st_size


def changes(root: Path, tree: Folder) -> list[tuple[str, int, int]]:
    """Every file with its size and time of change."""
    found = tree.pictures()
    for folder in tree.everything():
        for name in folder.others:
            path = Path(folder.path) / name
            facts = path.stat()
            found.append((str(path), facts.st_size, facts.st_mtime_ns))
    return sorted(found)


def by_class(tree: Folder) -> Found:
    """Pictures in one folder for each class, below a folder for each part or not."""
    layout = understand(tree)
    require(layout, tree.path)
    names = tuple(next(iter(layout.parts.values())))
    return Found({part: in_files(classes) for part, classes in layout.parts.items()}, names,
                 layout.notes)  # fmt: skip


def in_files(classes: Mapping[str, tuple[Folder, ...]]) -> Part:
    """One part: all pictures below the folders of the classes, in the order of their names."""
    found = [[file[0] for folder in of for file in folder.pictures()] for of in classes.values()]
    labels = np.repeat(np.arange(len(found)), [len(paths) for paths in found])
    return Part(Files([path for paths in found for path in paths]), labels)


def layout_of(tree: Folder) -> Layout | None:
    """How a folder is understood that holds pictures; nothing of one that holds tables."""
    return None if saved_in(tree) or parquet_in(tree) else understand(tree)


def saved_in(tree: Folder) -> Folder | None:
    """Where ``save_to_disk`` wrote: the folder, or the only one in it."""
    while not set(SAVED) & set(tree.others):
        if len(tree.folders) != 1:
            return None
        tree = tree.folders[0]
    return tree


def parquet_in(tree: Folder) -> list[str]:
    """Paths of the parquet files in a folder and below, sorted."""
    return sorted(
        str(Path(folder.path) / name)
        for folder in tree.everything()
        for name in folder.others
        if name.lower().endswith(".parquet")
    )


def to_cut(parts: dict[str, T], everything: T) -> dict[str, T]:
    """Parts that include a test part; else the whole: train, or ``everything`` if there is none."""
    return parts if "test" in parts else {"whole": parts.get("train", everything)}


def on_disk(root: Path) -> "dict[str, Dataset]":
    """What ``save_to_disk`` wrote: parts, or one table."""
    from datasets import DatasetDict, load_from_disk

    try:
        found = load_from_disk(str(root))
    except (OSError, ValueError, LookupError, TypeError) as error:  # LookupError: it has no rows
        why = first_line(error)
        raise UserError(f"{root} is no data set that was saved to disk: {why}") from error
    return dict(found) if isinstance(found, DatasetDict) else {"whole": found}


def from_parquet(paths: list[str], tree: Folder) -> "dict[str, Dataset]":
    """Parquet files by their parts; see :func:`tasks.sources.layout.parts_of_files`."""
    from datasets import disable_progress_bars, load_dataset

    root = Path(tree.path)
    files = parts_of_files({path: Path(path).relative_to(root).parts for path in paths})
    disable_progress_bars()
    try:
        found = load_dataset("parquet", data_files=files, cache_dir=str(home() / "hub" / "local"))
    except Exception as error:
        raise UserError(f"cannot read the parquet files of {root}: {first_line(error)}") from error
    return dict(found)


def tables(found: "dict[str, Dataset]", path: str) -> Found:
    """Parts of tables, with the classes that their label column names."""
    chosen, notes = parts_of_tables(found, path)
    image, label = columns(next(iter(chosen.values())), path)
    for part, table in chosen.items():
        if lacking := {image, label} - set(table.column_names):
            raise UserError(
                f"the {part} part of {path} has no column {min(lacking)!r}, as another part has; "
                f"it has: {', '.join(table.column_names)}"
            )
    labels = {part: labels_of(table, label, path) for part, table in chosen.items()}
    if len({of.names for of in labels.values()}) > 1:
        raise UserError(f"train and test of {path} differ in their classes")
    readers = {}
    for part, table in chosen.items():
        which = path if part == "whole" else f"the {part} part of {path}"
        readers[part] = Column.of(table, image, which)
        require_pictures(readers[part])
    names = next(iter(labels.values())).names
    if names:
        parts = {part: Part(readers[part], of.numbers) for part, of in labels.items()}
        return Found(parts, names, notes)
    return of_numbers(readers, labels, notes)


def beside_tables(found: Found, tree: Folder) -> Iterator[str]:
    """What is said of pictures and other files that lie beside parquet files."""
    within = all(isinstance(part.reader, Column) and part.reader.holds_bytes()
                 for part in found.parts.values())  # fmt: skip
    if tree.count and within:  # else they may be those that the tables name
        yield f"left out, beside the tables: {pictures(tree.count)}"
    yield from no_pictures(tree)


def parts_of_tables(
    found: "dict[str, Dataset]", path: str
) -> "tuple[dict[str, Dataset], tuple[str, ...]]":
    """The tables of train and test, or of the whole; and what is left out.

    Raises:
        UserError: some are neither, or two are the same part.
    """
    named: dict[str, list[str]] = {}
    for name in found:
        called = part_called(name)
        said = called and (called.tier < 2 or len(found) > 1)
        named.setdefault(called.kind if called and said else "", []).append(name)
    chosen = {}
    for part, kinds in (("train", ("train",)), ("test", ("test", "val"))):
        kind = next((kind for kind in kinds if kind in named), "")
        if kind:
            first = sorted(named[kind], key=lambda name: part_called(name) or (kind, 9, 0))
            chosen[part] = first[0]
    left = [name for name in found if name not in chosen.values()]
    if len(found) > 1 and (not chosen or "whole" in found):
        raise UserError(f"{path} has parts that are neither train nor test: {sorted(found)}")
    parts = to_cut({part: found[name] for part, name in chosen.items()}, next(iter(found.values())))
    notes = (f"left out, other parts: {', '.join(left)}",) if left and chosen else ()
    return parts, notes


def of_numbers(
    readers: Mapping[str, Column], labels: "Mapping[str, Labels]", notes: tuple[str, ...]
) -> Found:
    """Parts whose classes are numbers: labels are made dense, the numbers stay their names."""
    ids = np.unique(np.concatenate([of.numbers for of in labels.values()]))
    parts = {part: Part(readers[part], np.searchsorted(ids, of.numbers).astype(np.int64))
             for part, of in labels.items()}  # fmt: skip
    names, most = tuple(map(str, ids.tolist())), int(ids[-1]) if len(ids) else 0
    if most + 1 > len(ids):
        notes = (*notes, f"{len(ids):,} classes with numbers from {ids[0]} to {most}")
    former = None
    if most < FEW:
        numbers = {part: of.numbers for part, of in labels.items()}
        former = numbers, tuple(str(number) for number in range(most + 1))
    return Found(parts, names, notes, former, numbered=True)


def require_pictures(reader: Column) -> None:
    """Refuse a table in which pictures are missing.

    Raises:
        DamagedFileError: it says which row, and how many there are.
    """
    if missing := reader.missing():
        more = f"; {len(missing):,} such rows in all" if len(missing) > 1 else ""
        raise DamagedFileError(f"row {missing[0]} of {reader.name} has no picture{more}")


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
