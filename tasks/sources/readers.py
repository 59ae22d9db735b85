"""Stored pictures, one by one: in files, or in a column of a table."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mergeshift import DamagedFileError, UserError
from tasks.settings import MAX_PIXELS, max_pixels
from tasks.sources.modes import in_rgb, range_of

if TYPE_CHECKING:
    from datasets import Dataset
    from PIL.Image import Image

LOCK = Lock()  # over Pillow's limit, which is one for the whole process


@dataclass(frozen=True, eq=False)
class Files:
    """Pictures in files."""

    paths: Sequence[str]

    def __len__(self) -> int:
        return len(self.paths)

    def stored(self, row: int) -> tuple[str, str]:
        """Where one picture lies, and what it is called in an error."""
        return self.paths[row], self.paths[row]

    def picture(self, row: int) -> "Image":
        """One picture, decoded, upright and in RGB.

        Raises:
            DamagedFileError: the file is gone, or no picture that can be read.
        """
        return opened(*self.stored(row))


@dataclass(frozen=True, eq=False)
class Column:
    """Pictures in a column of a table: encoded bytes, or the path of a file."""

    table: "Dataset"  # of that column alone, not decoded
    name: str  # of the data set, for errors
    as_stored: bool = False  # in its own mode, for whoever converts it

    @classmethod
    def of(cls, table: "Dataset", column: str, name: str, as_stored: bool = False) -> "Column":
        """The pictures of a column.

        Args:
            table: with the column.
            column: its name.
            name: of the data set, for errors.
            as_stored: whether pictures keep their mode.

        Raises:
            UserError: the column holds no pictures.
        """
        from datasets import Image

        try:
            one = table.select_columns([column]).cast_column(column, Image(decode=False))
        except (TypeError, ValueError, NotImplementedError) as error:
            kind = table.features[column]
            raise UserError(f"column {column!r} of {name} holds no pictures: {kind}") from error
        return cls(one, name, as_stored)

    def __len__(self) -> int:
        return len(self.table)

    def missing(self) -> list[int]:
        """The rows that have no picture."""
        import pyarrow.compute as pc

        (column,) = self.table.with_format("arrow")[:].columns
        found, row = [], 0
        for chunk in column.chunks:
            lacks = [pc.equal(pc.fill_null(pc.binary_length(chunk.field(key)), 0), 0)
                     for key in ("bytes", "path")]  # fmt: skip
            gone = pc.or_(pc.is_null(chunk), pc.and_(*lacks))
            found += (row + np.flatnonzero(gone.to_numpy(zero_copy_only=False))).tolist()
            row += len(chunk)
        return found

    def holds_bytes(self) -> bool:
        """Whether the first picture lies in the table, and not in a file that it names."""
        return len(self) > 0 and all(cell and cell["bytes"] for cell in self.table[0].values())

    def stored(self, row: int) -> tuple[str | IO[bytes], str]:
        """One picture as it is stored, and what it is called in an error.

        Raises:
            DamagedFileError: there is none.
        """
        (cell,) = self.table[row].values()
        name = f"row {row} of {self.name}"
        if not cell or not (cell["bytes"] or cell["path"]):
            raise DamagedFileError(f"{name} has no picture")
        return io.BytesIO(cell["bytes"]) if cell["bytes"] else cell["path"], name

    def picture(self, row: int) -> "Image":
        """One picture, decoded and upright.

        Raises:
            DamagedFileError: it cannot be decoded.
        """
        return opened(*self.stored(row), as_stored=self.as_stored)


def opened(file: str | Path | IO[bytes], name: str, as_stored: bool = False) -> "Image":
    """Decode a picture, turn it as its camera was held, and make three channels of 8 bits of it.

    Args:
        file: a path, or what is open.
        name: for errors.
        as_stored: keep its mode.

    Raises:
        DamagedFileError: it is no picture, or see :func:`tasks.sources.modes.in_rgb`.
        UserError: it is larger than the limit.
    """
    from PIL import ImageOps

    try:
        with opening(file) as picture:
            require_size(picture, name)
            of = range_of(picture)
            upright = ImageOps.exif_transpose(picture)
            return upright if as_stored else in_rgb(upright, of, name)
    except UserError:
        raise
    except Exception as error:  # readers of broken files end in errors of all kinds
        why = str(error) or type(error).__name__
        raise DamagedFileError(f"{name} is no picture that can be decoded: {why}") from error


def opening(file: str | Path | IO[bytes]) -> "Image":
    """A picture whose head was read, whatever its size."""
    from PIL import Image

    with LOCK:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file)
        finally:
            Image.MAX_IMAGE_PIXELS = before


def require_size(picture: "Image", name: str) -> None:
    """Refuse a picture that would take all memory.

    Raises:
        UserError: it has more pixels than the limit.
    """
    width, height = picture.size
    if width * height > (most := max_pixels()):
        raise UserError(
            f"{name} has {width:,} x {height:,} pixels, more than {most:,}; make it smaller, or "
            f"set {MAX_PIXELS} to more"
        )


class Labels(NamedTuple):
    """The labels of a table."""

    numbers: np.ndarray  # int64 [N]
    names: tuple[str, ...]  # of the classes 0, 1, ..., where the table says them


def labels_of(table: "Dataset", column: str, name: str) -> Labels:
    """The labels of a table, and their names where it says them.

    Args:
        table: of images.
        column: of labels.
        name: of the data set, for errors.

    Raises:
        DamagedFileError: a label is no class: no whole number, below 0, as hidden ones are, or
            beyond the names.
        UserError: labels are lists, times or the like.
    """
    from datasets import ClassLabel

    feature: Any = table.features[column]
    require_scalar(feature, f"column {column!r} of {name}")
    values = np.asarray(table.with_format("numpy")[column][:])
    if values.dtype.kind in "OUS":
        if None in values.tolist():
            raise DamagedFileError(
                f"column {column!r} of {name} lacks {values.tolist().count(None):,} labels: give a "
                "part whose labels are known"
            )
        names, numbers = np.unique(values.astype(str), return_inverse=True)
        return Labels(numbers.astype(np.int64), tuple(names.tolist()))
    names_of_classes = tuple(feature.names) if isinstance(feature, ClassLabel) else ()
    most = len(names_of_classes) or 2**62
    if values.dtype.kind == "b":
        values = values.astype(np.int64)
    whole = (values >= 0) & (values < most) & (values == np.floor(values))
    wrong = values[~whole]  # a missing one is NaN
    if len(wrong):
        raise DamagedFileError(
            f"column {column!r} of {name} holds {wrong[0]}, which is no class ({len(wrong):,} such "
            "labels; -1 stands for a hidden one): give a part whose labels are known"
        )
    return Labels(values.astype(np.int64), names_of_classes)


def require_scalar(feature: Any, what: str) -> None:
    """Refuse labels that are neither numbers nor names.

    Raises:
        UserError: it says what they are.
    """
    from datasets import ClassLabel, Value

    kind = getattr(feature, "dtype", "")
    known = re.fullmatch(r"(u?int|float)\d+|bool|(large_)?string(_view)?|null", kind)
    if not isinstance(feature, ClassLabel) and not (isinstance(feature, Value) and known):
        raise UserError(
            f"{what} holds {feature}; a label is one number or one name for each picture"
        )
