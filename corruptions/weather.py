"""Weather. At 32 px the constants of CIFAR-10-C, at 224 px those of ImageNet-C."""

import numpy as np

from corruptions.base import corruption
from corruptions.imagenet_c import imagenet_c

WATER = np.array([175, 238, 238], np.float32)  # pale turquoise
MUD = np.array([63, 42, 20], np.float32)


@corruption(
    family="weather", source="Hendrycks & Dietterich 2019, make_cifar_c.py; imagecorruptions"
)
def spatter(
    image: np.ndarray, severity: int, constants: str, rng: np.random.Generator
) -> np.ndarray:
    """Throw drops of water (severity 1 to 3) or of mud (4 and 5) on the lens."""
    if constants == "imagenet-c":
        return imagenet_c("spatter", image, severity, rng)
    mean, std, size, threshold, strength, throw = (
        (0.62, 0.1, 0.7, 0.7, 0.5, water),
        (0.65, 0.1, 0.8, 0.7, 0.5, water),
        (0.65, 0.3, 1.0, 0.69, 0.5, water),
        (0.65, 0.1, 0.7, 0.69, 0.6, mud),
        (0.65, 0.1, 0.5, 0.68, 0.6, mud),
    )[severity - 1]
    noise = rng.normal(mean, std, image.shape[:2])
    return throw(image, smooth(noise, size), threshold, strength)


def water(image: np.ndarray, liquid: np.ndarray, threshold: float, strength: float) -> np.ndarray:
    """Lighten the image where ``liquid`` exceeds the threshold, most at the rims of the drops.

    Deviation: the published code divides by zero where no drop falls; here nothing changes then.

    Args:
        image: uint8 ``[H, W, 3]``.
        liquid: smooth noise ``[H, W]``.
        threshold: of the noise.
        strength: share of the water's colour that is added where it is thickest.
    """
    import cv2

    depth = (255 * np.where(liquid < threshold, 0, liquid)).clip(0, 255).astype(np.uint8)
    away = cv2.distanceTransform(255 - cv2.Canny(depth, 50, 150), cv2.DIST_L2, 5)
    rim = cv2.equalizeHist(cv2.blur(np.minimum(away, 20), (3, 3)).astype(np.uint8))
    relief = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
    rim = cv2.blur(cv2.filter2D(rim, cv2.CV_8U, relief), (3, 3))
    thickness = depth * rim.astype(np.float32)  # [H, W]
    cover = thickness * (strength / max(1.0, float(thickness.max())))
    return (image + cover[..., None] * WATER).clip(0, 255).astype(np.uint8)


def mud(image: np.ndarray, liquid: np.ndarray, threshold: float, strength: float) -> np.ndarray:
    """Cover the image where ``liquid`` exceeds the threshold; rims are softened by ``strength``.

    Args:
        image: uint8 ``[H, W, 3]``.
        liquid: smooth noise ``[H, W]``.
        threshold: of the noise.
        strength: pixels, sigma of the softening.
    """
    cover = smooth((liquid > threshold).astype(np.float32), strength)[..., None]  # [H, W, 1]
    cover[cover < 0.8] = 0
    return (image * (1 - cover) + cover * MUD).clip(0, 255).astype(np.uint8)


def smooth(values: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian filter, cut at four sigma, edges repeated.  ``[H, W] -> [H, W]``."""
    import cv2

    side = 2 * int(4 * sigma + 0.5) + 1  # as scipy.ndimage.gaussian_filter, six times as fast
    return cv2.GaussianBlur(values, (side, side), sigma, borderType=cv2.BORDER_REPLICATE)
