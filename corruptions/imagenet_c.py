"""The ImageNet-C constants, through the package imagecorruptions."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import numpy as np

_GLOBAL_STATE = Lock()  # two threads must not seed NumPy's one global generator at a time


def legacy(rng: np.random.Generator) -> np.random.RandomState:
    """The generator that the package draws from, seeded as :func:`imagenet_c` seeds it."""
    return np.random.RandomState(int(rng.integers(2**32)))


def imagenet_c(name: str, image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Corrupt one image as ``imagecorruptions.corrupt`` does.  uint8 ``[H, W, 3]`` -> the same.

    Equal to ``corrupt(image, severity, name)`` under ``np.random.seed(seed)``, where ``seed`` is
    the first 32-bit integer of ``rng``, with one deviation: the package divides by zero in
    ``spatter`` if no drop falls on the picture (common at 32 px) and casts the NaN; here such a
    picture stays as it is.
    """
    from imagecorruptions import corruption_dict
    from PIL import Image

    seed = int(rng.integers(2**32))
    # These two ignore the global generator, and draw from the operating system without a seed.
    extra = {"seed": seed} if name in ("impulse_noise", "glass_blur") else {}
    with _seeded(seed), np.errstate(invalid="ignore"):
        out = np.asarray(corruption_dict[name](Image.fromarray(image), severity, **extra))
    return np.where(np.isfinite(out), out, image).astype(np.uint8)  # truncates, as the package


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed NumPy's global generator for the block, and put its state back."""
    with _GLOBAL_STATE:
        state = np.random.get_state()  # noqa: NPY002  the package draws from nowhere else
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(state)  # noqa: NPY002
