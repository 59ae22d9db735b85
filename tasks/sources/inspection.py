"""How a folder of a user's images is understood, in lines to read: parts, classes, modes, sizes."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from mergeshift import UserError
from tasks.settings import folders
from tasks.sources.folder import Folder as FolderSource
from tasks.sources.folder_scan import FolderScan, layout_of, scan_folder
from tasks.sources.layout import Layout, part_called, parts_in, pictures
from tasks.sources.survey import Seen, in_parallel, look, require_readable
from tasks.sources.walk import Folder, walk
from tasks.task import SPLITS

MOST = 12  # classes of a part, and problems, that are listed
WIDTH = 34  # of what stands on the left


def tasks_in(path: Path) -> list[Path]:
    """The folders of tasks: the folder itself, or those in it if it is one for ``--data-dir``.

    Raises:
        UserError: there is no such folder.
    """
    if not path.is_dir():
        raise UserError(f"no folder {path}")
    tree = walk(path)
    inner = [folder for folder in tree.folders if holds_data(folder)]
    if len(inner) < 2 or any(part_called(folder.name) for folder in inner):
        return [path]
    parts = any(parts_in(folder) for folder in inner)
    whole = all((found := layout_of(folder)) is None or not found.problem for folder in inner)
    return [path / name for name in folders(path)] if parts or whole else [path]


def holds_data(folder: Folder) -> bool:
    """Whether there are pictures or tables in it."""
    return bool(folder.count) or layout_of(folder) is None


def inspect(
    path: Path, advance: Callable[[int], None] | None = None
) -> tuple[list[str], UserError | None]:
    """What a task's folder holds, in lines, and why it cannot be used.

    Args:
        path: of the folder.
        advance: told how many more pictures were decoded.
    """
    tree = walk(path)
    layout = layout_of(tree)
    lines = [f"{path.name}/"]
    if layout is not None and layout.problem:
        lines += [*of_layout(layout, tree), *left_out(layout.notes)]
    try:
        scan = scan_folder(str(path))
    except UserError as error:
        return lines, error
    lines += of_layout(layout, tree) if layout is not None else list(of_tables(scan))
    lines += left_out(scan.notes)
    seen = [one for part in scan.parts.values() for one in in_parallel(look, part.reader, advance)]
    lines += list(of_pictures(seen))
    try:
        require_readable(seen, str(path))
        sizes = FolderSource(str(path)).sizes()
    except UserError as error:
        return lines, error
    return [*lines, row("  splits", ", ".join(map("{} {:,}".format, SPLITS, sizes)))], None


def of_layout(layout: Layout, tree: Folder) -> list[str]:
    """Folders of parts and classes."""
    lines: list[str] = []
    for part, classes in layout.parts.items():
        inside = Path(layout.places[part]).relative_to(tree.path).as_posix()
        counts = {name: sum(f.count for f in found) for name, found in classes.items()}
        where = "" if inside == "." else f"{inside}/"
        lines += of_part(part, where, {f"{name}/": count for name, count in counts.items()})
    return lines


def of_tables(scan: FolderScan) -> Iterator[str]:
    """Parts and classes of tables."""
    for part, images in scan.parts.items():
        counts = np.bincount(images.labels, minlength=len(scan.names)).tolist()
        yield from of_part(part, "(table)", dict(zip(scan.names, counts, strict=True)))


def of_part(part: str, where: str, counts: dict[str, int]) -> Iterator[str]:
    """One part: where it lies, how large it is, and its classes."""
    what = f"{part}: " if part != "whole" else "cut by class: "
    yield row(f"  {where}", f"{what}{len(counts)} classes, {pictures(sum(counts.values()))}")
    for name, count in list(counts.items())[:MOST]:
        yield row(f"    {name}", f"{count:,}")
    if len(counts) > MOST:
        rest = list(counts.values())[MOST:]
        yield row(f"    {len(rest):,} more", f"{min(rest):,} to {max(rest):,} each")


def left_out(notes: Sequence[str]) -> list[str]:
    """What was entered and left out."""
    return [f"  {note}" for note in notes]


def of_pictures(seen: Sequence[Seen]) -> Iterator[str]:
    """Sizes and modes of pictures, and what is wrong with some."""
    good = [one for one in seen if not one.problem]
    if good:
        small = min(good, key=lambda one: one.width * one.height)
        large = max(good, key=lambda one: one.width * one.height)
        sizes = [f"{one.width:,} x {one.height:,}" for one in (small, large)]
        yield row("  sizes", " to ".join(dict.fromkeys(sizes)) + " pixels")
        modes = Counter(one.mode for one in good)
        yield row("  modes", ", ".join(f"{mode} {count:,}" for mode, count in modes.most_common()))
    for what, chosen in (
        ("scaled to 8 bits", [one for one in good if one.way == "deep"]),
        ("laid on white", [one for one in good if one.way == "alpha"]),
        ("the first of several frames is read", [one for one in good if one.frames]),
    ):
        if chosen:
            yield row("", f"{what}: {pictures(len(chosen))}")
    wrong = [one.problem for one in seen if one.problem]
    yield from (f"  cannot be read: {problem}" for problem in wrong[:MOST])
    if len(wrong) > MOST:
        yield f"  cannot be read: {len(wrong) - MOST:,} more"


def row(left: str, right: str) -> str:
    """Two columns."""
    return f"{left:<{WIDTH}} {right}".rstrip()
