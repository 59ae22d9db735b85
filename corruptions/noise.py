"""Noise. At 32 px the constants of CIFAR-10-C, at 224 px those of ImageNet-C."""

import numpy as np

from corruptions.base import corruption
from corruptions.imagenet_c import imagenet_c, legacy

SOURCE = "Hendrycks & Dietterich 2019, make_cifar_c.py; imagecorruptions"


@corruption(family="noise", source=SOURCE, ms=(0.03, 2.6))
def gaussian_noise(
    image: np.ndarray, severity: int, constants: str, rng: np.random.Generator
) -> np.ndarray:
    """Add N(0, sigma^2) to every value; sigma is a share of the full range."""
    if constants == "imagenet-c":
        return imagenet_c("gaussian_noise", image, severity, rng)
    sigma = (0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1]
    noisy = image + np.float32(255 * sigma) * rng.standard_normal(image.shape, np.float32)
    return noisy.clip(0, 255).astype(np.uint8)  # truncates, as the published data


@corruption(family="noise", source=SOURCE, ms=(0.02, 2.0))
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


@corruption(family="noise", source=SOURCE, ms=(0.21, 8.0))
def shot_noise(
    image: np.ndarray, severity: int, constants: str, rng: np.random.Generator
) -> np.ndarray:
    """Count photons: Poisson noise.

    No faster than the package at 224 px: nearly all of the time goes into the draws of NumPy's
    legacy generator, one after the other, and other draws would be other pixels.
    """
    photons = {
        "cifar10-c": (500, 250, 100, 75, 50),
        "imagenet-c": (60, 25, 12, 5, 3),
    }[constants][severity - 1]
    counted = legacy(rng).poisson(image / 255.0 * photons) / float(photons)
    return (counted.clip(0, 1) * 255).astype(np.uint8)


@corruption(family="extra", source=SOURCE, ms=(0.13, 2.2))
def speckle_noise(
    image: np.ndarray, severity: int, constants: str, rng: np.random.Generator
) -> np.ndarray:
    """Add noise in proportion to the value itself."""
    sigma = {
        "cifar10-c": (0.06, 0.1, 0.12, 0.16, 0.2),
        "imagenet-c": (0.15, 0.2, 0.35, 0.45, 0.6),
    }[constants][severity - 1]
    values = image / 255.0
    noisy = values + values * legacy(rng).normal(scale=sigma, size=image.shape)
    return (noisy.clip(0, 1) * 255).astype(np.uint8)
