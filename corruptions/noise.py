"""Noise. At 32 px the constants of CIFAR-10-C, at 224 px those of ImageNet-C."""

import numpy as np

from corruptions.base import corruption
from corruptions.imagenet_c import imagenet_c

SOURCE = "Hendrycks & Dietterich 2019, make_cifar_c.py; imagecorruptions"


@corruption(family="noise", source=SOURCE)
def gaussian_noise(
    image: np.ndarray, severity: int, constants: str, rng: np.random.Generator
) -> np.ndarray:
    """Add N(0, sigma^2) to every value; sigma is a share of the full range."""
    if constants == "imagenet-c":
        return imagenet_c("gaussian_noise", image, severity, rng)
    sigma = (0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1]
    noisy = image + np.float32(255 * sigma) * rng.standard_normal(image.shape, np.float32)
    return noisy.clip(0, 255).astype(np.uint8)  # truncates, as the published data


@corruption(family="noise", source=SOURCE)
def impulse_noise(
    image: np.ndarray, severity: int, constants: str, rng: np.random.Generator
) -> np.ndarray:
    """Replace a share of the values by 0 or 255, with equal odds (each channel by itself)."""
    if constants == "imagenet-c":
        return imagenet_c("impulse_noise", image, severity, rng)
    share = (0.01, 0.02, 0.03, 0.05, 0.07)[severity - 1]
    chance = rng.random(image.shape, np.float32)
    noisy = np.where(chance < share, np.uint8(255), image)
    noisy[chance < share / 2] = 0
    return noisy
