"""What lies in a folder, links followed: folders, pictures, other files, and what is passed over.

A picture is known by its suffix where that is one of a picture, else by its first bytes: many
files of the web have another suffix, or none. Raw files of cameras are none, though they begin
like a TIFF file: what Pillow would show of them is a thumbnail.
"""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

from mergeshift import UserError
from tasks.settings import SYSTEMS

ABOUT = "task.json"  # what the user says of a task; no data
COMMON = {  # suffixes of pictures, whatever lies in the file
    ".apng", ".avif", ".bmp", ".dib", ".gif", ".ico", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg",
    ".jpg", ".jpx", ".pbm", ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".qoi", ".tga", ".tif", ".tiff",
    ".webp",
}  # fmt: skip
TEXTS = {  # suffixes of what may lie beside pictures, and is none
    ".cfg", ".csv", ".db", ".doc", ".docx", ".html", ".ini", ".ipynb", ".json", ".jsonl", ".log",
    ".mat", ".md", ".parquet", ".pbtxt", ".pdf", ".pkl", ".py", ".rst", ".sh", ".tsv", ".txt",
    ".url", ".xls", ".xlsx", ".xml", ".yaml", ".yml",
}  # fmt: skip
PAPERS = {"authors", "changelog", "copying", "license", "makefile", "notice", "readme"}
COPIES = {".bak", ".crdownload", ".download", ".old", ".orig", ".part", ".partial", ".tmp"}
OUTSIDE = {"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "PDF", "WMF"}  # Pillow reads none alone
HEADS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"\0\0\0\x0cjP  \r\n\x87\n")
BOXES = {(0, b"RIFF", 8, b"WEBP"), (4, b"ftyp", 8, b"avif"), (4, b"ftyp", 8, b"avis")}
SYSTEMS_FILES = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"}
DEEPEST = 60  # folders below each other
OFTEN = 16  # links may lead to one folder so often: more is a knot


@dataclass(frozen=True, eq=False)
class Folder:
    """A folder with all that lies in it."""

    name: str
    path: str
    folders: tuple["Folder", ...] = ()  # in the order of the alphabet
    files: tuple[tuple[str, int, int], ...] = ()  # pictures: name, bytes, time of change in ns
    others: tuple[str, ...] = ()  # names of the other files
    passed: tuple[str, ...] = ()  # what was passed over here, in words

    @cached_property
    def count(self) -> int:
        """Pictures in it and below."""
        return len(self.files) + sum(folder.count for folder in self.folders)

    @cached_property
    def full(self) -> tuple["Folder", ...]:
        """The folders in it that hold pictures somewhere."""
        return tuple(folder for folder in self.folders if folder.count)

    def everything(self) -> Iterator["Folder"]:
        """Itself and all folders below."""
        yield self
        for folder in self.folders:
            yield from folder.everything()

    def pictures(self) -> list[tuple[str, int, int]]:
        """Path, bytes and time of change of the pictures in it and below, sorted by their paths."""
        found = [
            (str(Path(folder.path) / name), size, changed)
            for folder in self.everything()
            for name, size, changed in folder.files
        ]
        return sorted(found, key=lambda file: Path(file[0]).parts)

    def unread(self) -> Counter[str]:
        """How many files below are no pictures that can be read, by suffix: texts do not count."""
        names = (name for folder in self.everything() for name in folder.others)
        suffixes = (Path(name).suffix.lower() for name in names if name.lower() not in PAPERS)
        return Counter(suffix or "no suffix" for suffix in suffixes if suffix not in TEXTS)

    def texts(self) -> int:
        """How many files below are texts, tables and the like."""
        names = [name for folder in self.everything() for name in folder.others]
        return len(names) - sum(self.unread().values())


@dataclass
class Walk:
    """One walk through a folder."""

    visits: Counter[tuple[int, int]] = field(default_factory=Counter)

    def folder(self, path: str, above: tuple[tuple[int, int], ...] = ()) -> Folder:
        """A folder and all below; ``above`` it are those with these device and file numbers."""
        entries = listed(path)
        stat = Path(path).stat()
        identity = (stat.st_dev, stat.st_ino)
        folders, files, others, passed = [], [], [], []
        for entry in entries:
            if entry.name.startswith(".") or entry.name == ABOUT:
                continue
            kind = kind_of(entry)
            if kind == "folder":
                why = self.why_not(entry, (*above, identity))
                if why:
                    passed.append(f"{entry.name} ({why})")
                else:
                    folders.append(self.folder(entry.path, (*above, identity)))
            elif not kind:
                passed.append(f"{entry.name} (a link that leads nowhere, or no file)")
            elif is_picture(entry):
                facts = entry.stat()
                files.append((entry.name, facts.st_size, facts.st_mtime_ns))
            elif entry.name.lower() not in SYSTEMS_FILES:
                others.append(entry.name)
        return Folder(Path(path).name, path, tuple(folders), tuple(files), tuple(others),
                      tuple(passed))  # fmt: skip

    def why_not(self, entry: "os.DirEntry[str]", above: tuple[tuple[int, int], ...]) -> str:
        """Why a folder is not entered, or nothing."""
        if entry.name.lower() in SYSTEMS:
            return "of the system"
        stat = entry.stat()
        identity = (stat.st_dev, stat.st_ino)
        self.visits[identity] += 1
        if identity in above:
            return "a link to a folder above"
        if len(above) >= DEEPEST:
            return f"{DEEPEST} folders deep"
        return "links lead there again and again" if self.visits[identity] > OFTEN else ""


def walk(path: Path) -> Folder:
    """All that lies in a folder.

    Raises:
        UserError: a folder cannot be read.
    """
    return Walk().folder(str(path))


def listed(path: str) -> list["os.DirEntry[str]"]:
    """What lies in a folder, sorted."""
    try:
        with os.scandir(path) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(
            f"cannot read the folder {path}: {error.strerror}; move it away, or let it be read"
        ) from error


def kind_of(entry: "os.DirEntry[str]") -> str:
    """``folder``, ``file``, or nothing: a link that leads nowhere, a pipe, a device."""
    try:
        return "folder" if entry.is_dir() else "file" if entry.is_file() else ""
    except OSError:  # links that lead in a circle
        return ""


def is_picture(entry: "os.DirEntry[str]") -> bool:
    """Whether a file is a picture that can be read, as far as its name and first bytes say."""
    suffix = Path(entry.name).suffix.lower()
    if suffix in COMMON:
        return True
    if suffix in TEXTS or suffix in COPIES or entry.name.endswith("~"):
        return False
    if suffix in rare():
        return can_be_opened(entry.path)
    try:
        with Path(entry.path).open("rb") as file:
            head = file.read(16)
    except OSError:
        return False  # nobody said that it is one
    return head.startswith(HEADS) or any(
        head[a : a + 4] == one and head[b : b + 4] == two for a, one, b, two in BOXES
    )


@lru_cache(maxsize=1)
def rare() -> frozenset[str]:
    """The other suffixes that Pillow knows: files of other programs may have them, too."""
    from PIL import Image

    known = Image.registered_extensions()
    return frozenset(s for s, kind in known.items()
                     if s not in COMMON and kind in Image.OPEN and kind not in OUTSIDE)  # fmt: skip


def can_be_opened(path: str) -> bool:
    """Whether Pillow knows what the file is."""
    from tasks.sources.readers import opening

    try:
        with opening(path):
            return True
    except Exception:  # whatever a file that is no picture does to a reader of pictures
        return False
