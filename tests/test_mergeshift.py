"""Files are whole or absent, whatever happens while they are written."""

import errno
import importlib
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import platformdirs
import pytest

import mergeshift as files
from mergeshift import (
    DamagedFileError,
    UserError,
    atomic,
    home,
    read_json,
    read_text,
    sha256_of,
    write_json,
)
from tests.helpers.toy_sweep import leftovers


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_at_once_and_whole(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    with atomic(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        assert temporary.parent == path.parent  # one file system, so that the move is atomic
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert names(path.parent) == ["a.txt"]


def test_the_old_file_stays_until_the_new_one_is_there(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with atomic(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(1)])
def test_a_write_that_fails_leaves_nothing_behind(error, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail() -> None:
        with atomic(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert names(tmp_path) == ["a.txt"]
    assert path.read_text() == "old"


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def refuse(*_: object, **__: object) -> None:
    raise FULL


@pytest.mark.parametrize(("module", "call"), [
    (os, "fsync"), (files.tempfile, "mkstemp"), (Path, "mkdir"), (Path, "replace"),
])  # fmt: skip
def test_a_full_disk_is_one_line_wherever_it_shows(module, call, tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with monkeypatch.context() as patch:
        patch.setattr(module, call, refuse)
        with pytest.raises(UserError) as caught, atomic(path) as temporary:
            temporary.write_text("new")
    message = str(caught.value)
    assert str(path) in message
    assert "No space left on device" in message
    assert "\n" not in message
    assert names(tmp_path) == ["a.txt"]
    assert path.read_text() == "old"


def test_a_disk_that_fills_up_while_writing(tmp_path, fill):
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    fill("*.json")
    with pytest.raises(UserError, match=rf"^cannot write {path}: No space left on device; free"):
        write_json(path, {"new": 2})
    assert names(tmp_path) == ["a.json"]
    assert read_json(path) == {"old": 1}


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match=r"cannot write .*/file/a\.txt"),
        atomic(tmp_path / "file" / "a.txt"),
    ):
        pass

    def mkstemp(**_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(files.tempfile, "mkstemp", mkstemp)
    with pytest.raises(UserError, match=r"a\.txt: Permission denied"), atomic(tmp_path / "a.txt"):
        pass


def test_everybody_may_read_what_was_written(tmp_path):
    before = os.umask(0o077)
    try:
        write_json(tmp_path / "a.json", 1)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o644


def test_of_many_writers_one_wins_and_nobody_reads_a_mixture(tmp_path):
    path, size = tmp_path / "a.json", 20_000
    write_json(path, "0" * size)

    def write(digit: int) -> set[str]:
        write_json(path, str(digit) * size)
        return set(read_json(path))

    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(write, [*range(10)] * 5))
    assert {len(one) for one in seen} == {1}
    assert names(tmp_path) == ["a.json"]


def test_json_comes_back_and_damage_names_the_file(tmp_path):
    path = tmp_path / "a.json"
    value = {"b": [1, 2.5, None, "x"], "a": {"c": True}}
    write_json(path, value)
    assert read_json(path) == value
    for damaged in (path.read_bytes()[:-9], b"", b"\xff\xfe{}"):
        path.write_bytes(damaged)
        with pytest.raises(DamagedFileError, match=rf"^{path} is damaged .*; delete it") as caught:
            read_json(path)
        assert "\n" not in str(caught.value)


def test_sha256_of_a_known_message(tmp_path):
    # FIPS 180-4 examples: "abc", and a million letters a (longer than one block of reading)
    (tmp_path / "abc").write_bytes(b"abc")
    (tmp_path / "a").write_bytes(b"a" * 1_000_000)
    assert sha256_of(tmp_path / "abc").startswith("ba7816bf8f01cfea414140de5dae2223")
    assert sha256_of(tmp_path / "a").startswith("cdc76e5c9914fb9281a1c7e284d73e67")


def test_the_data_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable, value, expected in (
        ("MERGESHIFT_HOME", "~/data", tmp_path / "data"),
        ("XDG_CACHE_HOME", "/big/cache", Path("/big/cache/mergeshift")),
        ("XDG_CACHE_HOME", "", tmp_path / ".cache" / "mergeshift"),
    ):
        monkeypatch.delenv("MERGESHIFT_HOME", raising=False)
        monkeypatch.setenv(variable, value)
        assert home() == expected
    assert not leftovers(tmp_path)


@pytest.mark.parametrize(("system", "folders", "expected"), [
    ("darwin", "macos.MacOS", "Library/Caches/mergeshift"),
    ("win32", "windows.Windows", "AppData/Local/mergeshift/Cache"),
])  # fmt: skip
def test_the_data_folder_of_other_systems(system, folders, expected, monkeypatch, tmp_path):
    module, _, cls = folders.partition(".")
    there = getattr(importlib.import_module(f"platformdirs.{module}"), cls)
    for variable in ("MERGESHIFT_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(files.sys, "platform", system)
    monkeypatch.setattr(platformdirs, "PlatformDirs", there)
    if system == "win32":  # what Windows itself would answer
        monkeypatch.setattr(
            "platformdirs.windows.get_win_folder", lambda name: str(tmp_path / "AppData/Local")
        )
    assert home() == tmp_path / expected


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_text_is_read_in_the_encoding_that_its_mark_says(encoding, tmp_path):
    """As editors on Windows save it."""
    path = tmp_path / "mine.toml"
    path.write_text('suite = "toy"\nname = "\u00e9"\n', encoding=encoding)
    assert read_text(path) == 'suite = "toy"\nname = "\u00e9"\n'
    (tmp_path / "x.json").write_text('{"a": "\u00e9"}', encoding=encoding)
    assert read_json(tmp_path / "x.json") == {"a": "\u00e9"}


PROGRAM = """
import sys
import bench.sweep
watched = "transformers", "torchvision", "scipy.signal", "torchmetrics.classification"
print([name for name in watched if name in sys.modules])
import torch, torchmetrics
from lightning.pytorch.core.module import Metric, MetricCollection
print(torchmetrics.Metric is Metric, torchmetrics.MetricCollection is MetricCollection)
print(hasattr(torchmetrics, "no_such_metric"), "Accuracy" in torchmetrics.__all__)
print(torchmetrics.Accuracy is sys.modules["torchmetrics.classification"].Accuracy)
print(torchmetrics.Metric is Metric, issubclass(torchmetrics.MeanMetric, Metric))
from torchmetrics import *
print(float(functional.accuracy(torch.tensor([1, 0]), torch.tensor([1, 1]), "binary")))
"""
ANSWER = ["[]", "True True", "False True", "True", "True True", "0.5"]


def test_lightning_loads_no_metrics_and_whoever_asks_has_them_all():
    """Another process: this one has imported what other tests need."""
    root = Path(files.__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, cwd=root
    )  # fmt: skip
    assert done.stdout.splitlines() == ANSWER, done.stderr


@pytest.fixture
def other_metrics(tmp_path, monkeypatch) -> Iterator[Path]:
    """The folder of a package that stands in for torchmetrics, not imported yet."""

    def loaded() -> dict[str, ModuleType]:
        return {k: v for k, v in sys.modules.items() if k.split(".")[0] == "torchmetrics"}

    real = loaded()
    for name in real:
        del sys.modules[name]
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "torchmetrics"
    package.mkdir()
    yield package
    for name in loaded():
        del sys.modules[name]
    sys.modules.update(real)


def test_another_version_of_torchmetrics_is_imported_whole(other_metrics):
    """One that keeps its classes elsewhere."""
    (other_metrics / "__init__.py").write_text(
        "from torchmetrics.elsewhere import Metric\nmore = 1\n"
    )
    (other_metrics / "elsewhere.py").write_text("class Metric: ...\n")
    module = importlib.import_module("torchmetrics")
    assert "more" not in vars(module)
    assert module.Metric.__module__ == "torchmetrics.elsewhere"
    assert module.more == 1
    with pytest.raises(AttributeError, match="has no attribute 'less'"):
        _ = module.less


def test_what_fails_to_load_is_tried_again(other_metrics, monkeypatch):
    (other_metrics / "__init__.py").write_text("import os\nmore = os.environ['MORE']\n")
    monkeypatch.delenv("MORE", raising=False)
    module = importlib.import_module("torchmetrics")
    with pytest.raises(KeyError):
        _ = module.more
    monkeypatch.setenv("MORE", "here")
    assert module.more == "here"
