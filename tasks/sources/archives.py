"""Archives as data sources: one pinned file each, hashed, read in place, never executed."""

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

from filelock import FileLock

from mergeshift import DamagedFileError, home, sha256_of
from tasks.rights import Rights


@dataclass(frozen=True)
class Archive(ABC):
    """One file of a package index, in one version."""

    filename: str
    sha256: str
    megabytes: float
    rights: Rights  # in what is read out of it

    folder: ClassVar[str]  # of the data folder

    @property
    @abstractmethod
    def requirement(self) -> str:
        """Name and version, as its index writes them."""

    @property
    def path(self) -> Path:
        """Where the file lies once it is there; whoever has it already may put it there."""
        return home() / self.folder / self.filename

    def fetched(self) -> Path:
        """The file, downloaded on first use.

        Raises:
            UserError: the download failed, or the disk is full.
            DamagedFileError: the bytes are not the pinned ones. Of a download nothing is kept.
        """
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self.path}.lock"):
                if not self.path.exists():
                    self._keep()
        state = self.path.stat()
        if (digest := _digest(self.path, state.st_size, state.st_mtime_ns)) != self.sha256:
            raise DamagedFileError(
                f"{self.path} is damaged (sha256 {digest[:12]}..., expected "
                f"{self.sha256[:12]}...); delete it and run again"
            )
        return self.path

    def _keep(self) -> None:
        with tempfile.TemporaryDirectory(prefix=".download.", dir=self.path.parent) as folder:
            got = self.download(Path(folder))
            if (digest := sha256_of(got)) != self.sha256:
                raise DamagedFileError(
                    f"{self.filename} has sha256 {digest[:12]}..., expected {self.sha256[:12]}...; "
                    "nothing was kept; run again, and check the package index if it repeats"
                )
            got.replace(self.path)

    @abstractmethod
    def download(self, folder: Path) -> Path:
        """Put the file into an empty folder, and say where it is.

        Raises:
            UserError: it cannot be had; says what to do.
        """

    @abstractmethod
    def members(self, ending: str) -> Iterator[tuple[str, bytes]]:
        """Path and bytes of every file in it whose path ends so, in its order."""

    def member(self, ending: str) -> bytes:
        """The bytes of the one file in it whose path ends so."""
        ((_, data),) = self.members(ending)
        return data


@lru_cache(maxsize=256)
def _digest(path: Path, size: int, changed: int) -> str:
    """The sha256 of a file, computed once while its size and time of change stay."""
    return sha256_of(path)
