"""What a file of weights is, told by its bytes and never by its name.

Nothing is unpickled or run to find out.
"""

import codecs
import json
import zipfile
from collections.abc import Sequence
from enum import Enum, auto
from pathlib import Path

from mergeshift import MARKS, DamagedFileError, UserError

HEAD = 4096  # bytes that are looked at
HEADER_LIMIT = 100_000_000  # bytes of a safetensors header; the library allows no more
FOREIGN = {  # first bytes -> what such a file is
    b"GGUF": "a GGUF file (weights quantised for llama.cpp)",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file (of Keras)",
    b"\x93NUMPY": "an array of NumPy",
    b"\x1f\x8b": "compressed (gzip); unpack it",
    b"BZh": "compressed (bzip2); unpack it",
    b"\xfd7zXZ": "compressed (xz); unpack it",
    b"\x28\xb5\x2f\xfd": "compressed (zstd); unpack it",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive; unpack it",
    b"Rar!": "a rar archive; unpack it",
    b"PAR1": "a table (parquet)",
    b"\x89PNG": "a picture (PNG)",
    b"\xff\xd8\xff": "a picture (JPEG)",
    b"%PDF": "a PDF",
    b"\x7fELF": "a program",
}
READ = "give weights as safetensors, or as a file of torch.save that holds tensors alone"


class Format(Enum):
    """Files that are read."""

    SAFETENSORS = auto()
    TORCH = auto()  # of torch.save, or any other pickle: its loader decides
    SHARDS = auto()  # an index of transformers: which tensor is in which file


def format_of(path: Path) -> Format:
    """What is at ``path``.

    Raises:
        DamagedFileError: it is empty, cut off or overwritten.
        UserError: it is absent, or a healthy file of another kind.
    """
    require_file(path)
    with path.open("rb") as file:
        head = file.read(HEAD)
    if not any(head):
        what = "nothing but zeros" if head else "empty"
        raise DamagedFileError(f"{path} is damaged ({what}); copy or download it again")
    if is_safetensors(head):
        return Format.SAFETENSORS
    if head.startswith(b"PK\x03\x04"):
        return _in_zip(path)
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05":
        return Format.TORCH
    if any(head.startswith(first) for first in FOREIGN):
        kind = next(kind for first, kind in FOREIGN.items() if head.startswith(first))
        raise UserError(f"{path} is {kind}; {READ}")
    if head[257:262] == b"ustar":
        raise UserError(f"{path} is a tar archive; unpack it; {READ}")
    if text := text_of(head):
        return _in_text(path, text)
    raise DamagedFileError(
        f"{path} is damaged, or no file of weights (it begins with {head[:8].hex(' ')}); {READ}"
    )


def require_file(path: Path) -> None:
    """Refuse what is no regular file.

    Raises:
        UserError: it is absent, a folder or a device, or no path at all.
    """
    try:
        found = path.is_file()
    except OSError:  # a name that is too long
        found = False
    if not found:
        raise UserError(f"no checkpoint at {path}; give the path of a file")


def is_safetensors(head: bytes) -> bool:
    """Whether a file with these first bytes is one, be it cut off."""
    length = int.from_bytes(head[:8], "little")
    return head[8:9] == b"{" and 2 <= length <= HEADER_LIMIT


def text_of(head: bytes) -> str:
    """The beginning of a text in its encoding; empty if it is none."""
    encoding = next((name for mark, name in MARKS.items() if head.startswith(mark)), "utf-8")
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(head)  # its end may cut a letter
    except UnicodeDecodeError:
        return ""
    printable = all(c.isprintable() or c in "\t\n\r\f\x1b" for c in text)
    return text.lstrip("\ufeff") if printable else ""


def _in_text(path: Path, text: str) -> Format:
    start = text.lstrip()[:200].lower()
    if start.startswith("version https://git-lfs"):
        raise UserError(
            f"{path} is a pointer of git-lfs and not the weights: "
            "run `git lfs pull` where it was cloned"
        )
    if start.startswith(("<!doctype", "<html", "<head", "<?xml", "<body")):
        raise UserError(
            f"{path} is a web page and not weights: a page of an error or a login was saved; "
            "download the file itself"
        )
    if start.startswith("{") and "weight_map" in (found := json_of(path)):
        return Format.SHARDS if isinstance(found["weight_map"], dict) else _refuse_text(path, text)
    return _refuse_text(path, text)


def _refuse_text(path: Path, text: str) -> Format:
    first = "".join(c for c in text.strip().splitlines()[0][:30] if c.isprintable()) or "a space"
    raise UserError(f"{path} is a text and not weights (it begins with {first!r}); {READ}")


def json_of(path: Path) -> dict[str, object]:
    """A JSON object in any encoding of Unicode; empty if it is no such file."""
    try:
        found = json.loads(path.read_bytes())  # which finds the encoding, with a mark or without
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _in_zip(path: Path) -> Format:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception as error:  # whatever zipfile raises on damaged bytes
        raise DamagedFileError(
            f"{path} is damaged (an archive that is cut off or altered); copy or download it again"
        ) from error
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
        raise UserError(
            f"{path} is a TorchScript archive, a program with its weights, and is not opened: "
            "save the state_dict() of the model that it was made from as safetensors, and give that"
        )
    if "data.pkl" in inner:
        return Format.TORCH
    raise UserError(f"{path} is {_kind_of_zip(names)}; {READ}")


def _kind_of_zip(names: Sequence[str]) -> str:
    if names and all(name.endswith(".npy") for name in names):
        return "an archive of NumPy arrays (.npz)"
    if any(name.endswith("model.weights.h5") for name in names):
        return "a model of Keras"
    if any(name.endswith((".json", "archive_format")) and "model" in name for name in names):
        return "a program of torch.export"
    return "a zip archive; unpack it"
