"""A real headless Chromium, driven over its DevTools protocol, that tells what a page did."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from daemon_kit import wait_until
from websockets.sync.client import connect

DEADLINE_S = 60
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class Browser:
    """A browser with one page. `events` has what it told: requests, what was logged, errors of scripts."""

    def __init__(self) -> None:
        found = next(filter(None, map(shutil.which, PROGRAMS)), None)
        assert found, "needs Chromium: scripts/test installs it, or says what to install"
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        flags = ["--headless=new", "--disable-gpu", "--no-first-run", "--hide-scrollbars", "--disable-dev-shm-usage",
                 "--disable-background-networking", "--disable-component-update"]  # fmt: skip
        if os.geteuid() == 0:  # as whom its sandbox refuses to run
            flags.append("--no-sandbox")
        self._process = subprocess.Popen(
            [found, *flags, "--remote-debugging-port=0", f"--user-data-dir={self._folder.name}", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        self.events: list[dict[str, Any]] = []
        self._numbers = itertools.count(1)
        self._session = ""
        try:
            port, path = self._address()
            self._socket = connect(f"ws://127.0.0.1:{port}{path}", max_size=None, open_timeout=DEADLINE_S)
            (target,) = [one for one in self._ask("Target.getTargets")["targetInfos"] if one["type"] == "page"]
            attached = self._ask("Target.attachToTarget", targetId=target["targetId"], flatten=True)
            self._session = attached["sessionId"]
            for domain in ("Page", "Network", "Log", "Runtime"):
                self._ask(f"{domain}.enable")
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
        self._end()

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

    def _address(self) -> tuple[str, str]:
        """Where it listens, which it writes into a file."""
        file = Path(self._folder.name) / "DevToolsActivePort"
        wait_until(lambda: file.exists() and len(file.read_text().splitlines()) == 2, "Chromium's start")
        port, path = file.read_text().splitlines()
        return port, path

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

    def _end(self) -> None:
        self._process.kill()
        self._process.wait(DEADLINE_S)
        self._folder.cleanup()
