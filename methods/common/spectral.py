"""Singular vectors of matrices, and those of task vectors decomposed once for all methods.

The largest triplets of a task vector are kept in the data folder, named by the task vector's
content: every method and every process of a sweep reads them there. What was kept for a rank
serves every smaller one.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from hashlib import blake2b
from pathlib import Path

import torch
from torch import Tensor

from mergeshift import DamagedFileError, UserError, home
from methods.common.weights import open_safetensors, save_checkpoint

NULL = 1e-6  # a singular value below this share of the largest is float32's round-off

KEPT_FROM = 256  # rows and columns: what is smaller is decomposed as fast as it is read

LIMIT = "MERGESHIFT_SVD_GB"  # how large the folder may be, in GB; 0: nothing is kept
LIMIT_GB = 8.0
STALE = 24 * 3600  # seconds since it was last read: it makes room for others

KEEPS: ContextVar[bool] = ContextVar("keeps", default=True)  # see nothing_kept

Triplets = tuple[Tensor, Tensor, Tensor]  # U, S, V: [out, r], [r], [in, r]


def triplets(matrix: Tensor, rank: int) -> Triplets:
    """The largest singular values and their vectors.  ``-> [out, r], [r], [in, r]``.

    From the eigenvectors of M M^T or M^T M, whichever is smaller: twice as fast as an SVD, and in
    float64 as good for all but the smallest. Where a singular value is 0, so are its vectors.
    """
    rank = min(rank, *matrix.shape)
    if matrix.shape[0] > matrix.shape[1]:
        right, sizes, left = triplets(matrix.T, rank)
        return left, sizes, right
    values, vectors = torch.linalg.eigh(matrix @ matrix.T)
    first = len(values) - rank
    sizes = values[first:].flip(0).clamp(min=0).sqrt()
    seen = sizes > NULL * sizes[:1]  # none of no triplets
    left = vectors[:, first:].flip(1) * seen
    return left, sizes * seen, matrix.T @ left / sizes.where(seen, 1)


def polar(matrix: Tensor) -> Tensor:
    """P Q^T of the SVD P D Q^T: the nearest matrix with orthonormal columns.  ``[n, k]``.

    Directions with D = 0 are left out: of columns that depend on each other the result is the
    smallest of the nearest ones.

    >>> polar(torch.tensor([[2.0, 2.0], [0.0, 0.0]]))  # one direction, shared by both
    tensor([[0.7071, 0.7071],
            [0.0000, 0.0000]])
    """
    if matrix.shape[1] > matrix.shape[0]:
        return polar(matrix.T).T
    values, vectors = torch.linalg.eigh(matrix.T @ matrix)
    seen = values > NULL**2 * values[-1]
    roots = values.rsqrt().where(seen, 0)
    return matrix @ (vectors * roots) @ vectors.T


def singular_values(matrix: Tensor) -> Tensor:
    """All of them, the largest first; what is round-off is 0.  ``[n, k] -> [min(n, k)]``.

    >>> singular_values(torch.tensor([[0.0, 3.0], [0.0, 0.0], [4.0, 0.0]]))
    tensor([4., 3.])
    """
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    sizes = torch.linalg.eigvalsh(wide @ wide.T).flip(0).clamp(min=0).sqrt()
    return sizes.where(sizes > NULL * sizes[0], 0)


# -- decomposed once ---------------------------------------------------------------------------


def shared_triplets(tau: Tensor, rank: int) -> Triplets:
    """:func:`triplets` of a task vector; those of a large one are kept and read again.

    At the rank that they were kept for, the numbers are those of a decomposition bit for bit, at a
    smaller one up to round-off.
    """
    limit = limit_bytes()
    large = min(tau.shape) >= KEPT_FROM and tau.device.type == "cpu"
    if not (large and limit and KEEPS.get()):
        return triplets(tau, rank)
    path = folder() / f"{key_of(tau)}.safetensors"
    found = read(path, rank)
    if found is None:
        found = triplets(tau, rank)
        keep(path, found, limit)
    return found


@contextmanager
def nothing_kept() -> Iterator[None]:
    """In a block no triplets are kept or looked up: of task vectors that no other method has."""
    token = KEEPS.set(False)
    try:
        yield
    finally:
        KEEPS.reset(token)


def folder() -> Path:
    """Where they are kept."""
    return home() / "svd"


def limit_bytes() -> int:
    """How large the folder may become.

    Raises:
        UserError: what the environment says is no number.
    """
    text = os.environ.get(LIMIT, "")
    try:
        gigabytes = float(text) if text else LIMIT_GB
    except ValueError:
        gigabytes = -1.0
    if not 0 <= gigabytes < float("inf"):
        raise UserError(f"{LIMIT} is a number of GB, and 0 keeps nothing; got {text!r}")
    return int(gigabytes * 1e9)


def key_of(tau: Tensor) -> str:
    """The name of a matrix by its content."""
    head = repr((tuple(tau.shape), str(tau.dtype))).encode()
    hashed = blake2b(head, digest_size=16)
    hashed.update(tau.detach().contiguous().numpy().tobytes())
    return hashed.hexdigest()


def read(path: Path, rank: int) -> Triplets | None:
    """The first ``rank`` triplets of a file; ``None`` where it does not have so many."""
    if not path.exists():
        return None
    try:
        file = open_safetensors(path)
        left, sizes, right = (file.get_tensor(name) for name in ("left", "sizes", "right"))
    except DamagedFileError:
        return None  # it is made anew
    if len(sizes) < rank:
        return None
    with suppress(OSError):  # of a folder that others own
        os.utime(path)
    return left[:, :rank], sizes[:rank], right[:, :rank]


def keep(path: Path, found: Triplets, limit: int) -> None:
    """Write triplets, if there is room for them: what was not read for a day gives way."""
    left, sizes, right = found
    free = limit - sum(tensor.nbytes for tensor in found)
    path.parent.mkdir(parents=True, exist_ok=True)
    files = [(other, other.stat()) for other in path.parent.glob("*.safetensors")]
    used = sum(stat.st_size for other, stat in files if other != path)
    now = time.time()
    for other, stat in sorted(files, key=lambda pair: pair[1].st_mtime):
        if used > free and now - stat.st_mtime > STALE:
            other.unlink(missing_ok=True)
            used -= stat.st_size
    if used <= free:
        save_checkpoint(path, {"left": left, "sizes": sizes, "right": right})
