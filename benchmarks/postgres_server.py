"""A PostgreSQL server of the benchmark: on a free loopback port, as durable as it is by default."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from figures import Sizes, fresh_folder

DEADLINE_S = 30.0


def program(name: str) -> str | None:
    """A program of the server, the newest. Debian has them beside PATH, by version."""
    found = [path for folder in Path("/usr/lib/postgresql").glob("*/bin") if (path := folder / name).exists()]
    return shutil.which(name) or str(max(found, key=lambda path: int(path.parent.parent.name), default="")) or None


@contextmanager
def postgres_server(sizes: Sizes) -> Iterator[str]:
    """The URL of a fresh one."""
    as_user = _as_user()
    may_enter = subprocess.run([*as_user, "test", "-x", str(sizes.folder)]).returncode == 0
    with fresh_folder(sizes if may_enter else Sizes()) as folder:
        if as_user:
            shutil.chown(folder, "postgres")
        data = str(folder / "data")
        make = [str(program("initdb")), "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"]
        subprocess.run([*as_user, *make], check=True, capture_output=True, cwd=folder)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        start = [str(program("postgres")), "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", ""]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen([*as_user, *start], stdout=log, stderr=log, cwd=folder)
        try:
            url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
            _wait_for(url, server)
            yield url
        finally:
            server.send_signal(signal.SIGINT)
            server.wait()


def fresh_schema(url: str, name: str) -> str:
    """The URL of an empty schema."""
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE")
        db.execute(f"CREATE SCHEMA {name}")
    return f"{url}?options=-csearch_path%3D{name}"


def _as_user() -> list[str]:
    """How to run as somebody else than root, as whom it refuses to run."""
    if os.geteuid() != 0:
        return []
    user = pwd.getpwnam("postgres")
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    ends = time.monotonic() + DEADLINE_S
    while True:
        try:
            psycopg.connect(url, connect_timeout=2).close()
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > ends:
                raise
            time.sleep(0.1)
        else:
            return
