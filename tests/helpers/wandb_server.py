"""A W&B service on the loopback interface: as much of its HTTP API as the real client uses.

GraphQL for runs, files, artifacts, projects, reports, sweeps and agents; the file stream, which
carries history and summary; and uploads. What was uploaded is kept for tests to look at. A request
that it does not know is kept in ``unknown`` and refused.
"""

import base64
import gzip
import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.helpers.wandb_file import KEY, Uploaded

ENTITY = "somebody"


class Service:
    """The server, and all that was uploaded to it."""

    def __init__(self) -> None:
        self.runs: dict[tuple[str, str], Uploaded] = {}
        self.projects: set[str] = set()
        self.views: dict[str, dict[str, Any]] = {}  # id -> report
        self.sweeps: dict[str, dict[str, Any]] = {}
        self.trials: list[dict[str, Any]] = []  # what the next agent is told to run
        self.artifacts: list[dict[str, Any]] = []
        self.unknown: list[str] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def run(self, name: str, project: str = "mergeshift") -> Uploaded:
        return self.runs[project, name]

    # -- what is answered

    def get(self, path: str) -> bytes:
        return b"{}"

    def put(self, path: str, body: bytes) -> bytes:
        _, kind, project, run, *rest = path.split("/")
        if kind == "upload":
            self.runs[project, run].files["/".join(rest)] = body
        return b""

    def post(self, path: str, body: bytes) -> bytes:
        if path.endswith("/file_stream"):
            _, _, _, project, run, _ = path.split("/")
            self.stream(self.runs[project, run], json.loads(body))
            return b'{"limits": {}}'
        if path != "/graphql":
            self.unknown += [path] * (path != "/sdk/otel/v1/metrics")  # the client's own numbers
            return b"{}"
        asked = json.loads(body)
        query, given = asked["query"], asked.get("variables") or {}
        operation = query.split("{")[0].split("(")[0].split()[-1]
        answer: Callable[[dict], Any] | None = getattr(self, f"on_{snake(operation)}", None)
        if answer is None:
            self.unknown.append(query)
            return json.dumps({"errors": [{"message": f"unknown: {operation}"}]}).encode()
        return json.dumps({"data": answer(given)}).encode()

    def stream(self, run: Uploaded, sent: dict[str, Any]) -> None:
        for name, part in sent.get("files", {}).items():
            content = [json.loads(line) for line in part["content"]]
            run.lines.setdefault(name, {}).update(enumerate(content, part["offset"]))
        if sent.get("complete"):
            run.exit_code = sent["exitcode"]

    # -- GraphQL, one method per operation

    def on_viewer(self, given: dict) -> dict:
        viewer = {"id": "u", "entity": ENTITY, "username": ENTITY, "email": "", "flags": "{}"}
        return {"viewer": viewer | {"teams": {"edges": []}}}

    on_get_default_entity = on_viewer

    def on_server_features_query(self, given: dict) -> dict:
        return {"serverInfo": {"features": []}}

    def on_run_resume_status(self, given: dict) -> dict:
        run = self.runs.get((given["project"], given["name"]))
        if run is None:
            return {"model": None}
        bucket = {
            "id": f"id-{run.name}", "name": run.name, "displayName": run.about["displayName"],
            "summaryMetrics": json.dumps(run.summary), "logLineCount": 0, "eventsLineCount": 0,
            "config": json.dumps({name: {"value": value} for name, value in run.config.items()}),
            "eventsTail": "[]", "tags": [], "notes": "", "historyLineCount": len(run.history),
            "historyTail": json.dumps([json.dumps(line) for line in run.history[-1:]]),
            "wandbConfig": json.dumps({"t": 1}),
        }  # fmt: skip
        entity = {"id": "e", "name": ENTITY}
        return {"model": {"id": "m", "name": run.project, "entity": entity, "bucket": bucket}}

    def on_upsert_bucket(self, given: dict) -> dict:
        project = given["project"] or "uncategorized"
        self.projects.add(project)
        new = (project, given["name"]) not in self.runs
        run = self.runs.setdefault((project, given["name"]), Uploaded(project, given["name"]))
        run.about |= {name: value for name, value in given.items() if value is not None}
        if given.get("config"):
            run.config = {k: v["value"] for k, v in json.loads(given["config"]).items()}
        bucket = {
            "id": f"id-{run.name}", "name": run.name, "displayName": given.get("displayName"),
            "config": "{}", "sweepName": run.about.get("sweep"), "historyLineCount": 0,
            "project": {"id": "p", "name": project, "entity": {"id": "e", "name": ENTITY}},
        }  # fmt: skip
        return {"upsertBucket": {"inserted": new, "bucket": bucket}}

    def on_create_run_files(self, given: dict) -> dict:
        base = f"{self.url}/upload/{given['project']}/{given['run']}"
        files = [{"name": name, "uploadUrl": f"{base}/{name}"} for name in given["files"]]
        return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}}

    def on_artifact_type(self, given: dict) -> dict:
        return {"project": {"artifact": None}}

    def on_create_artifact(self, given: dict) -> dict:
        """Every artifact is known already: its content is among the run's files, too."""
        self.artifacts.append(given["input"])
        artifact = {"id": "a", "state": "COMMITTED", "artifactSequence": {"latestArtifact": None}}
        return {"createArtifact": {"artifact": artifact}}

    def on_project_internal_id(self, given: dict) -> dict:
        known = given["projectName"] in self.projects
        return {"project": {"id": "p", "internalId": "p7"} if known else None}

    def on_get_projects(self, given: dict) -> dict:
        nodes = [{"id": name, "name": name, "entityName": ENTITY, "createdAt": "2026-01-01",
                  "isBenchmark": False, "user": None}
                 for name in sorted(self.projects)]  # fmt: skip
        edges = [{"node": node, "cursor": ""} for node in nodes]
        page = {"endCursor": None, "hasNextPage": False}
        return {"models": {"edges": edges, "pageInfo": page}}

    def on_project_views(self, given: dict) -> dict:
        edges = [{"node": view, "cursor": ""} for view in self.views.values()]
        page = {"endCursor": None, "hasNextPage": False}
        return {"project": {"allViews": {"edges": edges, "pageInfo": page}}}

    def on_upsert_view(self, given: dict) -> dict:
        new = given.get("id") not in self.views
        key = base64.b64encode(f"View:{len(self.views)}".encode()).decode() if new else given["id"]
        self.views[key] = given | {
            "id": key, "createdAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-01T00:00:00Z",
            "project": {"id": "p", "name": given["projectName"], "entityName": ENTITY},
            "user": {"username": ENTITY, "photoUrl": "", "email": ""},
        }  # fmt: skip
        return {"upsertView": {"inserted": new, "view": self.views[key]}}

    def on_upsert_sweep(self, given: dict) -> dict:
        name = f"sweep{len(self.sweeps)}"
        self.sweeps[name] = given
        project = {"id": "p", "name": given["projectName"], "entity": {"id": "e", "name": ENTITY}}
        sweep = {"name": name, "project": project}
        return {"upsertSweep": {"sweep": sweep, "configValidationWarnings": []}}

    def on_sweep_with_runs(self, given: dict) -> dict:
        config = self.sweeps[given["sweep"]]["config"]
        sweep = {"id": "s", "name": given["sweep"], "config": config, "runs": {"edges": []}}
        return {"project": {"sweep": sweep}}

    def on_create_agent(self, given: dict) -> dict:
        return {"createAgent": {"agent": {"id": "agent"}}}

    def on_heartbeat(self, given: dict) -> dict:
        """The next trial where none is running; the end after the last."""
        busy = json.loads(given["runState"])
        commands = [] if busy else [self.trials.pop(0) if self.trials else {"type": "exit"}]
        return {"agentHeartbeat": {"agent": {"id": "agent"}, "commands": json.dumps(commands)}}


def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """A service that the client is logged in to, and knows no other."""
    import wandb

    service = Service()
    for name, value in (("WANDB_BASE_URL", service.url), ("WANDB_API_KEY", KEY)):
        monkeypatch.setenv(name, value)
    wandb.teardown()  # a session that has started does not look at the environment again
    yield service
    wandb.teardown()
    service.close()


def snake(name: str) -> str:
    """``UpsertBucket`` -> ``upsert_bucket``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def _handler(service: Service) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.answer(service.get(self.path))

        def do_HEAD(self) -> None:
            self.answer(b"")

        def do_POST(self) -> None:
            self.answer(service.post(self.path, self.body()))

        def do_PUT(self) -> None:
            self.answer(service.put(self.path, self.body()))

        def body(self) -> bytes:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            return gzip.decompress(data) if self.headers.get("Content-Encoding") == "gzip" else data

        def answer(self, content: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Silence."""

    return Handler
