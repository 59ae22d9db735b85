"""Filters and resampling that several corruptions share; those of the published code, faster."""

from functools import lru_cache

import numpy as np


def smooth(values: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian filter, cut at four sigma, edges repeated.  ``[H, W]`` or ``[H, W, 3]`` -> same."""
    import cv2

    side = 2 * int(4 * sigma + 0.5) + 1  # as scipy.ndimage.gaussian_filter, six times as fast
    return cv2.GaussianBlur(values, (side, side), sigma, borderType=cv2.BORDER_REPLICATE)


def smear(image: np.ndarray, radius: int, sigma: float, angle: float) -> np.ndarray:
    """One-sided Gaussian blur along a line, as ImageMagick's.  ``[H, W(, 3)]`` -> float32.

    The same as ``imagecorruptions.corruptions._motion_blur``, six times as fast: the shifted
    images are views of one padded image (edge pixels repeated) instead of copies.

    Args:
        image: ``[H, W]`` or ``[H, W, 3]``, of any real type.
        radius: pixels; the line has 2 radius + 1 of them.
        sigma: pixels, of the Gaussian that starts at the pixel itself.
        angle: degrees.
    """
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    weights = (weights / weights.sum()).astype(np.float32)
    right = np.ceil(steps * np.cos(np.deg2rad(angle)) - 0.5).astype(int)
    down = np.ceil(steps * np.sin(np.deg2rad(angle)) - 0.5).astype(int)
    height, width, *channels = image.shape
    reach = len(steps)
    around = [(reach, reach), (reach, reach), *[(0, 0)] * len(channels)]
    padded = np.pad(image.astype(np.float32), around, "edge")
    smeared = np.zeros(image.shape, np.float32)
    for weight, y, x in zip(weights, down + reach, right + reach, strict=True):
        smeared += weight * padded[y : y + height, x : x + width]
    return smeared


def enlarged(planes: np.ndarray, factor: float, height: int, width: int) -> np.ndarray:
    """The first rows and columns of planes that are enlarged by ``factor``, linearly.

    As ``scipy.ndimage.zoom`` of order 1: corners meet corners. Rows and columns one after the
    other, and only those that are asked for.

    Args:
        planes: float ``[..., H, W]``.
        factor: at least 1.
        height: rows that are kept; all where there are fewer.
        width: columns.
    """
    for axis, kept in ((-2, height), (-1, width)):
        count = planes.shape[axis]
        size = round(count * factor)
        if size == count:
            planes = planes[(..., slice(kept), slice(None))] if axis == -2 else planes[..., :kept]
            continue
        first, share = _places(count, size, min(kept, size))
        low, high = planes.take(first, axis), planes.take(np.minimum(first + 1, count - 1), axis)
        weight = share.astype(planes.dtype)
        weight = weight[:, None] if axis == -2 else weight
        high -= low
        high *= weight
        high += low
        planes = high
    return planes


@lru_cache(maxsize=256)
def _places(count: int, size: int, kept: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each pixel of ``size`` that ``count`` become: the one before it, and how far behind."""
    places = np.arange(kept) * ((count - 1) / (size - 1))
    first = np.minimum(places.astype(int), count - 1)
    return first, places - first


def displaced(image: np.ndarray, down: np.ndarray, right: np.ndarray) -> np.ndarray:
    """An image looked at elsewhere, linearly between pixels; it is mirrored beyond its edges.

    As ``scipy.ndimage.map_coordinates`` of order 1 with ``reflect``, all channels at once.

    Args:
        image: float32 ``[H, W, C]``.
        down: pixels, float32 ``[H, W]``, each less than H.
        right: pixels, float32 ``[H, W]``, each less than W.

    Returns:
        float32 ``[H, W, C]``
    """
    height, width, channels = image.shape
    y = down + np.arange(height, dtype=np.float32)[:, None]
    x = right + np.arange(width, dtype=np.float32)
    top, left = np.floor(y), np.floor(x)
    fy, fx = (y - top)[..., None], (x - left)[..., None]
    row, column = top.astype(np.intp), left.astype(np.intp)
    columns = _mirrored(column, width), _mirrored(column + 1, width)
    flat = image.reshape(-1, channels)
    upper, lower = (
        _between(flat.take(start + columns[0], 0), flat.take(start + columns[1], 0), fx)
        for start in (_mirrored(row, height) * width, _mirrored(row + 1, height) * width)
    )
    return _between(upper, lower, fy)


def _between(first: np.ndarray, last: np.ndarray, share: np.ndarray) -> np.ndarray:
    """``first + share (last - first)``, in the place of ``last``."""
    last -= first
    last *= share
    last += first
    return last


def _mirrored(index: np.ndarray, count: int) -> np.ndarray:
    """Indices of a line between its mirror images, at most a whole line away."""
    index = index ^ (index >> 63)  # -1 becomes 0, -2 becomes 1
    return np.minimum(index, 2 * count - 1 - index)
