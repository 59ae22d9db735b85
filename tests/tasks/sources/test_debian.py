"""Debian packages come whole, as pinned, or not at all: a made-up apt-get and a made-up package."""

import io
import os
import tarfile
from hashlib import sha256
from pathlib import Path

import pytest

from mergeshift import DamagedFileError, UserError, home
from tasks.rights import Rights
from tasks.sources.debian import DEBIAN, Debian

FILES = {"./usr/share/thing/b.svg": b"<svg/>", "./usr/share/thing/a.svg": b"<svg b/>" * 999,
         "./usr/share/doc/thing/copyright": b"anyone"}  # fmt: skip


def packed(how: str) -> bytes:
    """The files as dpkg packs them, with folders and a link that are no files."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=f"w:{how}") as archive:
        folder = tarfile.TarInfo("./usr/share/thing.svg")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, text in FILES.items():
            item = tarfile.TarInfo(name)
            item.size = len(text)
            archive.addfile(item, io.BytesIO(text))
        link = tarfile.TarInfo("./usr/share/thing/c.svg")
        link.type, link.linkname = tarfile.SYMTYPE, "a.svg"
        archive.addfile(link)
    return data.getvalue()


def ar(**parts: bytes) -> bytes:
    """An ar archive, as ar(5) describes it."""
    text = b"!<arch>\n"
    for name, data in parts.items():
        head = f"{name.replace('__', '.').replace('_', '-'):<16}{0:<12}{0:<6}{0:<6}{100644:<8}"
        text += f"{head}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
    return text


def package(how: str = "xz", control: bytes = b"odd") -> tuple[Debian, bytes]:
    parts = {
        "debian_binary": b"2.0\n",
        "control__tar__xz": control,
        f"data__tar__{how}": packed(how),
    }
    whole = ar(**parts)
    rights = Rights("MIT", "usr/share/doc/thing/copyright", "anyone")
    name, digest = "thing_1.0-2_all.deb", sha256(whole).hexdigest()
    return Debian(name, digest, len(whole) / 1e6, rights, "3:1.0-2", "pool/main/t/thing"), whole


@pytest.fixture(autouse=True)
def apt(tmp_path, monkeypatch) -> Path:
    """A home of its own; an apt-get that notes what it is told, and copies a file if it can."""
    monkeypatch.setenv("MERGESHIFT_HOME", str(tmp_path / "home"))
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "apt-get"
    script.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/told\n'
        f"cp {tmp_path}/thing_3%3a1.0-2_all.deb . 2>/dev/null && exit 0\n"
        "echo 'W: a warning' >&2\necho \"E: Version '3:1.0-2' was not found\" >&2\nexit 100\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    return tmp_path


def kept() -> list[str]:
    return sorted(p.name for p in home().rglob("*") if p.is_file() and p.suffix != ".lock")


@pytest.mark.parametrize("how", ["xz", "gz"])
@pytest.mark.parametrize("control", [b"odd", b"even"])
def test_a_package_is_fetched_once_and_read_in_place(apt, how, control):
    thing, whole = package(how, control)
    (apt / "thing_3%3a1.0-2_all.deb").write_bytes(whole)
    found = {f"./{path}": data for path, data in thing.members(".svg")}
    assert found == {name: data for name, data in FILES.items() if name.endswith(".svg")}
    assert thing.member("thing/copyright") == b"anyone"
    assert kept() == ["thing_1.0-2_all.deb"]  # as mirrors call it
    assert (apt / "told").read_text() == "download --quiet --quiet thing=3:1.0-2\n"


def test_a_file_that_was_put_there_by_hand_is_read_and_apt_is_not_asked(apt):
    thing, whole = package()
    thing.path.parent.mkdir(parents=True)
    thing.path.write_bytes(whole)
    assert thing.member("a.svg") == FILES["./usr/share/thing/a.svg"]
    assert not (apt / "told").exists()


def test_another_file_that_was_put_there_by_hand_is_named(apt):
    thing, whole = package()
    thing.path.parent.mkdir(parents=True)
    thing.path.write_bytes(whole[:-1])
    with pytest.raises(DamagedFileError, match=r"is damaged .*delete it and run again$"):
        thing.member("a.svg")
    thing.path.write_bytes(whole)  # and is looked at anew
    assert thing.member("copyright") == b"anyone"


@pytest.mark.parametrize("there", [True, False])
def test_where_apt_cannot_help_one_line_says_what_to_save_where(apt, monkeypatch, there):
    if not there:
        monkeypatch.setenv("PATH", str(apt))
    thing, _ = package()
    with pytest.raises(UserError) as caught:
        thing.member("a.svg")
    message = str(caught.value)
    why = "E: Version '3:1.0-2' was not found" if there else "there is no apt-get here"
    assert message.startswith(f"cannot download the Debian package thing=3:1.0-2: {why}; ")
    address = "https://deb.debian.org/debian/pool/main/t/thing/thing_1.0-2_all.deb"
    assert message.endswith(f"or save {address} as {thing.path}")
    assert "\n" not in message
    assert kept() == []


def test_a_wrong_download_is_refused_and_nothing_is_kept(apt):
    thing, whole = package()
    (apt / "thing_3%3a1.0-2_all.deb").write_bytes(whole + b"more")
    with pytest.raises(DamagedFileError, match="nothing was kept"):
        thing.member("a.svg")
    assert kept() == []


@pytest.mark.parametrize("whole", [b"PK no ar", ar(control__tar__xz=b"x")])
def test_what_is_no_package_is_named(apt, whole):
    thing = Debian("thing_1.0-2_all.deb", sha256(whole).hexdigest(), 0.1,
                   Rights("MIT", "x", "anyone"), "3:1.0-2", "pool")  # fmt: skip
    thing.path.parent.mkdir(parents=True)
    thing.path.write_bytes(whole)
    with pytest.raises(DamagedFileError, match=r"is no Debian package$"):
        thing.member("a.svg")


@pytest.mark.parametrize("name", list(DEBIAN))
def test_every_package_is_pinned_and_licensed(name):
    found = DEBIAN[name]
    assert found.filename == f"{name}_{found.version.split(':')[-1]}_all.deb"
    assert len(found.sha256) == 64
    assert found.pool.startswith("pool/main/")  # the part of Debian that is free software
    assert found.rights.read.endswith("copyright")
    assert 0 < found.megabytes < 40
