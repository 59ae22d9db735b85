"""Corrupted images, computed once: in parallel, kept as uint8 by content hash, memory-mapped."""

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing, suppress
from functools import cache
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from tokenize import TokenError

import numpy as np

from corruptions.base import CLEAN, Shift
from corruptions.parallel import LazyImages, blocks
from mergeshift import UserError, atomic

Request = tuple[np.ndarray | LazyImages, Shift, str]  # images [N, H, W, 3], shift, task
BLOCK = 1 << 20  # bytes of images that one call of a worker corrupts
STALE = 86_400  # seconds after which the unfinished file of a killed run is rubbish


def corrupted(
    images: np.ndarray, shift: Shift, *, data_seed: int, task: str, folder: Path, jobs: int = 1
) -> np.ndarray:
    """Images under a shift; image i is ``shift.apply(images[i], data_seed, task, i)``.

    Args:
        images: uint8 ``[N, H, W, 3]``.
        shift: clean gives ``images`` itself back.
        data_seed: of the chance in the corruption.
        task: part of the chance's identity.
        folder: of the cache; a file there that is damaged is computed again.
        jobs: processes, if the images must be computed.

    Returns:
        uint8 ``[N, H, W, 3]``, memory-mapped and read-only.

    Raises:
        UserError: the disk is full, or the images cannot be corrupted.
    """
    if shift == CLEAN or not len(images):
        return images
    path = path_of(images, shift, data_seed=data_seed, task=task, folder=folder)
    found = _opened(path, images)
    if found is None:
        precompute([(images, shift, task)], data_seed=data_seed, folder=folder, jobs=jobs)
        found = _opened(path, images)
    if found is None:
        raise UserError(f"{path} went while it was in use; the disk budget of the cache is small")
    return found


def precompute(
    requests: Iterable[Request],
    *,
    data_seed: int,
    folder: Path,
    jobs: int = 1,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Compute what the cache lacks; each file is whole or absent, so a killed run loses one.

    Args:
        requests: images, shift and task of each file.
        data_seed: as for :func:`corrupted`.
        folder: of the cache.
        jobs: processes; the pixels do not depend on it.
        progress: is told the number of images that were just finished; their sum is
            :func:`missing`.

    Raises:
        UserError: the disk is full, or a worker was killed.
    """
    todo = _todo(requests, data_seed, folder)
    calls = [call for images, shift, task in todo.values() for call in _calls(images, shift, task)]
    jobs = min(jobs, len(calls))
    if jobs > 1:
        sources = _sources(todo, folder)
        calls = [(sources.get(id(call[0]), call[0]), *call[1:]) for call in calls]
    with closing(blocks([(*call, data_seed) for call in calls], jobs)) as made:
        for path, (images, shift, task) in todo.items():
            with atomic(path) as temporary, temporary.open("wb") as file:
                header = {"descr": "|u1", "fortran_order": False, "shape": images.shape}
                np.lib.format.write_array_header_1_0(file, header)
                for _ in _calls(images, shift, task):
                    block = next(made)
                    file.write(block.data)
                    if progress is not None:
                        progress(len(block))


def stored(
    images: np.ndarray | LazyImages, shift: Shift, *, data_seed: int, task: str, folder: Path
) -> np.ndarray | None:
    """Images under a shift, if they are in the cache; see :func:`corrupted`."""
    return _opened(path_of(images, shift, data_seed=data_seed, task=task, folder=folder), images)


def missing(requests: Iterable[Request], *, data_seed: int, folder: Path) -> int:
    """Count the images that :func:`precompute` would have to compute."""
    return sum(len(images) for images, _, _ in _todo(requests, data_seed, folder).values())


def path_of(
    images: np.ndarray | LazyImages, shift: Shift, *, data_seed: int, task: str, folder: Path
) -> Path:
    """Where the images under a shift lie: a hash of everything that decides their pixels."""
    return _path(_digest(images), shift, data_seed, task, folder)


def prune(folder: Path, budget_bytes: int, keep: Collection[Path] = ()) -> int:
    """Delete the files that were used longest ago until the rest fits the budget.

    Args:
        folder: of the cache.
        budget_bytes: for all files together.
        keep: files of :func:`path_of` that stay, even where they alone exceed the budget.

    Returns:
        The bytes that are left.
    """
    files = []
    for path in folder.iterdir() if folder.is_dir() else ():
        with suppress(FileNotFoundError):  # another process prunes too
            files.append((path.stat().st_mtime, path.stat().st_size, path))
    left = sum(size for _, size, _ in files)
    for used, size, path in sorted(files):
        unfinished = path.name.startswith(".")
        is_stale = unfinished and time.time() - used > STALE
        if is_stale or (left > budget_bytes and not unfinished and path not in keep):
            path.unlink(missing_ok=True)
            left -= size
    return left


def _todo(requests: Iterable[Request], data_seed: int, folder: Path) -> dict[Path, Request]:
    """What is not in the cache, by path."""
    digests: dict[int, str] = {}  # id of an array -> its digest
    todo: dict[Path, Request] = {}
    for images, shift, task in list(requests):  # a list, for an id is unique while it is held
        if not len(images) or (shift == CLEAN and isinstance(images, np.ndarray)):
            continue
        if id(images) not in digests:
            digests[id(images)] = _digest(images)
        path = _path(digests[id(images)], shift, data_seed, task, folder)
        if path not in todo and _opened(path, images) is None:
            todo[path] = (images, shift, task)
    return todo


def _digest(images: np.ndarray | LazyImages) -> str:
    """Hash shape and pixels."""
    if not isinstance(images, np.ndarray):
        return images.digest
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
        raise UserError(
            f"images are uint8 [N, H, W, 3]; got {images.dtype} {list(images.shape)}; convert them"
        )
    digest = blake2b(repr(images.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(images).data)
    return digest.hexdigest()


def _path(digest: str, shift: Shift, data_seed: int, task: str, folder: Path) -> Path:
    parts = "\x1f".join((digest, shift.key, str(data_seed), task, _libraries()))
    return folder / f"{shift.key}-{blake2b(parts.encode(), digest_size=16).hexdigest()}.npy"


@cache
def _libraries() -> str:
    """The libraries that decide pixels, with their versions."""
    names = ("numpy", "scipy", "scikit-image", "opencv-python", "pillow", "imagecorruptions-imaug")
    return " ".join(f"{name}=={version(name)}" for name in names)


def _opened(path: Path, images: np.ndarray | LazyImages) -> np.ndarray | None:
    """Map a file of the cache; nothing if it is absent or damaged: then it is computed again."""
    try:
        found = np.lib.format.open_memmap(path, mode="r")  # reads no pickles
    except (FileNotFoundError, NotADirectoryError, ValueError, TokenError):
        return None
    if found.shape != images.shape or found.dtype != np.uint8:
        return None
    with suppress(PermissionError):  # a cache that cannot be written may still be read
        os.utime(path)  # used now, for prune
    return found


def _calls(images: np.ndarray | LazyImages, shift: Shift, task: str) -> Iterator[tuple]:
    """Cut a request into blocks: the first arguments of a call of a worker."""
    size = max(1, BLOCK * len(images) // images.nbytes)
    for start in range(0, len(images), size):
        yield images, start, min(start + size, len(images)), shift, task


def _sources(todo: dict[Path, Request], folder: Path) -> dict[int, Path]:
    """Write each array of images to a file that workers map.  Id of the array -> path."""
    sources: dict[int, Path] = {}
    for images, _, _ in todo.values():
        if isinstance(images, np.ndarray) and id(images) not in sources:
            path = sources[id(images)] = folder / f"images-{_digest(images)}.npy"
            if _opened(path, images) is None:
                with atomic(path) as temporary, temporary.open("wb") as file:
                    np.save(file, images)
    return sources
