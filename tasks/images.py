"""Images of a split: an array, or pictures that are decoded and resized when they are looked at."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from corruptions.base import CLEAN, SMALLEST, Shift
from corruptions.parallel import LazyImages, Rows

if TYPE_CHECKING:
    from PIL.Image import Image

done: Counter[str] = Counter()  # pictures "decoded" and "corrupted" by this process


class Reader(Protocol):
    """Stored pictures, by number. Picklable: workers read, too."""

    def __len__(self) -> int: ...

    def picture(self, row: int) -> "Image":
        """One picture, decoded, in any mode.

        Raises:
            UserError: it cannot be read.
        """


@dataclass(frozen=True, eq=False)
class Pictures:
    """``uint8 [N, size, size, 3]`` that is decoded on demand, and only as far as it is asked for.

    ``pictures[rows]`` is an array; :meth:`first` stays lazy.
    """

    reader: Reader
    rows: np.ndarray  # int [N]: which of the reader's pictures, in the order of the split
    size: int  # pixels
    digest: str  # 32 hex digits of all that decides the pixels

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """``N, size, size, 3``."""
        return len(self.rows), self.size, self.size, 3

    @property
    def nbytes(self) -> int:
        """Bytes of the decoded array."""
        return int(np.prod(self.shape))

    def first(self, limit: int | None) -> "Pictures":
        """The first ``limit`` pictures, not decoded."""
        if limit is None or limit >= len(self):
            return self
        return replace(self, rows=self.rows[:limit], digest=f"{self.digest[:24]}{limit:08x}")

    def take(self, rows: np.ndarray) -> "Pictures":
        """Some of the pictures, not decoded.  ``int64 [n]``, numbers in this split."""
        chosen = np.ascontiguousarray(rows).tobytes()
        told = blake2b(chosen, digest_size=8, key=self.digest.encode())
        return replace(self, rows=self.rows[rows], digest=f"{self.digest[:16]}{told.hexdigest()}")

    def native(self, index: int) -> np.ndarray:
        """One picture as it was stored.  ``-> uint8 [H, W, 3]``."""
        done["decoded"] += 1
        return np.asarray(as_rgb(self.reader.picture(int(self.rows[index]))))

    def __getitem__(self, rows: Rows) -> np.ndarray:
        """Decoded pictures.  ``-> uint8 [n, size, size, 3]``."""
        return self.under(CLEAN, rows)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)

    def under(self, shift: Shift, rows: Rows, *identity: object) -> np.ndarray:
        """Pictures under a shift, which is applied where its placement says.

        Args:
            shift: at the input size, or to the picture as it was stored.
            rows: numbers in this split.
            identity: (data_seed, task); see :meth:`corruptions.base.Shift.apply`.

        Returns:
            ``uint8 [n, size, size, 3]``
        """
        numbers = np.arange(len(self))[rows]
        found = np.empty((numbers.size, *self.shape[1:]), np.uint8)
        for place, index in zip(found, numbers.ravel().tolist(), strict=True):
            place[:] = self._one(shift, index, identity)
        return found.reshape(*numbers.shape, *self.shape[1:])

    def _one(self, shift: Shift, index: int, identity: Iterable[object]) -> np.ndarray:
        image = self.native(index)
        if shift == CLEAN:
            return fit(image, self.size)
        done["corrupted"] += 1
        if shift.placement == "native":
            return fit(shift.apply(at_least(image, SMALLEST), *identity, index), self.size)
        return shift.apply(fit(image, self.size), *identity, index)


@dataclass(frozen=True, eq=False)
class Streamed:
    """Pictures under a shift: decoded and corrupted when they are looked at, and not kept."""

    pictures: LazyImages
    shift: Shift
    identity: tuple[object, ...]  # data seed, task

    @property
    def shape(self) -> tuple[int, ...]:
        """``N, size, size, 3``."""
        return self.pictures.shape

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, rows: Rows) -> np.ndarray:
        """``-> uint8 [n, size, size, 3]``."""
        return self.pictures.under(self.shift, rows, *self.identity)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)


@dataclass(frozen=True)
class Images:
    """One split of one task."""

    images: np.ndarray | Pictures  # uint8 [N, H, W, 3], memory-mapped or lazy
    labels: np.ndarray  # int64 [N]

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, limit: int | None) -> "Images":
        """The first ``limit`` images: a random sample, since a split is stored shuffled."""
        images = self.images
        some = images.first(limit) if isinstance(images, Pictures) else images[:limit]
        return Images(some, self.labels[:limit])

    def take(self, rows: np.ndarray) -> "Images":
        """Some of the images.  ``int64 [n]``, numbers in this split."""
        images = self.images
        some = images.take(rows) if isinstance(images, Pictures) else images[rows]
        return Images(some, self.labels[rows])


def as_rgb(picture: "Image") -> "Image":
    """Three channels of 8 bits, as CLIP's own transforms make them."""
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def fit(image: np.ndarray, size: int) -> np.ndarray:
    """Resize the shorter side to ``size`` (bicubic), cut out the centre.

    Sides and corners are those of torchvision's ``Resize`` and ``CenterCrop``, which open_clip and
    CLIP use: a side that is scaled is cut down to whole pixels, half a pixel of margin goes to the
    even neighbour.

    Args:
        image: ``uint8 [H, W, 3]``.
        size: pixels.

    Returns:
        ``uint8 [size, size, 3]``
    """
    resized = scaled(image, size)
    height, width = resized.shape[:2]
    top, left = round((height - size) / 2), round((width - size) / 2)
    return resized[top : top + size, left : left + size]


def at_least(image: np.ndarray, size: int) -> np.ndarray:
    """Enlarge a picture whose shorter side is below ``size``: corruptions take no smaller one."""
    return image if min(image.shape[:2]) >= size else scaled(image, size)


def scaled(image: np.ndarray, size: int) -> np.ndarray:
    """Resize the shorter side to ``size``.  ``uint8 [H, W, 3] -> uint8 [h, w, 3]``."""
    from PIL import Image

    height, width = image.shape[:2]
    short = min(height, width)
    if short == size:
        return image
    sides = int(size * width / short), int(size * height / short)
    return np.asarray(Image.fromarray(image).resize(sides, Image.Resampling.BICUBIC))
