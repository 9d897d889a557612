"""A real headless Chromium, driven over its DevTools protocol, that tells what a page did."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from daemon_kit import wait_until
from websockets.sync.client import ClientConnection, connect

DEADLINE_S = 60
# Without a sandbox: root and many containers have none, and it opens pages of our own alone.
FLAGS = (
    "--headless=new", "--disable-gpu", "--no-first-run", "--hide-scrollbars", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0",
    "--no-sandbox",
)  # fmt: skip
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextmanager
def browsing() -> Iterator[Browser]:
    """A browser of its own, until the end of the block."""
    found = next(filter(None, map(shutil.which, PROGRAMS)), None)
    assert found, "needs Chromium: scripts/test installs it, or says what to install"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        process = subprocess.Popen(
            [found, *FLAGS, f"--user-data-dir={folder}", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            with connect(_address(Path(folder)), max_size=None, open_timeout=DEADLINE_S) as socket:
                yield Browser(socket)
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # it is several processes
            process.wait(DEADLINE_S)


def _address(folder: Path) -> str:
    """Where it listens, which it writes into a file."""
    file = folder / "DevToolsActivePort"
    wait_until(lambda: file.exists() and len(file.read_text().splitlines()) == 2, "Chromium's start")
    port, path = file.read_text().splitlines()
    return f"ws://127.0.0.1:{port}{path}"


class Browser:
    """A browser with one page. `events` has what it told: requests, what was logged, errors of scripts."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.events: list[dict[str, Any]] = []
        self._numbers = itertools.count(1)
        self._session = ""
        (target,) = [one for one in self._ask("Target.getTargets")["targetInfos"] if one["type"] == "page"]
        attached = self._ask("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self._ask(f"{domain}.enable")

    def open(self, path: Path, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Load a file in a window of that size, to its end; `events` are of this page alone."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._ask("Emulation.setEmulatedMedia", features=[scheme])
        self._ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )  # fmt: skip
        self.events.clear()
        self._ask("Page.navigate", url=path.resolve().as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._hear()
        self.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")  # drawn, and told of it

    def evaluate(self, expression: str) -> Any:
        """What a piece of JavaScript says, run from outside the page."""
        told = self._ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """The whole page, as PNG."""
        shot = self._ask("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def requested(self) -> list[str]:
        """The addresses that the page asked for."""
        return [one["params"]["request"]["url"] for one in self.events if one["method"] == "Network.requestWillBeSent"]

    def complaints(self) -> list[Any]:
        """What stands in the console, and errors of scripts."""
        told = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
        return [one["params"] for one in self.events if one["method"] in told]

    def _ask(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        session = {"sessionId": self._session} if self._session else {}
        self._socket.send(json.dumps({"id": number, "method": method, "params": params, **session}))
        while (told := self._hear()).get("id") != number:
            pass
        assert "error" not in told, told
        result: dict[str, Any] = told["result"]
        return result

    def _hear(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self._socket.recv(timeout=DEADLINE_S))
        if "method" in told:
            self.events.append(told)
        return told
