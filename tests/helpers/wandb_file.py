"""W&B runs as they can be looked at: read back from offline files, or as a service got them."""

import json
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

KEY = "0123456789" * 4


def log_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No account, no home folder, and a failure if anybody is asked anything."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked for input"))
    monkeypatch.setattr("getpass.getpass", lambda *_: pytest.fail("asked for a password"))


def records(path: Path) -> Iterator[Any]:
    """Protobuf records of a ``.wandb`` file: LevelDB's log format after a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, parts = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        left = 32_768 - at % 32_768  # a block never holds part of a record's header
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        if at + 7 + length > len(data):
            return  # not written to its end yet
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or last part
            record = Record()
            record.ParseFromString(parts)
            yield record
            parts = b""


class Run:
    """What one offline run would upload."""

    def __init__(self, folder: Path):
        self.folder = folder
        (path,) = folder.glob("run-*.wandb")
        for _ in range(500):  # W&B's own process may still be writing what has been handed over
            found = list(records(path))
            if any(record.HasField("exit") for record in found):
                break
            time.sleep(0.02)
        (self.run,) = (record.run for record in found if record.HasField("run"))
        (self.exit_code,) = (r.exit.exit_code for r in found if r.HasField("exit"))
        self.config: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}
        self.history = [_values(r.history.item) for r in found if r.HasField("history")]
        self.metrics = [record.metric for record in found if record.HasField("metric")]
        for record in found:
            self.config |= _values(record.config.update) | _values(record.run.config.update)
            self.summary |= _values(record.summary.update)

    def table(self, name: str) -> pd.DataFrame:
        (path,) = self.folder.glob(f"files/media/table/{name}_[0-9]*.table.json")
        content = json.loads(path.read_text())
        return pd.DataFrame(content["data"], columns=content["columns"])


def _values(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def runs(folder: Path) -> dict[str, Run]:
    found = [Run(path) for path in folder.glob("wandb/offline-run-*")]
    return {run.run.display_name: run for run in found}


def one(rows: pd.DataFrame, method: str) -> pd.DataFrame:
    return rows[rows["method"] == method]


@dataclass
class Uploaded:
    """What the service knows of one run."""

    project: str
    name: str  # its id
    about: dict[str, Any] = field(default_factory=dict)  # displayName, groupName, jobType, tags ...
    config: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, dict[int, Any]] = field(default_factory=dict)  # file -> line number -> JSON
    files: dict[str, bytes] = field(default_factory=dict)
    exit_code: int | None = None

    @property
    def summary(self) -> dict[str, Any]:
        return self.lines.get("wandb-summary.json", {}).get(0, {})

    @property
    def history(self) -> list[dict[str, Any]]:
        return [line for _, line in sorted(self.lines.get("wandb-history.jsonl", {}).items())]

    def table(self, name: str) -> pd.DataFrame:
        """The table under this name of the summary."""
        content = json.loads(self.files[self.summary[name]["path"]])
        return pd.DataFrame(content["data"], columns=content["columns"])
