"""Files that are either whole or absent."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from bench.errors import DamagedFileError, UserError


def home() -> Path:
    """The data folder: ``MERGESHIFT_HOME``, else ``mergeshift`` in the user's cache (XDG)."""
    if chosen := os.environ.get("MERGESHIFT_HOME"):
        return Path(chosen).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "mergeshift"


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path; it replaces ``path`` when the block ends well, else it goes.

    Raises:
        UserError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; free some space"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """Hex digest of a file's bytes."""
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, sort_keys=True, default=str) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        DamagedFileError: the file is not JSON.
    """
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise DamagedFileError(f"{path} is damaged ({error}); delete it and run again") from error
