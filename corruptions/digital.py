"""Digital artefacts. At 32 px the constants of CIFAR-10-C, at 224 px those of ImageNet-C."""

from io import BytesIO

import numpy as np

from corruptions.base import corruption
from corruptions.filters import displaced
from corruptions.imagenet_c import imagenet_c, legacy

SOURCE = "Hendrycks & Dietterich 2019, make_cifar_c.py; imagecorruptions"


@corruption(family="digital", source=SOURCE, ms=(0.03, 1.4))
def contrast(
    image: np.ndarray, severity: int, constants: str, rng: np.random.Generator
) -> np.ndarray:
    """Shrink each channel towards its mean."""
    if constants == "imagenet-c":
        return imagenet_c("contrast", image, severity, rng)
    factor = (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1]
    mean = image.mean(axis=(0, 1))  # [3]
    return (factor * (image - mean) + mean).astype(np.uint8)  # truncates, as the published data


@corruption(family="digital", source=SOURCE, ms=(0.1, 0.6))
def jpeg_compression(
    image: np.ndarray, severity: int, constants: str, rng: np.random.Generator
) -> np.ndarray:
    """Write as JPEG and read back."""
    if constants == "imagenet-c":
        return imagenet_c("jpeg_compression", image, severity, rng)
    from PIL import Image

    quality = (80, 65, 58, 50, 40)[severity - 1]
    file = BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file, formats=["JPEG"]))


@corruption(family="digital", source=SOURCE, ms=(0.04, 0.4))
def pixelate(
    image: np.ndarray, severity: int, constants: str, rng: np.random.Generator
) -> np.ndarray:
    """Shrink and enlarge again, both with Pillow's box filter."""
    if constants == "imagenet-c":
        return imagenet_c("pixelate", image, severity, rng)
    from PIL import Image

    scale = (0.95, 0.9, 0.85, 0.75, 0.65)[severity - 1]
    picture = Image.fromarray(image)
    width, height = picture.size
    small = picture.resize((int(width * scale), int(height * scale)), Image.Resampling.BOX)
    return np.array(small.resize((width, height), Image.Resampling.BOX))


@corruption(family="digital", source=SOURCE, ms=(0.22, 2.3))
def elastic_transform(
    image: np.ndarray, severity: int, constants: str, rng: np.random.Generator
) -> np.ndarray:
    """Stretch and squeeze the image from place to place.

    The code for 32 px also moves three corners; the package, for 224 px, does not.
    """
    import cv2

    chance = legacy(rng)
    values: np.ndarray = image.astype(np.float32) / 255
    height, width, _ = image.shape
    if constants == "imagenet-c":
        strength = 250 * (0.05, 0.065, 0.085, 0.1, 0.12)[severity - 1]
        most, sigma = 0.005 * height, (0.01 * height, 0.01 * width)
    else:
        side = 32
        alpha, blur, move = (
            (0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05),
            (0.1, 0.03, 0.03),
        )[severity - 1]  # fmt: skip
        strength, most, sigma = side * alpha, 1.0, (side * blur, side * blur)
        values = cv2.warpAffine(values, _corners(height, width, side * move, chance),
                                (width, height), borderMode=cv2.BORDER_REFLECT_101)  # fmt: skip
    right, down = (
        (strength * _mellowed(chance.uniform(-most, most, (height, width)), sigma))
        .astype(np.float32) for _ in range(2)
    )  # fmt: skip
    return (displaced(values, down, right).clip(0, 1) * 255).astype(np.uint8)


def _corners(height: int, width: int, most: float, chance: np.random.RandomState) -> np.ndarray:
    """The affine map that moves three points around the middle by up to ``most`` pixels."""
    import cv2

    centre, reach = np.array([height, width], np.float32) // 2, min(height, width) // 3
    before = np.array([centre + reach, [centre[0] + reach, centre[1] - reach], centre - reach],
                      np.float32)  # fmt: skip
    after = before + chance.uniform(-most, most, before.shape).astype(np.float32)
    return cv2.getAffineTransform(before, after)


def _mellowed(values: np.ndarray, sigma: tuple[float, float]) -> np.ndarray:
    """Gaussian filter, cut at three sigma, mirrored at the edges.  ``[H, W] -> [H, W]``."""
    import cv2

    down, right = (max(one, 1e-9) for one in sigma)  # 0 has another meaning there
    sides = 2 * int(3 * right + 0.5) + 1, 2 * int(3 * down + 0.5) + 1
    return cv2.GaussianBlur(values, sides, sigmaX=right, sigmaY=down,
                            borderType=cv2.BORDER_REFLECT)  # fmt: skip


@corruption(family="extra", source=SOURCE, ms=(0.16, 3.8))
def saturate(
    image: np.ndarray, severity: int, constants: str, rng: np.random.Generator
) -> np.ndarray:
    """Scale and raise the saturation of HSV; what is grey counts as red.

    Value and hue stay, so each channel keeps its share of the way from the largest to the
    smallest: nothing is converted to HSV and back.
    """
    factor, more = {
        "cifar10-c": ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
        "imagenet-c": ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
    }[constants][severity - 1]
    most, below, saturation = value_and_saturation(image)
    wanted = (saturation * factor + more).clip(0, 1)
    below[..., 0][saturation[..., 0] == 0] = 0  # of grey, red alone stays
    return (most * (1 - wanted * below) * 255).astype(np.uint8)


def value_and_saturation(image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """HSV without its hue, which is said by where a channel lies between the largest and smallest.

    Double precision and the order of the package's steps, so that what it rounds down is rounded
    down here.

    Args:
        image: uint8 ``[H, W, 3]``.

    Returns:
        The value ``[H, W, 1]``; how far each channel is below it, as a share of the way to the
        smallest, ``[H, W, 3]`` (1 in grey); the saturation ``[H, W, 1]``.
    """
    values = image / 255.0
    most = values.max(axis=2, keepdims=True)
    spread = most - values.min(axis=2, keepdims=True)
    coloured = spread > 0
    below = np.divide(most - values, spread, where=coloured, out=np.ones_like(values))
    saturation = np.divide(spread, most, where=coloured, out=np.zeros_like(spread))
    return most, below, saturation
