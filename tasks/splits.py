"""How images are cut into train, adapt, val and test: what is tested was never seen.

A pool of pictures is cut by class, or by group, so that no neighbour of a tested picture is seen
either. The train and test parts of a published data set become four splits by a
:class:`SplitScheme`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from mergeshift import UserError, rng_of

SHARES = (0.6, 0.1, 0.1, 0.2)  # of a pool: train, adapt, val, test
SHARE = 0.1  # of a published test part: adapt, and val as well; of train: val as published

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


@dataclass(frozen=True)
class SplitScheme:
    """Which images of which part a split has, and in which (random, fixed) order.

    Published experts have seen the usual val, a tenth of train: so adapt and val are a tenth of
    test each, and the rest of test is what is reported. ``published`` keeps the field's habit: all
    of test is reported, methods adapt on it, and val is the tenth of train.
    """

    published: bool = False
    most: int = 0  # images that a published val has at most; 0 is any number
    apart: bool = False  # whether a published val is taken out of train

    def part(self, split: str) -> str:
        """Whether a split comes from ``train`` or ``test``."""
        return "train" if split == "train" or (split == "val" and self.published) else "test"

    def sizes(self, train: int, test: int) -> tuple[int, int, int, int]:
        """Images in train, adapt, val, test, of parts with so many.

        >>> SplitScheme().sizes(100, 57)
        (100, 5, 5, 47)
        >>> SplitScheme(published=True, apart=True).sizes(100, 57)
        (90, 57, 10, 57)
        """
        if self.published:
            val = self._val(train)
            return train - val * self.apart, test, val, test
        tenth = max(1, int(SHARE * test))
        return train, tenth, tenth, test - 2 * tenth

    def counts(self, sizes: tuple[int, int, int, int]) -> dict[str, int]:
        """Images in the parts that have splits of these sizes: the inverse of :meth:`sizes`."""
        if self.published:
            return {"train": sizes[0] + sizes[2] * self.apart, "test": sizes[3]}
        return {"train": sizes[0], "test": sum(sizes[1:])}

    def rows(self, split: str, count: int, key: str) -> np.ndarray:
        """The images of a split among the ``count`` of its part.  ``int64 [n]``.

        Args:
            split: train, adapt, val or test.
            count: images of the part that it comes from.
            key: of the part; tasks over the same part are cut alike.

        Raises:
            UserError: there are too few images to cut.
        """
        if split == "train":
            rows = self._published(count)[0] if self.published and self.apart else np.arange(count)
        elif self.published:
            rows = self._published(count)[1] if split == "val" else np.arange(count)
        else:
            tenth = self.sizes(0, count)[1]
            if count <= 2 * tenth:
                raise UserError(f"{key} has {count} images to test on; 3 is the least to cut")
            edges = {"adapt": (0, tenth), "val": (tenth, 2 * tenth), "test": (2 * tenth, count)}
            return rng_of("cut", key).permutation(count)[slice(*edges[split])]
        return rng_of("order", key, split).permutation(rows)

    def _val(self, train: int) -> int:
        tenth = int(SHARE * train)
        return min(tenth, self.most) if self.most else tenth

    def _published(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Train and val as ``torch.utils.data.random_split`` with seed 0 draws them."""
        import torch  # a second and more that listing tasks need not wait for

        order = torch.randperm(count, generator=torch.Generator().manual_seed(0)).numpy()
        first = count - self._val(count)
        return order[:first], order[first:]


OWN = SplitScheme()
