"""Stored pictures, one by one: in files, or in a column of a table."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from mergeshift import DamagedFileError, UserError

if TYPE_CHECKING:
    from datasets import Dataset
    from PIL.Image import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif")


@dataclass(frozen=True, eq=False)
class Files:
    """Pictures in files."""

    paths: Sequence[str]

    def __len__(self) -> int:
        return len(self.paths)

    def picture(self, row: int) -> "Image":
        """One picture, decoded and upright.

        Raises:
            DamagedFileError: the file is gone, or no picture.
        """
        path = self.paths[row]
        return opened(path, path)


@dataclass(frozen=True, eq=False)
class Column:
    """Pictures in a column of a table: encoded bytes, or the path of a file."""

    table: "Dataset"  # of that column alone, not decoded
    name: str  # of the data set, for errors

    @classmethod
    def of(cls, table: "Dataset", column: str, name: str) -> "Column":
        """The pictures of a column.

        Raises:
            UserError: the column holds no pictures.
        """
        from datasets import Image

        try:
            one = table.select_columns([column]).cast_column(column, Image(decode=False))
        except (TypeError, ValueError, NotImplementedError) as error:
            kind = table.features[column]
            raise UserError(f"column {column!r} of {name} holds no pictures: {kind}") from error
        return cls(one, name)

    def __len__(self) -> int:
        return len(self.table)

    def picture(self, row: int) -> "Image":
        """One picture, decoded and upright.

        Raises:
            DamagedFileError: it cannot be decoded.
        """
        (cell,) = self.table[row].values()
        return opened(io.BytesIO(cell["bytes"]) if cell["bytes"] else cell["path"],
                      f"row {row} of {self.name}")  # fmt: skip


def opened(file: str | Path | IO[bytes], name: str) -> "Image":
    """Decode a picture and turn it as its camera was held."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(file) as picture:
            return ImageOps.exif_transpose(picture)
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError) as error:
        raise DamagedFileError(f"{name} is no picture that can be decoded: {error}") from error


def labels_of(table: "Dataset", column: str, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """The labels of a table, and their names where it says them.  ``int64 [N]``.

    Args:
        table: of images.
        column: of labels.
        name: of the data set, for errors.

    Raises:
        DamagedFileError: a label is no class: no whole number, below 0, as hidden ones are, or
            beyond the names.
    """
    from datasets import ClassLabel

    feature: Any = table.features[column]
    values = np.asarray(table.with_format("numpy")[column][:])
    if values.dtype.kind in "OUS":
        if None in values.tolist():
            raise DamagedFileError(
                f"column {column!r} of {name} lacks {values.tolist().count(None):,} labels: give a "
                "part whose labels are known"
            )
        names, numbers = np.unique(values.astype(str), return_inverse=True)
        return numbers.astype(np.int64), tuple(names.tolist())
    names_of_classes = tuple(feature.names) if isinstance(feature, ClassLabel) else ()
    most = len(names_of_classes) or np.inf
    whole = (values >= 0) & (values < most) & (values == np.floor(values))
    wrong = values[~whole]  # a missing one is NaN
    if len(wrong):
        raise DamagedFileError(
            f"column {column!r} of {name} holds {wrong[0]}, which is no class ({len(wrong):,} such "
            "labels; -1 stands for a hidden one): give a part whose labels are known"
        )
    return values.astype(np.int64), names_of_classes
