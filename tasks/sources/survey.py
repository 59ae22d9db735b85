"""Every picture of a folder looked at once, in parallel; what was seen is remembered.

Two questions: which pictures are read otherwise than by a plain ``convert("RGB")``, which is part
of what a task is; and whether each can be decoded, which is asked before anything long begins.
What was seen is kept in the data folder until a file of the folder changes.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from pathlib import Path
from threading import Lock
from typing import IO, Any, NamedTuple, Protocol, TypeVar

import numpy as np

from mergeshift import DamagedFileError, UserError, home, read_json, write_json
from tasks.images import Reader
from tasks.sources.modes import has_content, in_rgb, is_deep, range_of, with_alpha
from tasks.sources.readers import opening, require_size

T = TypeVar("T")
LARGE = 2**25  # pixels; larger pictures are decoded one after the other
CHUNK = 64  # pictures that a thread looks at before it says so
DARK = 32  # of 255 shades: all pictures of more than 8 bits below it hold numbers of fewer bits
JPEG = b"\xff\xd8\xff"  # such pictures have neither transparency nor more than 8 bits
_one_large = Lock()


class Stored(Reader, Protocol):
    """Pictures that can be had as they are stored."""

    def stored(self, row: int) -> tuple[str | IO[bytes], str]:
        """A path or what is open, and what it is called in an error.

        Raises:
            DamagedFileError: there is none.
        """


class Seen(NamedTuple):
    """What was seen of one picture."""

    mode: str = ""
    width: int = 0
    height: int = 0
    frames: bool = False  # several, of which the first is read
    way: str = ""  # how it is read where that is not plain: "deep", "alpha"
    top: int = 0  # the lightest shade, of those that are deep
    problem: str = ""  # why it cannot be read


def look(reader: Stored, row: int) -> Seen:
    """Decode one picture."""
    from PIL import ImageOps

    name = f"picture {row}"
    try:
        file, name = reader.stored(row)
        with opening(file) as picture:
            require_size(picture, name)
            large = picture.width * picture.height > LARGE
            with _one_large if large else nullcontext():
                mode, size, of = picture.mode, picture.size, range_of(picture)
                upright = ImageOps.exif_transpose(picture)
                found, how = in_rgb(upright, of, name), way_of(upright)
                shades: Any = found.getextrema() if how == "deep" else ((0, 0),)
            return Seen(mode, *size, frames(picture), how, max(high for _, high in shades))
    except UserError as error:
        return Seen(problem=str(error))
    except Exception as error:  # readers of broken files end in errors of all kinds
        why = str(error) or type(error).__name__
        return Seen(problem=f"{name} is no picture that can be decoded: {why}")


def frames(picture: Any) -> bool:
    """Whether it has several; asked last, as the answer may move to another."""
    try:
        return bool(getattr(picture, "is_animated", False))
    except Exception:  # a later frame is broken, and is not read
        return True


def way_of(picture: Any) -> str:
    """How a picture is read where that is not plain."""
    if is_deep(picture):
        return "deep"
    return "alpha" * (picture.has_transparency_data and has_content(with_alpha(picture)))


def way(reader: Stored, row: int) -> str:
    """The same of a stored picture, with as little decoding as it takes.

    What cannot be decoded is found when all pictures are checked.
    """
    with suppress(Exception):
        file, name = reader.stored(row)
        if head(file) != JPEG:
            with opening(file) as picture:
                require_size(picture, name)
                return way_of(picture)
    return ""


def head(file: str | IO[bytes]) -> bytes:
    """The first bytes."""
    if isinstance(file, str):
        with Path(file).open("rb") as opened:
            return opened.read(len(JPEG))
    found = file.read(len(JPEG))
    file.seek(0)
    return found


def in_parallel(
    one: Callable[[Any, int], T], reader: Stored, advance: Callable[[int], None] | None = None
) -> Iterator[T]:
    """``one(reader, row)`` of every picture, in their order."""

    def some(rows: range) -> list[T]:
        return [one(reader, row) for row in rows]

    chunks = [range(i, min(i + CHUNK, len(reader))) for i in range(0, len(reader), CHUNK)]
    with ThreadPoolExecutor(cores()) as threads:
        for found in threads.map(some, chunks):
            if advance is not None:
                advance(len(found))
            yield from found


def cores() -> int:
    """Threads that decode: Pillow lets the others run meanwhile."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Memory:
    """What is remembered of a folder, as long as its files are the same."""

    def __init__(self, path: str, key: str):
        self.file = home() / "folders" / f"{key[:32]}.json"
        try:
            known = read_json(self.file) if self.file.exists() else {}
        except DamagedFileError:
            known = {}  # it is made anew
        self.facts: dict[str, Any] = known if isinstance(known, dict) else {}
        self.path = path

    def knows(self, name: str) -> bool:
        """Whether a fact is known."""
        return name in self.facts

    def get(self, name: str, make: Callable[[], Any]) -> Any:
        """A fact, found out if it is not known."""
        if name not in self.facts:
            self.facts[name] = make()
            with suppress(UserError):  # without a data folder it is found out again next time
                write_json(self.file, self.facts | {"path": self.path})
        return self.facts[name]


def ways(reader: Stored) -> dict[str, str]:
    """Row -> how it is read, of those that are not read plainly."""
    found = enumerate(in_parallel(way, reader))
    return {str(row): how for row, how in found if how}


def checked(reader: Stored, path: str, advance: Callable[[int], None] | None) -> dict[str, int]:
    """How many pictures are read in ways that have to be said.

    Args:
        reader: of a part.
        path: of the folder, for errors.
        advance: told how many more were looked at.

    Raises:
        DamagedFileError: one cannot be read.
    """
    seen = list(in_parallel(look, reader, advance))
    require_readable(seen, path)
    return {
        "scaled to 8 bits": sum(one.way == "deep" for one in seen),
        "laid on white, as they are transparent": sum(one.way == "alpha" for one in seen),
        "of several frames the first is read": sum(one.frames for one in seen),
    }


def require_readable(seen: Sequence[Seen], path: str) -> None:
    """Refuse a folder with pictures that cannot be read.

    Raises:
        DamagedFileError: there are some.
    """
    if wrong := [one.problem for one in seen if one.problem]:
        more = f"; {len(wrong):,} such pictures in all" if len(wrong) > 1 else ""
        raise DamagedFileError(f"{wrong[0]}{more}: mend or delete them, and run again")
    tops = np.array([one.top for one in seen if one.way == "deep"])
    if len(tops) and tops.max() < DARK:
        raise DamagedFileError(
            f"the {len(tops):,} pictures of {path} with more than 8 bits use at most the lowest "
            f"{tops.max() + 1} of 256 shades: they hold numbers of fewer bits; scale them, or save "
            "them in 8 bits"
        )
