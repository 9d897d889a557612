"""A redis-server of the benchmark: on a free loopback port, keeping nothing on disk, ended with the measurement."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from figures import Sizes, batched, fresh_folder

DEADLINE_S = 15.0
TRIES = 5
"""Another process may take the free port first."""


@dataclass(frozen=True)
class Server:
    """A running redis-server, and a connection to look into it."""

    port: int
    client: redis.Redis

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def ask(self, *command: Any) -> Any:
        """The reply to a command; blocks the event loop for it."""
        return self.client.execute_command(*command)  # type: ignore[no-untyped-call]

    def script_us(self) -> int:
        """Microseconds that scripts have taken since the start."""
        found = self.ask("INFO", "commandstats")
        return sum(int(found[name]["usec"]) for name in ("cmdstat_evalsha", "cmdstat_eval") if name in found)

    def memory_bytes(self) -> int:
        """What the data and their tables take; the rest of the server does not grow with them."""
        memory = self.ask("INFO", "memory")
        return int(memory["used_memory"]) - int(memory["mem_clients_normal"])

    def forget(self, pattern: str) -> None:
        """Delete what matches a glob."""
        for keys in batched(self.client.scan_iter(pattern, count=10_000), 1_000):
            self.client.delete(*keys)


@contextmanager
def redis_server(sizes: Sizes) -> Iterator[Server]:
    """A fresh one.

    Exits with what to install where there is none.
    """
    program = shutil.which("redis-server")
    if program is None:
        sys.exit("there is no redis-server on PATH: install one (Debian: apt install redis-server)")
    with fresh_folder(sizes) as folder:
        process, port = _started(program, folder)
        try:
            with redis.Redis(port=port, socket_timeout=60) as client:
                yield Server(port, client)
        finally:
            process.kill()
            process.wait()


def _started(program: str, folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    for _ in range(TRIES):
        port = _free_port()
        options = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), "--save", "", "--appendonly", "no"]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen([program, *options], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if _answers(process, port):
            return process, port
    sys.exit(f"redis-server does not start:\n{(folder / 'log').read_text()[-2000:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    ends = time.monotonic() + DEADLINE_S
    while process.poll() is None and time.monotonic() < ends:
        try:
            with redis.Redis(port=port) as client:
                client.ping()
        except redis.ConnectionError:
            time.sleep(0.01)
        else:
            return True
    process.kill()
    process.wait()
    return False
