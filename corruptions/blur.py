"""Blur. At 32 px the constants of CIFAR-10-C, at 224 px those of ImageNet-C."""

import numpy as np

from corruptions.base import corruption
from corruptions.imagenet_c import imagenet_c


@corruption(family="blur", source="Hendrycks & Dietterich 2019, make_cifar_c.py; imagecorruptions")
def motion_blur(
    image: np.ndarray, severity: int, constants: str, rng: np.random.Generator
) -> np.ndarray:
    """Smear the image along a line within 45 degrees of the horizontal."""
    if constants == "imagenet-c":
        return imagenet_c("motion_blur", image, severity, rng)
    radius, sigma = ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))[severity - 1]
    smeared = smear(image, radius, sigma, angle=rng.uniform(-45, 45))
    return np.rint(smeared).astype(np.uint8)  # ImageMagick, which made the published data, rounds


def smear(image: np.ndarray, radius: int, sigma: float, angle: float) -> np.ndarray:
    """One-sided Gaussian blur along a line, as ImageMagick's.  uint8 -> float32 ``[H, W, 3]``.

    The same as ``imagecorruptions.corruptions._motion_blur``, six times as fast: the shifted
    images are views of one padded image (edge pixels repeated) instead of copies.

    Args:
        image: uint8 ``[H, W, 3]``.
        radius: pixels; the line has 2 radius + 1 of them.
        sigma: pixels, of the Gaussian that starts at the pixel itself.
        angle: degrees.
    """
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    weights = (weights / weights.sum()).astype(np.float32)
    right = np.ceil(steps * np.cos(np.deg2rad(angle)) - 0.5).astype(int)
    down = np.ceil(steps * np.sin(np.deg2rad(angle)) - 0.5).astype(int)
    height, width, _ = image.shape
    reach = len(steps)
    padded = np.pad(image.astype(np.float32), ((reach, reach), (reach, reach), (0, 0)), "edge")
    smeared = np.zeros(image.shape, np.float32)
    for weight, y, x in zip(weights, down + reach, right + reach, strict=True):
        smeared += weight * padded[y : y + height, x : x + width]
    return smeared
