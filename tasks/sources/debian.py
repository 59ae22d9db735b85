"""Debian packages as data sources: pinned, hashed, read as archives, never installed."""

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from mergeshift import DamagedFileError, Registry, UserError
from tasks.rights import Rights
from tasks.sources.archives import Archive

MIRROR = "https://deb.debian.org/debian"
MAGIC, HEADER = b"!<arch>\n", 60  # of an ar archive: its first bytes, the bytes before a part


@dataclass(frozen=True)
class Debian(Archive):
    """A package of Debian without compiled parts: the same on every machine."""

    version: str  # with its epoch
    pool: str  # its folder on a mirror

    folder: ClassVar[str] = "debian"

    @property
    def requirement(self) -> str:
        """``name=version``."""
        return f"{self.filename.split('_')[0]}={self.version}"

    def download(self, folder: Path) -> Path:
        """``apt-get download``, which needs no root; other systems have no apt."""
        apt, said = shutil.which("apt-get"), "there is no apt-get here"
        if apt:
            command = [apt, "download", "--quiet", "--quiet", self.requirement]
            words = os.environ | {"LC_ALL": "C"}
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=words)
            for got in folder.glob("*.deb"):
                return got
            lines = [line for line in done.stderr.splitlines() if line.startswith("E:")]
            said = lines[0] if lines else "apt-get failed"
        raise UserError(
            f"cannot download the Debian package {self.requirement}: {said}; run apt-get update "
            f"and try again, or save {MIRROR}/{self.pool}/{self.filename} as {self.path}"
        )

    def members(self, ending: str) -> Iterator[tuple[str, bytes]]:
        with tarfile.open(fileobj=io.BytesIO(self._data())) as archive:
            for item in archive:
                if item.isfile() and item.name.endswith(ending):
                    file = archive.extractfile(item)
                    assert file is not None  # it is a file
                    yield item.name.removeprefix("./"), file.read()

    def _data(self) -> bytes:
        """The packed files: the part of the ar archive that is called ``data.tar``.

        Raises:
            DamagedFileError: there is no such part.
        """
        with self.fetched().open("rb") as file:
            if file.read(len(MAGIC)) == MAGIC:
                while len(header := file.read(HEADER)) == HEADER:
                    size = int(header[48:58])
                    if header.startswith(b"data.tar"):
                        return file.read(size)
                    file.seek(size + size % 2, os.SEEK_CUR)  # parts begin at even bytes
        raise DamagedFileError(f"{self.path} is no Debian package")


DEBIAN: Registry[Debian] = Registry("Debian package")

DEBIAN.add(
    "dataset-fashion-mnist",
    Debian(
        filename="dataset-fashion-mnist_0.0~git20200523.55506a9-1_all.deb",
        version="0.0~git20200523.55506a9-1",
        pool="pool/main/d/dataset-fashion-mnist",
        sha256="39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
        megabytes=30.9,
        rights=Rights("MIT", "usr/share/doc/dataset-fashion-mnist/copyright", "attribution"),
    ),
)
DEBIAN.add(
    "openclipart-svg",
    Debian(
        filename="openclipart-svg_0.18+dfsg-19_all.deb",
        version="1:0.18+dfsg-19",
        pool="pool/main/o/openclipart",
        sha256="989712d90d57dfa3230049f553bb43b76c30ee4d4b8c5f6e106e33f7db5cbdc5",
        megabytes=24.9,
        rights=Rights(
            "public domain (CC-PDDC)", "usr/share/doc/openclipart-svg/copyright", "anyone"
        ),
    ),
)
