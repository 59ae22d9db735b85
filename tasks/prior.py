"""The shift ``prior``: the test images of a task with other frequencies of its classes.

A classifier that gains by what is frequent in training loses where something else is. No image is
changed and none is shown twice: of every class as many stay as fit the frequencies drawn for it.
"""

import numpy as np

from mergeshift import rng_of

CONCENTRATION = 0.1  # of the Dirichlet distribution: a few classes have most of the images


def frequencies(num_classes: int, *identity: object) -> np.ndarray:
    """Shares of the classes, drawn from Dirichlet(0.1).  ``float64 [C]``.

    Args:
        num_classes: of the task.
        identity: (data seed, name of the task): the shares depend on these alone.
    """
    return rng_of("prior", *identity).dirichlet(np.full(num_classes, CONCENTRATION))


def rows_of(labels: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """The images that stay, in their order.  ``int64 [N], float64 [C] -> int64 [n]``.

    Class c keeps floor(s p_c) images, the first that there are, with s = min_c n_c / p_c, the
    largest s at which no class runs out: the class that p favours most, against its images, keeps
    all of them. Classes without any image count for nothing.

    >>> rows_of(np.array([0, 0, 1, 1, 0, 0]), np.array([0.25, 0.75])).tolist()
    [2, 3]
    >>> rows_of(np.array([0, 0, 1, 1, 0, 0]), np.array([0.5, 0.5])).tolist()
    [0, 1, 2, 3]
    """
    there = np.bincount(labels, minlength=len(shares))
    wanted = np.where(there > 0, shares, 0.0)
    scale = (there[wanted > 0] / wanted[wanted > 0]).min()
    kept = np.floor(scale * wanted + 1e-9).astype(int)  # of the class that decides it, all
    rows = [np.flatnonzero(labels == label)[:count] for label, count in enumerate(kept)]
    return np.sort(np.concatenate(rows))
