"""W&B online or not: decided without asking, and offline whenever the service is not there."""

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pandas as pd
import pytest

from mergeshift import UserError
from results.wandb.login import mode
from results.wandb.runs import WandbUploader
from tests.helpers.result_frames import make_rows
from tests.helpers.wandb_file import KEY, log_out, one, runs


@pytest.fixture(autouse=True)
def nobody_is_logged_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    log_out(monkeypatch, tmp_path)


@pytest.fixture(scope="module", autouse=True)
def service() -> Iterator[None]:
    """W&B's own process ends with this file's tests."""
    yield
    import wandb

    wandb.teardown()


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return make_rows(["ties", "average"], ["mnist"], n=40)


def test_auto_is_online_only_with_a_key(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert mode("auto") == "offline"
    (tmp_path / "netrc").write_text(f"machine api.wandb.ai login user password {KEY}\n")
    assert mode("auto") == "online"
    (tmp_path / "netrc").write_text("machine api.wandb.ai login\n")  # broken: not logged in
    assert mode("auto") == "offline"
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert mode("auto") == mode("online") == "online"
    assert (mode("offline"), mode("off")) == ("offline", "off")
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert mode("auto") == "offline"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert mode("auto") == "off"


def test_a_key_for_another_server_does_not_count(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text(f"machine api.wandb.ai login user password {KEY}\n")
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert mode("auto") == "offline"
    with pytest.raises(UserError, match="no W&B API key; run `wandb login`"):
        mode("online")
    with pytest.raises(UserError, match="--wandb is one of auto, online, offline, off; got 'on'"):
        mode("on")


class Refuses(BaseHTTPRequestHandler):
    """A server that knows nobody."""

    def do_POST(self) -> None:
        self.send_response(401)
        self.end_headers()
        self.wfile.write(b"{}")

    do_GET = do_HEAD = do_POST  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Silence."""


@pytest.fixture
def refusing() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refuses)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_falls_back_where_nobody_answers(
    tmp_path, rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:  # bound, not listening: every connection is refused
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        said: list[str] = []
        mirror = WandbUploader(tmp_path, "main", mode("auto"), say=said.append)
        for method in ("ties", "average"):
            mirror.log_run({}, one(rows, method))
    assert mirror.mode == "offline"
    assert len(said) == 1
    assert "\n" not in said[0]
    assert said[0].startswith("W&B cannot be reached (http://127.0.0.1")
    assert len(runs(tmp_path)) == 2


def test_falls_back_where_the_key_is_refused(
    tmp_path, rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, refusing: str
) -> None:
    import wandb

    monkeypatch.setenv("WANDB_BASE_URL", refusing)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    wandb.teardown()  # a session that has started does not look at the environment again
    said: list[str] = []
    mirror = WandbUploader(tmp_path, "main", mode("auto"), say=said.append)
    mirror.log_run({"method": "ties"}, one(rows, "ties"))
    assert mirror.mode == "offline"
    assert len(said) == 1
    (run,) = runs(tmp_path).values()
    assert run.config["method"] == "ties"
    assert run.exit_code == 0
    wandb.teardown()
