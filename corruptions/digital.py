"""Digital artefacts. At 32 px the constants of CIFAR-10-C, at 224 px those of ImageNet-C."""

from io import BytesIO

import numpy as np

from corruptions.base import corruption
from corruptions.imagenet_c import imagenet_c

SOURCE = "Hendrycks & Dietterich 2019, make_cifar_c.py; imagecorruptions"


@corruption(family="digital", source=SOURCE)
def contrast(
    image: np.ndarray, severity: int, constants: str, rng: np.random.Generator
) -> np.ndarray:
    """Shrink each channel towards its mean."""
    if constants == "imagenet-c":
        return imagenet_c("contrast", image, severity, rng)
    factor = (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1]
    mean = image.mean(axis=(0, 1))  # [3]
    return (factor * (image - mean) + mean).astype(np.uint8)  # truncates, as the published data


@corruption(family="digital", source=SOURCE)
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


@corruption(family="digital", source=SOURCE)
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
