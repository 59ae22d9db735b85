"""Splits that hold a source together: what is tested was never seen, nor its neighbour."""

from collections.abc import Iterable, Sequence
from hashlib import blake2b

import numpy as np

from bench.seeds import rng_of

SHARES = (0.6, 0.1, 0.1, 0.2)  # of a pool: train, adapt, val, test
TRAIN, ADAPT, VAL, TEST = range(4)


def by_class(labels: np.ndarray, *, key: str, shares: Sequence[float] = SHARES) -> np.ndarray:
    """A random split with the same shares of every class.  ``[N] -> int8 [N]``."""
    splits = np.empty(len(labels), np.int8)
    for label in np.unique(labels):
        where = np.flatnonzero(labels == label)
        where = rng_of("split", key, label).permutation(where)
        cuts = np.maximum(1, np.round(np.cumsum(shares)[:-1] * len(where))).astype(int)
        for part, rows in enumerate(np.split(where, cuts)):
            splits[rows] = part
    return splits


def by_group(groups: Iterable[object], *, shares: Sequence[float] = SHARES) -> np.ndarray:
    """Whole groups go to one split, decided by the group's name alone.  ``[N] -> int8 [N]``.

    Tasks that name their groups alike (two label sets over one map) share the split.
    """
    edges, names = np.cumsum(shares)[:-1], list(groups)
    known: dict[object, int] = {}
    for group in names:
        if group not in known:
            digest = blake2b(str(group).encode(), digest_size=8).digest()
            known[group] = int(np.searchsorted(edges, int.from_bytes(digest, "big") / 2**64))
    return np.array([known[group] for group in names], np.int8)


def near_duplicates(images: np.ndarray, *, cosine: float = 0.93) -> np.ndarray:
    """Group pictures that look alike, mirrored copies included.  ``uint8 [N, H, W] -> int [N]``.

    Two pictures are linked when the cosine of their mean-free pixels exceeds ``cosine``; a group
    is a connected component.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    def unit(stack: np.ndarray) -> np.ndarray:
        flat = stack.reshape(len(stack), -1).astype(np.float32)
        flat -= flat.mean(1, keepdims=True)
        return flat / (np.linalg.norm(flat, axis=1, keepdims=True) + 1e-6)

    plain, mirrored = unit(images), unit(images[:, :, ::-1])
    rows, columns = [], []
    for start in range(0, len(images), 1000):
        for view in (plain, mirrored):
            row, column = np.nonzero(view[start : start + 1000] @ plain.T > cosine)
            rows.append(row + start)
            columns.append(column)
    links = (np.concatenate(rows), np.concatenate(columns))
    graph = coo_matrix((np.ones(len(links[0]), bool), links), shape=(len(images),) * 2)
    return connected_components(graph, directed=False)[1]
