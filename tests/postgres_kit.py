"""A real PostgreSQL server for the tests, and looks into it."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
from daemon_kit import Daemon, free_port, wait_until

USER, PASSWORD = "ledger", "p@ss/w:rd?"
START_TRIES = 5
FAST = ("fsync=off", "full_page_writes=off", "max_wal_size=2GB")
"""Nothing here has to outlive the machine."""


def program(name: str) -> str:
    """A program of the server. Debian has them beside PATH, by version."""
    found = [path for folder in Path("/usr/lib/postgresql").glob("*/bin") if (path := folder / name).exists()]
    on_path = shutil.which(name)
    assert on_path or found, "needs PostgreSQL's server: scripts/test installs it, or says what to install"
    return on_path or str(max(found, key=lambda path: int(path.parent.parent.name)))


class PostgresServer(Daemon):
    """A server on a free loopback port, with a database of the user `ledger`, who has to show a password."""

    def __init__(self) -> None:
        super().__init__("postgres")
        self.port = 0
        self._as_user: list[str] = []
        if os.geteuid() == 0:  # as whom it refuses to run
            user = pwd.getpwnam("postgres")
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self._as_user = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        try:
            self._first_start()
        except BaseException:
            self.close()
            raise

    def _first_start(self) -> None:
        command = [program("initdb"), "-D", str(self.folder / "data"), "-U", "postgres", "--no-sync", "-E", "UTF8"]
        made = subprocess.run([*self._as_user, *command, "-A", "trust"], cwd=self.folder, capture_output=True)
        assert made.returncode == 0, made.stderr.decode()
        (self.folder / "data" / "pg_hba.conf").write_text(
            f"host all {USER} 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n"
        )
        for _ in range(START_TRIES):  # another process may take the port between the look and the start
            self.port = free_port()
            if self._launched():
                break
        with psycopg.connect(self.admin_url, autocommit=True) as db:
            db.execute(f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'")
            db.execute(f"CREATE DATABASE books OWNER {USER}")

    @property
    def admin_url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    @property
    def shown_url(self) -> str:
        """What may be shown of the URL of a ledger."""
        return f"postgresql://127.0.0.1:{self.port}/books"

    def url(self, schema: str) -> str:
        """Of a ledger of its own."""
        login = f"{USER}:{quote(PASSWORD, safe='')}"
        return f"postgresql://{login}@127.0.0.1:{self.port}/books?options=-csearch_path%3D{schema}"

    def start(self) -> None:
        """Start it again, on the same port and data."""
        wait_until(self._launched, "a start")

    def stop(self) -> None:
        """End it at once in its own way: every connection breaks."""
        self.signal(signal.SIGINT)
        self._ended()

    def close(self) -> None:
        self.stop()
        super().close()

    def _launched(self) -> bool:
        settings = [part for setting in FAST for part in ("-c", setting)]
        command = [program("postgres"), "-D", str(self.folder / "data"), "-h", "127.0.0.1", "-p", str(self.port)]
        return self.launch([*self._as_user, *command, "-k", "", *settings], self._answers)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.admin_url, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True


class Books:
    """A schema of its own in the server, and a look into it."""

    def __init__(self, server: PostgresServer, schema: str) -> None:
        self.server, self.schema = server, schema
        self.url = server.url(schema)
        self.ask_as_admin(f"CREATE SCHEMA {schema} AUTHORIZATION {USER}")

    def ask(self, query: str, *bindings: Any) -> list[tuple[Any, ...]]:
        """What a query says, through a connection of its own."""
        with psycopg.connect(self.url) as db:
            return list(db.execute(query, bindings or None).fetchall())

    def do(self, statement: str) -> None:
        with psycopg.connect(self.url) as db:
            db.execute(statement)

    def ask_as_admin(self, statement: str) -> None:
        with psycopg.connect(self.server.admin_url, dbname="books") as db:
            db.execute(statement)

    def books(self) -> dict[tuple[str, str], tuple[Any, ...]]:
        """As `drain_kit.books` of a file."""
        query = "SELECT namespace, reservation_id, revision, status, total_tokens, cost_nanousd FROM token_usage"
        return {(namespace, id): tuple(rest) for namespace, id, *rest in self.ask(query)}
