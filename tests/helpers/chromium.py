"""Headless Chromium, driven by the DevTools protocol over a pipe: pages as a reader has them."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import SkipTest

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BINARY = next((found for name in NAMES if (found := shutil.which(name))), None)
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--mute-audio",
         "--no-first-run", "--disable-extensions", "--disable-background-networking",
         "--hide-scrollbars", "--remote-debugging-pipe")  # fmt: skip
# Chromium reads commands from file 3 and writes answers to file 4.
LAUNCH = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); " \
         "os.execv(sys.argv[3], sys.argv[3:])"  # fmt: skip
KEYS = {"Tab": 9, "Enter": 13, " ": 32, "Home": 36, "ArrowDown": 40}


class Browser:
    """One tab. ``problems`` collects what the console says and what the network is asked for."""

    def __init__(self, width: int = 1200, height: int = 900):
        assert BINARY
        self.profile = tempfile.TemporaryDirectory(prefix="chromium-")
        pipes = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (*os.pipe(), *os.pipe())]
        theirs_in, self.to, self.back, theirs_out = pipes
        command = [BINARY, *FLAGS, f"--user-data-dir={self.profile.name}", "about:blank"]
        self.process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(theirs_in), str(theirs_out), *command],
            pass_fds=(theirs_in, theirs_out), stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)
        self.left, self.count, self.session = b"", 0, ""
        self.problems: list[str] = []
        self.requests: list[str] = []
        tab = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=tab, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.resize(width, height)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(20)
        os.close(self.to)
        os.close(self.back)
        shutil.rmtree(self.profile.name, ignore_errors=True)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command and wait for its answer; what happens meanwhile is noted."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + 60
        while True:
            answer = self.read(deadline)
            if answer.get("id") == self.count:
                assert "error" not in answer, answer
                return answer["result"]

    def read(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self.left:
            ready, _, _ = select.select([self.back], [], [], max(0, deadline - time.monotonic()))
            assert ready, "Chromium does not answer"
            self.left += os.read(self.back, 1 << 20)
        raw, self.left = self.left.split(b"\0", 1)
        message = json.loads(raw)
        self.note(message.get("method", ""), message.get("params", {}))
        return message

    def note(self, event: str, told: dict[str, Any]) -> None:
        if event == "Runtime.exceptionThrown":
            details = told["exceptionDetails"]
            self.problems.append(details.get("exception", {}).get("description", str(details)))
        elif event == "Runtime.consoleAPICalled":
            self.problems.append(str([one.get("value") for one in told["args"]]))
        elif event == "Log.entryAdded":
            self.problems.append(told["entry"]["text"])
        elif event == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])

    def open(self, page: Path) -> None:
        """Load a file; returns when its script has run."""
        self.call("Page.navigate", url=page.resolve().as_uri())
        self.until("document.documentElement?.dataset.ready === 'yes'")

    def until(self, condition: str) -> None:
        deadline = time.monotonic() + 60
        while not self.ask(condition):
            assert time.monotonic() < deadline, f"never true: {condition}; {self.problems}"
            time.sleep(0.02)

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True,
                           awaitPromise=True)  # fmt: skip
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def settle(self) -> None:
        """Wait for two frames: what was changed is then laid out."""
        self.ask("new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(go)))")

    def resize(self, width: int, height: int) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=width < 500)  # fmt: skip

    def prefer(self, scheme: str) -> None:
        """``light`` or ``dark``: what the reader's system prefers."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def click(self, selector: str) -> None:
        """Press the left button of the mouse in the middle of an element."""
        self.ask(f"document.querySelector({selector!r}).scrollIntoView({{block: 'center', "
                 "behavior: 'instant'})")  # fmt: skip
        self.settle()
        box = self.ask(
            "(({x, y, width, height}) => [x + width / 2, y + height / 2])"
            f"(document.querySelector({selector!r}).getBoundingClientRect())"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left",
                      clickCount=1)  # fmt: skip

    def press(self, key: str) -> None:
        """One key down and up, where the focus is."""
        code = KEYS[key]
        text = {"Enter": "\r", " ": " "}.get(key, "")
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code,
                      code=key if len(key) > 1 else "Space",
                      **({"text": text} if text and kind == "keyDown" else {}))  # fmt: skip

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def picture(self, path: Path, whole: bool = True) -> Path:
        """A screenshot, of the whole page or of what is in sight."""
        more: dict[str, Any] = {}
        if whole:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            more = {"clip": {**size, "scale": 1}, "captureBeyondViewport": True}
        data = self.call("Page.captureScreenshot", format="png", **more)["data"]
        path.write_bytes(base64.b64decode(data))
        return path


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    if BINARY is None:
        raise SkipTest("no Chromium here; .ci/run installs it")
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture
def reader(chromium: Browser) -> Iterator[Browser]:
    """A browser in daylight; when it is done, nothing may have gone wrong."""
    chromium.problems.clear()
    chromium.requests.clear()
    chromium.prefer("light")
    chromium.resize(1200, 900)
    yield chromium
    assert chromium.problems == []
    assert all(url.startswith(("file:", "data:")) for url in chromium.requests)
