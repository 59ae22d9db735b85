"""Another corruption for each image: no method can adapt to one."""

import numpy as np

from corruptions import blur, digital, noise, weather  # noqa: F401  these register the members
from corruptions.base import CORRUPTIONS, PROTOCOL, corruption


def _mean(number: int) -> float:
    """Milliseconds of the members, at 32 (0) or 224 (1) pixels."""
    return round(sum(CORRUPTIONS[name].ms[number] for name in PROTOCOL) / len(PROTOCOL), 2)


@corruption(
    family="mixed",
    source=f"ours: one of {', '.join(PROTOCOL)}, drawn for each image",
    version=1 + sum(CORRUPTIONS[name].version - 1 for name in PROTOCOL),
    ms=(_mean(0), _mean(1)),
)
def mixed(image: np.ndarray, severity: int, constants: str, rng: np.random.Generator) -> np.ndarray:
    """One of AdaMerging's seven at this severity; which one is drawn for each image."""
    name = PROTOCOL[int(rng.integers(len(PROTOCOL)))]
    return CORRUPTIONS[name](image, severity, constants, rng)
