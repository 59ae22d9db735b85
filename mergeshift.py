"""What every part of MergeShift stands on, and the door for a notebook.

Mistakes of a user or of their data, reported as one line and never as a traceback; one registry
class, whose instances hold methods, tasks, suites and corruptions; seeds that depend on *what* is
drawn, never on *when* it is drawn; files that are either whole or absent; the data folder; worker
processes that end with their parent; Lightning without what it does not use.

It imports nothing of ours. ``mergeshift.sweep`` and the other names in ``API`` are those of
``bench.api``, which is imported when one of them is first asked for.
"""

from __future__ import annotations

import codecs
import importlib
import json
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from functools import partial
from hashlib import blake2b, sha256
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from multiprocessing.process import BaseProcess

    import numpy as np

API = ("Results", "check", "evaluate", "load", "merge", "register", "sweep")  # of bench.api


def __getattr__(name: str) -> Any:
    """What ``bench.api`` offers, imported when it is asked for."""
    if name in API:
        return getattr(importlib.import_module("bench.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Names that a notebook completes."""
    return sorted({*globals(), *API})


def version() -> str:
    """The version of the installed distribution; of a checkout alone what pyproject.toml says."""
    from importlib import metadata

    try:
        return metadata.version("mergeshift")
    except metadata.PackageNotFoundError:
        import tomllib

        with Path(__file__).with_name("pyproject.toml").open("rb") as file:
            return str(tomllib.load(file)["project"]["version"])


class UserError(Exception):
    """What is wrong, what was got, what to do. The command line prints it and exits with 2."""


class UnknownNameError(UserError, KeyError):
    """A name that no registry holds. The message lists the names that it does hold."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would print the message in quotes


class DamagedFileError(UserError):
    """A file that is truncated, altered or not what its name says."""


class Notice(UserWarning):
    """Something about a user's data that may not be what they think. The command line prints it."""


MARKS = {  # at the beginning of a text -> its encoding; the longer first
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """An ordered mapping from a name to a thing; names are added once and never replaced.

    >>> fruit: Registry[int] = Registry("fruit")
    >>> fruit.add("apple", 3)
    3
    >>> fruit["aple"]
    Traceback (most recent call last):
    mergeshift.UnknownNameError: no fruit named 'aple'; did you mean 'apple'? Known: apple
    """

    def __init__(self, kind: str):
        self.kind = kind
        self._items: dict[str, T] = {}

    def add(self, name: str, item: T) -> T:
        """Store ``item`` under ``name`` and return it."""
        if name in self._items:
            raise ValueError(f"{self.kind} {name!r} is already registered: {self._items[name]!r}")
        self._items[name] = item
        return item

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator form of :meth:`add`."""
        return lambda item: self.add(name, item)

    def discard(self, name: str) -> None:
        """Forget ``name``: a cell of a notebook that is run again defines it anew."""
        self._items.pop(name, None)

    def __getitem__(self, name: str) -> T:
        if name in self._items:
            return self._items[name]
        close = get_close_matches(name, self._items, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise UnknownNameError(
            f"no {self.kind} named {name!r}; {hint}Known: {', '.join(self._items)}"
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)


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
    import numpy as np  # a tenth of a second that help and completion need not wait for

    return np.random.default_rng(seed_of(*parts))


def home() -> Path:
    """The data folder: ``MERGESHIFT_HOME``, else ``mergeshift`` in the user's cache.

    That is the cache folder of the system on macOS and Windows, and elsewhere that of XDG.
    """
    if chosen := os.environ.get("MERGESHIFT_HOME"):
        return Path(chosen).expanduser()
    if sys.platform in ("darwin", "win32"):
        import platformdirs

        return platformdirs.user_cache_path("mergeshift", appauthor=False)
    # platformdirs does not expand ~ in the variable, and ignores a relative path.
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "mergeshift"


def end_with_parent() -> None:
    """Called in a worker process: let it end when its parent does, even if that is killed.

    A killed command then leaves nothing running. In a process without a parent nothing happens.
    """
    import multiprocessing  # help and completion need not wait for it

    def follow(parent: BaseProcess) -> None:
        parent.join()
        os._exit(1)

    if parent := multiprocessing.parent_process():
        threading.Thread(target=follow, args=(parent,), daemon=True).start()


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


# -- Lightning without what it does not use ------------------------------------------------------

METRICS_OF_LIGHTNING = {  # what Lightning takes from torchmetrics -> where it lies there
    "Metric": "torchmetrics.metric",
    "MetricCollection": "torchmetrics.collections",
    "__version__": "torchmetrics.__about__",
}


class LazyMetrics:
    """Imports of torchmetrics: its base classes at once, all else when somebody asks for it.

    Lightning needs two classes of it, but ``import torchmetrics`` loads every metric, and with them
    transformers, torchvision, torch's compiler and scipy.signal: half the CPU time of each command
    and each worker. What torchmetrics offers stays as it is; only the moment of its import moves.

    A finder of ``sys.meta_path`` and the loader of that one package.
    """

    def find_spec(
        self, name: str, path: Any = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "torchmetrics":
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        specs = (finder.find_spec(name, path, target) for finder in others)
        spec = next(filter(None, specs), None)
        if spec and spec.loader:
            self.exec_whole = spec.loader.exec_module
            self.create_module = spec.loader.create_module
            spec.loader = self  # type: ignore[assignment]
        return spec

    def exec_module(self, module: ModuleType) -> None:
        import logging

        self.lock, self.is_whole = threading.RLock(), False
        module._logger = logging.getLogger("torchmetrics")  # type: ignore[attr-defined]
        module.__getattr__ = partial(self.ask, module)  # type: ignore[method-assign]

    def ask(self, module: ModuleType, name: str) -> Any:
        """An attribute that the package does not have yet."""
        with self.lock:
            if not self.is_whole and (found := self.of_lightning(name)) is not None:
                return found
            if not self.is_whole and (name == "__all__" or not name.startswith("__")):
                self.is_whole = True  # and what it asks of itself meanwhile is not there
                try:
                    self.exec_whole(module)
                except BaseException:
                    self.is_whole = False
                    raise
            if name in vars(module):
                return vars(module)[name]
        raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")

    def of_lightning(self, name: str) -> Any:
        """One of its few parts; None if it is another, or this version keeps it elsewhere."""
        if name not in METRICS_OF_LIGHTNING:
            return None
        try:
            importlib.import_module("torchmetrics.utilities")  # the way into the package's circles
            return getattr(importlib.import_module(METRICS_OF_LIGHTNING[name]), name)
        except (ImportError, AttributeError):
            return None


if not any(type(finder).__name__ == LazyMetrics.__name__ for finder in sys.meta_path):
    sys.meta_path.insert(0, LazyMetrics())


# -- files -----------------------------------------------------------------------------------------


def sha256_of(path: Path) -> str:
    """Hex digest of a file's bytes."""
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_text(path: Path) -> str:
    """A text in UTF-8, or in the encoding that a mark at its beginning says (as Windows writes).

    Raises:
        UnicodeDecodeError: it is in neither.
        OSError: it cannot be read.
    """
    data = path.read_bytes()
    encoding = next((name for mark, name in MARKS.items() if data.startswith(mark)), "utf-8")
    return data.decode(encoding)


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
        return json.loads(path.read_bytes())  # in any encoding of Unicode, marked or not
    except ValueError as error:
        raise DamagedFileError(f"{path} is damaged ({error}); delete it and run again") from error
