"""A hub on the loopback: what huggingface_hub and datasets ask for, served from memory.

Two servers, as there are two on the real hub: one answers for repositories, and sends whoever
wants a large file to the other, which keeps files by their sha256. Neither offers Xet. Point the
libraries at it with :func:`tests.helpers.fake_hub_run.visit`, in this process, and in another with
:meth:`Hub.environment`.
"""

import json
import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Files = dict[str, bytes]  # path in the repository -> content
STORED = (".parquet", ".safetensors", ".pt", ".bin")  # large files: the second server keeps them
NAME = r"(?P<repo>[^/]+/[^/]+)"
API = re.compile(rf"/api/(?P<kind>models|datasets)/{NAME}(?:/(?P<verb>\w[\w-]*)/(?P<rest>.+))?$")
RESOLVE = re.compile(rf"/(?:(?P<kind>datasets)/)?{NAME}/resolve/(?P<rest>.+)$")


class MissingError(Exception):
    """What a client asked for is not there: its argument is the hub's code for that."""


class Hub:
    """Repositories in memory. ``asked`` lists the requests, ``interrupt`` spoils some."""

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], dict[str, Files]] = {}  # (kind, name) -> commit -> files
        self.heads: dict[tuple[str, str], str] = {}  # (kind, name) -> commit of main
        self.store: dict[str, bytes] = {}  # sha256 -> content
        self.asked: list[str] = []  # "GET /datasets/a/b/resolve/main/x"
        self.cuts: dict[str, list[int]] = {}  # sha256 -> bytes after which each answer ends
        self.begun: dict[str, list[int]] = {}  # sha256 -> the byte that each answer begins with
        self.url = self.store_url = ""

    def add(self, kind: str, name: str, files: Mapping[str, bytes]) -> str:
        """Commit ``files`` to main of a repository, a model's or a data set's; the commit."""
        assert kind in ("models", "datasets")
        content = json.dumps({path: sha256(data).hexdigest() for path, data in files.items()})
        commit = sha1(f"{kind}/{name}/{content}".encode()).hexdigest()
        self.repos.setdefault((kind, name), {})[commit] = dict(files)
        self.heads[kind, name] = commit
        self.store |= {sha256(data).hexdigest(): data for data in files.values()}
        return commit

    def remove(self, kind: str, name: str) -> None:
        """Delete a repository."""
        del self.repos[kind, name], self.heads[kind, name]

    def interrupt(self, kind: str, name: str, path: str, *after: int) -> None:
        """Break the connection at the next downloads of a file, each after so many bytes."""
        data = self.repos[kind, name][self.heads[kind, name]][path]
        assert path.endswith(STORED), "only the store's answers are cut"
        assert all(count < len(data) for count in after)
        self.cuts[sha256(data).hexdigest()] = list(after)

    def starts(self, kind: str, name: str, path: str) -> list[int]:
        """The byte that each download of a file began with."""
        data = self.repos[kind, name][self.heads[kind, name]][path]
        return self.begun.get(sha256(data).hexdigest(), [])

    def files(self, kind: str, name: str, rest: str) -> tuple[str, Files, str]:
        """Commit, its files, and the path behind the revision in ``rest``."""
        if (kind, name) not in self.repos:
            raise MissingError("RepoNotFound")
        revision, _, path = rest.partition("/")
        commit = self.heads[kind, name] if unquote(revision) == "main" else revision
        if commit not in self.repos[kind, name]:
            raise MissingError("RevisionNotFound")
        return commit, self.repos[kind, name][commit], path

    def environment(self, home: Path, *, offline: bool = False) -> dict[str, str]:
        """Variables that lead another process here, with a cache of its own and no token."""
        theirs = ("HF_", "HUGGINGFACE_", "TRANSFORMERS_", "XDG_")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(theirs)}
        return kept | self.variables(home, offline)

    def variables(self, home: Path, offline: bool = False) -> dict[str, str]:
        """Those variables alone."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": str(int(offline)),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1",
        }


class Answer(BaseHTTPRequestHandler):
    """What both servers say; the store answers below ``/store/``."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_GET(self) -> None:
        self.hub.asked.append(f"{self.command} {self.path}")
        path = unquote(urlsplit(self.path).path)
        try:
            self.answer(path)
        except MissingError as reason:
            code = str(reason)
            self.reply(404, b"{}", {"X-Error-Code": code, "X-Error-Message": code})

    do_HEAD = do_POST = do_GET  # noqa: N815

    def answer(self, path: str) -> None:
        if path.startswith("/store/"):
            return self.give(path.removeprefix("/store/"))
        if found := RESOLVE.match(path):
            return self.resolve(found["kind"] or "models", found["repo"], found["rest"])
        if not (found := API.match(path)):
            raise MissingError("EntryNotFound")
        rest = found["rest"] or "main"
        commit, files, below = self.hub.files(found["kind"], found["repo"], rest)
        if found["verb"] == "tree":
            return self.json(tree(files, below.strip("/")))
        if found["verb"] == "paths-info":
            length = int(self.headers["Content-Length"])
            wanted = parse_qs(self.rfile.read(length).decode())["paths"]
            return self.json([entry for path in wanted for entry in about(files, path)])
        facts = {"id": found["repo"], "sha": commit, "private": False, "tags": [], "downloads": 0}
        return self.json({**facts, "siblings": [{"rfilename": path} for path in files]})

    def resolve(self, kind: str, repo: str, rest: str) -> None:
        """A small file, or the way to a large one."""
        commit, files, path = self.hub.files(kind, repo, rest)
        if path not in files:
            raise MissingError("EntryNotFound")
        data, found = files[path], {"X-Repo-Commit": commit}
        if not path.endswith(STORED):
            return self.reply(200, data, found | {"ETag": f'"{sha1(data).hexdigest()}"'})
        name = sha256(data).hexdigest()
        linked = {"X-Linked-Etag": f'"{name}"', "X-Linked-Size": str(len(data))}
        location = {"Location": f"{self.hub.store_url}/store/{name}"}
        return self.reply(302, b"", found | linked | location)

    def give(self, name: str) -> None:
        """A file by its hash, from the byte that is asked for; cut short if it is to be."""
        data, span = self.hub.store[name], self.headers["Range"]
        start = int(span.removeprefix("bytes=").split("-")[0]) if span else 0
        headers = {"ETag": f'"{name}"', "Accept-Ranges": "bytes"}
        if span:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        cuts = self.hub.cuts.get(name)
        after = cuts.pop(0) if cuts and self.command == "GET" else None
        if self.command == "GET":
            self.hub.begun.setdefault(name, []).append(start)
        self.reply(206 if span else 200, data[start:], headers, after)

    def json(self, value: Any) -> None:
        self.reply(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def reply(
        self, code: int, data: bytes, headers: Mapping[str, str], after: int | None = None
    ) -> None:
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            with suppress(BrokenPipeError, ConnectionResetError):  # the client knows enough
                self.wfile.write(data[:after])
        if after is not None:
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def about(files: Files, path: str) -> list[dict[str, Any]]:
    """The entry of one path: a file, a folder, or none."""
    if path in files:
        data = files[path]
        found: dict[str, Any] = {"type": "file", "path": path, "size": len(data)}
        found["oid"] = sha1(data).hexdigest()
        if path.endswith(STORED):
            found["lfs"] = {"oid": sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
        return [found]
    if any(other.startswith(f"{path}/") for other in files):
        return [{"type": "directory", "path": path, "size": 0, "oid": sha1(b"").hexdigest()}]
    return []


def tree(files: Files, folder: str) -> list[dict[str, Any]]:
    """Every entry below a folder."""
    inside = [path for path in files if not folder or path.startswith(f"{folder}/")]
    if not inside:
        raise MissingError("EntryNotFound")
    folders = {str(parent) for path in inside for parent in Path(path).parents} - {".", folder}
    return [entry for path in [*sorted(folders), *inside] for entry in about(files, path)]


@contextmanager
def serving() -> Iterator[Hub]:
    """An empty hub; it ends with the block."""
    hub = Hub()
    handler = type("Handler", (Answer,), {"hub": hub})
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for _ in range(2)]
    hub.url, hub.store_url = (f"http://127.0.0.1:{one.server_address[1]}" for one in servers)
    threads = [
        threading.Thread(target=one.serve_forever, args=(0.02,), daemon=True) for one in servers
    ]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            server.server_close()
            thread.join()
