"""Seeds that depend on *what* is drawn, never on *when* it is drawn."""

from hashlib import blake2b

import numpy as np


def seed_of(*parts: object) -> int:
    """Hash ``parts`` to a seed in [0, 2**32); the same on every machine and in every process.

    32 bits, because that is what the global generators of NumPy and Lightning accept.

    >>> seed_of("letters", "gaussian_noise", 3, 17) == seed_of("letters", "gaussian_noise", 3, 17)
    True
    """
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(blake2b(text.encode(), digest_size=4).digest(), "big")


def rng_of(*parts: object) -> np.random.Generator:
    """A NumPy generator seeded with :func:`seed_of`."""
    return np.random.default_rng(seed_of(*parts))
