"""Blur. At 32 px the constants of CIFAR-10-C, at 224 px those of ImageNet-C."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from corruptions.base import corruption
from corruptions.filters import enlarged, smear, smooth
from corruptions.imagenet_c import imagenet_c

SOURCE = "Hendrycks & Dietterich 2019, make_cifar_c.py; imagecorruptions"


@corruption(family="blur", source=SOURCE, ms=(0.1, 3.3))
def motion_blur(
    image: np.ndarray, severity: int, constants: str, rng: np.random.Generator
) -> np.ndarray:
    """Smear the image along a line within 45 degrees of the horizontal."""
    if constants == "imagenet-c":
        return imagenet_c("motion_blur", image, severity, rng)
    radius, sigma = ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))[severity - 1]
    smeared = smear(image, radius, sigma, angle=rng.uniform(-45, 45))
    return np.rint(smeared).astype(np.uint8)  # ImageMagick, which made the published data, rounds


@corruption(family="blur", source=SOURCE, ms=(0.09, 1.5))
def defocus_blur(
    image: np.ndarray, severity: int, constants: str, rng: np.random.Generator
) -> np.ndarray:
    """Spread each pixel over a disk, as a lens out of focus does."""
    import cv2

    radius, softness = {
        "cifar10-c": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        "imagenet-c": ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    }[constants][severity - 1]
    blurred = cv2.filter2D(image / 255.0, -1, disk(radius, softness))
    return (blurred.clip(0, 1) * 255).astype(np.uint8)


def disk(radius: float, softness: float) -> np.ndarray:
    """A disk of sum 1 with a soft rim.  Shape ``[side, side]``, float32.

    Args:
        radius: pixels.
        softness: pixels, sigma of the Gaussian at the rim.
    """
    import cv2

    reach, side = (8, 3) if radius <= 8 else (int(radius), 5)
    line = np.arange(-reach, reach + 1)
    inside = (line[:, None] ** 2 + line**2 <= radius**2).astype(np.float32)
    return cv2.GaussianBlur(inside / inside.sum(), (side, side), softness)


@corruption(family="blur", source=SOURCE, ms=(0.06, 2.9))
def glass_blur(
    image: np.ndarray, severity: int, constants: str, rng: np.random.Generator
) -> np.ndarray:
    """Let pixels take the colours of near ones, between two Gaussian blurs."""
    sigma, reach, times = {
        "cifar10-c": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        "imagenet-c": ((0.7, 1, 2), (0.9, 2, 1), (1.0, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    }[constants][severity - 1]
    seed = int(rng.integers(2**32))
    blurred = (smooth(image / 255.0, sigma) * 255).astype(np.uint8)
    scatterer()(blurred, reach, times, seed)
    return (smooth(blurred / 255.0, sigma).clip(0, 1) * 255).astype(np.uint8)


@lru_cache(maxsize=1)
def scatterer() -> Callable[[np.ndarray, int, int, int], None]:
    """The loop over pixels of :func:`glass_blur`, compiled once in a process.

    It draws as the package's does. That one says to swap two pixels, but what numba swaps are views
    of one array: the first takes the second's colour, and the second keeps it.
    """
    from numba import njit

    @njit
    def scatter(image: np.ndarray, reach: int, times: int, seed: int) -> None:
        np.random.seed(seed)  # noqa: NPY002  numba's own generator
        height, width, channels = image.shape
        for _ in range(times):
            for row in range(height - reach, reach, -1):
                for column in range(width - reach, reach, -1):
                    right = np.random.randint(-reach, reach)  # noqa: NPY002
                    down = np.random.randint(-reach, reach)  # noqa: NPY002
                    for channel in range(channels):
                        image[row, column, channel] = image[row + down, column + right, channel]

    return scatter


@corruption(family="blur", source=SOURCE, ms=(0.33, 5.7))
def zoom_blur(
    image: np.ndarray, severity: int, constants: str, rng: np.random.Generator
) -> np.ndarray:
    """The mean of the image at rising enlargements.

    The code for 32 px enlarges the middle; the package, for 224 px, keeps the upper left corner of
    the enlarged middle.
    """
    until, step = {
        "cifar10-c": ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
        "imagenet-c": ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
    }[constants][severity - 1]
    factors = np.arange(1, until, step)
    planes = np.ascontiguousarray(image.transpose(2, 0, 1), np.float32) / 255
    total = planes.copy()
    for factor in factors:
        layer = zoomed(planes, float(factor), centred=constants == "cifar10-c")
        total[:, : layer.shape[1], : layer.shape[2]] += layer
    mean = (total / np.float32(len(factors) + 1)).clip(0, 1) * 255
    return np.ascontiguousarray(mean.astype(np.uint8).transpose(1, 2, 0))


def zoomed(planes: np.ndarray, factor: float, centred: bool, whole: bool = False) -> np.ndarray:
    """The middle of planes at ``factor`` times its size.  ``[..., H, W] -> [..., H, W]``, or less.

    Args:
        planes: float.
        factor: at least 1.
        centred: keep the middle of the result, else its upper left corner.
        whole: keep all of it, which may be a little larger.
    """
    sides = planes.shape[-2:]
    inner = [int(np.ceil(side / factor)) for side in sides]
    starts = [(side - part) // 2 for side, part in zip(sides, inner, strict=True)]
    rows, columns = (slice(s, s + n) for s, n in zip(starts, inner, strict=True))
    trims = [
        (round(n * factor) - side) // 2 * centred for n, side in zip(inner, sides, strict=True)
    ]
    kept = [(side + trim) * (1 + whole) for side, trim in zip(sides, trims, strict=True)]
    large = enlarged(planes[..., rows, columns], factor, *kept)
    return large[..., trims[0] :, trims[1] :]


@corruption(family="extra", source=SOURCE, ms=(0.03, 1.0))
def gaussian_blur(
    image: np.ndarray, severity: int, constants: str, rng: np.random.Generator
) -> np.ndarray:
    """Gaussian filter."""
    sigma = {
        "cifar10-c": (0.4, 0.6, 0.7, 0.8, 1.0),
        "imagenet-c": (1, 2, 3, 4, 6),
    }[constants][severity - 1]
    return (smooth(image / 255.0, sigma).clip(0, 1) * 255).astype(np.uint8)
