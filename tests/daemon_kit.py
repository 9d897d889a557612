"""Daemons of the tests: each in a folder of its own, and none outlives the tests, however those end.

A watcher process learns which daemons run and where. When its input ends, since the tests ended or were killed, it
kills what is left and removes the folders.
"""

from __future__ import annotations

import atexit
import contextlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

DEADLINE_S = 60.0
# Below the range from which systems take ports for outgoing connections, with a cluster's (10,000 above): a port stays
# free while its daemon is down.
PORTS = range(10_000, 22_000)

WATCHER = """
import os, shutil, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
pids = {}
for line in sys.stdin:
    pid, folder = line.rstrip("\\n").split(" ", 1)
    pids[folder] = int(pid)
    if pids[folder] < 0:
        del pids[folder]
for folder, pid in pids.items():
    if pid > 0:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    shutil.rmtree(folder, ignore_errors=True)
"""


@cache
def _watcher() -> subprocess.Popen[str]:
    command = [sys.executable, "-S", "-E", "-c", WATCHER]
    watcher = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, bufsize=1, start_new_session=True)
    atexit.register(watcher.communicate)
    return watcher


def _watch(pid: int, folder: Path) -> None:
    """What runs in a folder: a process, 0 for none, -1 for none ever again."""
    stdin = _watcher().stdin
    assert stdin is not None
    stdin.write(f"{pid} {folder}\n")


def free_port() -> int:
    """A loopback port that nobody listens on."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def wait_until(condition: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> Any:
    """Wait, blocking, for a condition and return what it found; fail if it does not come."""
    ends = time.monotonic() + deadline_s
    while not (found := condition()):
        assert time.monotonic() < ends, f"waited in vain: {what}"
        time.sleep(0.005)
    return found


class Daemon:
    """A process that serves, in a temporary folder."""

    def __init__(self, name: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"bg-{name}-"))
        self.log = self.folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        _watch(0, self.folder)

    @property
    def pid(self) -> int:
        assert self._process is not None, "it does not run"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def launch(self, command: Sequence[str], answers: Callable[[], bool]) -> bool:
        """Start the process and wait until it answers. False if it ended first: its log says why."""
        assert self._process is None, "it runs already"
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C ends the tests, which then end it.
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, start_new_session=True
            )
        _watch(self.pid, self.folder)
        wait_until(lambda: not self.running or answers(), f"an answer of {command[0]}: {self.log}")
        if self.running:
            return True
        self._ended()
        return False

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if self._process is not None:
            self._process.send_signal(number)

    def pause(self) -> None:
        """SIGSTOP: it holds its connections and answers nothing."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL: nothing more is written, and every connection breaks."""
        self.signal(signal.SIGKILL)
        self._ended()

    def stop(self) -> None:
        """SIGTERM: it ends in its own way."""
        self.resume()
        self.signal(signal.SIGTERM)
        self._ended()

    def close(self) -> None:
        """Kill it and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        _watch(-1, self.folder)

    def _ended(self) -> None:
        if self._process is not None:
            self._process.wait(DEADLINE_S)
            self._process = None
            _watch(0, self.folder)
