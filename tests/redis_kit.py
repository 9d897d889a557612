"""Real Redis servers for the tests, and looks into them behind the store's back."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from daemon_kit import Daemon, free_port
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis_acl import OF_SENTINELS, PASSWORD, USER, rules

MISSING = "needs a redis-server, and none is on PATH: scripts/test installs it, or says what to install"
LASTING = {"meta", "outbox", "index"}
"""The keys of a namespace that have no TTL (DESIGN 5)."""
WITHOUT_TTL = """
local found = {}
for _, key in ipairs(KEYS) do
  if redis.call('TTL', key) == -1 then
    found[#found + 1] = key
  end
end
return found
"""
START_TRIES = 5

Option = str | Sequence[str]


def has_redis() -> bool:
    """Whether a redis-server is on PATH."""
    return shutil.which("redis-server") is not None


def key_prefix(namespace: str) -> str:
    """What every key of a namespace begins with."""
    return f"bg:{{{quote(namespace, safe='')}}}:"


class RedisServer(Daemon):
    """A redis-server on a free loopback port and a Unix socket; it keeps nothing unless its options say so.

    Options are those of redis.conf, with `_` for `-`: `RedisServer(appendonly="yes", maxmemory="4mb")`; a sequence of
    texts makes a line of each (`user=["app on >secret ~* +@all"]`). `requirepass` is also used by `url` and `ask`;
    without it and `user`, the URLs log in as `redis_acl.USER`, who must be refused nothing, and `admin_url` and `ask`
    as one who may do anything.
    `tls=True` adds a TLS port with a certificate of its own making (`tls_url`, `ca_file`).
    """

    def __init__(self, *, tls: bool = False, arguments: Sequence[str] = (), **options: Option) -> None:
        super().__init__("redis")
        self.socket_path = self.folder / "sock"
        self.ca_file = self.folder / "ca.crt"
        self.password = str(options.get("requirepass", ""))
        self.has_user = not {"requirepass", "user"} & options.keys()
        self.port = self.tls_port = 0
        self._conf = self.folder / "redis.conf"
        self._options: Mapping[str, Option] = options
        self._arguments = arguments
        self._tls = tls
        try:
            self._first_start()
        except BaseException:
            self.close()
            raise

    def _first_start(self) -> None:
        if self._tls:
            make_certificates(self.folder)
        for _ in range(START_TRIES):  # another process may take the port between the look and the start
            self.port, self.tls_port = free_port(), free_port() if self._tls else 0
            self._write_conf()
            if self._launched():
                return
        raise AssertionError(f"redis-server does not start:\n{self.log.read_text()[-2000:]}")

    def __enter__(self) -> RedisServer:
        return self

    def __exit__(self, error: object, *_: object) -> None:
        refused = self.refused() if self.running and not error else set()
        self.close()
        assert not refused, f"the tests' user may not do what it was asked to: {refused}"

    @property
    def url(self) -> str:
        return f"redis://{self.login}127.0.0.1:{self.port}/0"

    @property
    def unix_url(self) -> str:
        return f"unix://{self.login}{self.socket_path}"

    @property
    def tls_url(self) -> str:
        return f"rediss://{self.login}127.0.0.1:{self.tls_port}/0?ssl_ca_certs={quote(str(self.ca_file))}"

    @property
    def admin_url(self) -> str:
        """For what the user of `url` may not do."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def login(self) -> str:
        if self.has_user:
            return f"{USER}:{quote(PASSWORD, safe='')}@"
        return f":{quote(self.password, safe='')}@" if self.password else ""

    def start(self) -> None:
        """Start it again, on the same ports and data."""
        if not self._launched():
            raise AssertionError(f"redis-server does not start again:\n{self.log.read_text()[-2000:]}")

    def ask(self, *command: Any) -> Any:
        """The reply to a command, over a connection of its own; an error reply raises redis-py's exception."""
        with contextlib.closing(
            Redis(
                unix_socket_path=str(self.socket_path), password=self.password or None,
                retry=Retry(NoBackoff(), 0), socket_timeout=10,
            )
        ) as client:  # fmt: skip
            return client.execute_command(*command)

    def keys(self, pattern: str = "*") -> list[str]:
        """The keys that match a pattern, sorted."""
        found = set()
        cursor: Any = b"0"
        while True:
            cursor, some = self.ask("SCAN", cursor, "MATCH", pattern, "COUNT", 10_000)
            found |= {key.decode() for key in some}
            if int(cursor) == 0:
                return sorted(found)

    def refused(self, user: str = USER) -> set[str]:
        """The commands and keys that it has refused to a user."""
        log = self.ask("ACL", "LOG")
        return {entry[b"object"].decode() for entry in log if entry[b"username"] == user.encode()}

    def info(self, section: str) -> dict[str, Any]:
        """A section of INFO."""
        return dict(self.ask("INFO", section))

    def _launched(self) -> bool:
        command = ["redis-server", str(self._conf), *self._arguments]
        return self.launch(command, self._answers)

    def _answers(self) -> bool:
        """Whether it serves: the socket is there before the data are loaded, and says so meanwhile."""
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(5)
            try:
                link.connect(str(self.socket_path))
                link.sendall(b"PING\r\n")
                answer = link.recv(100)
            except OSError:
                return False
        return answer.startswith((b"+PONG", b"-NOAUTH"))

    def _write_conf(self) -> None:
        options: dict[str, Option] = {
            "bind": "127.0.0.1", "port": str(self.port), "unixsocket": str(self.socket_path), "dir": str(self.folder),
            "save": '""', "appendonly": "no", "daemonize": "no", **self._tls_options(),
        }  # fmt: skip
        if self.has_user:
            of_user = rules([OF_SENTINELS]) if "--sentinel" in self._arguments else rules()
            options["user"] = " ".join([USER, *of_user])
        options |= {name.replace("_", "-"): value for name, value in self._options.items()}
        lines = [
            f"{name} {line}\n"
            for name, value in options.items()
            for line in ([value] if isinstance(value, str) else value)
        ]
        self._conf.write_text("".join(lines))

    def _tls_options(self) -> dict[str, Option]:
        if not self._tls:
            return {}
        return {
            "tls-port": str(self.tls_port), "tls-auth-clients": "no", "tls-ca-cert-file": str(self.ca_file),
            "tls-cert-file": str(self.folder / "server.crt"), "tls-key-file": str(self.folder / "server.key"),
        }  # fmt: skip


def make_certificates(folder: Path) -> None:
    """Write `ca.crt`, and `server.crt` with `server.key` for 127.0.0.1 and localhost, signed by it."""
    names = folder / "names"
    names.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    ca = ["-x509", "-days", "2", "-subj", "/CN=budgetguard tests", "-keyout", "ca.key", "-out", "ca.crt"]
    ca += ["-addext", "keyUsage=critical,keyCertSign"]  # Python 3.13 asks for it
    asked = ["-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr"]
    sign = ["-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2"]
    for command in (
        [*new, *ca], [*new, *asked], ["openssl", "x509", *sign, "-extfile", str(names), "-out", "server.crt"],
    ):  # fmt: skip
        subprocess.run(command, cwd=folder, check=True, capture_output=True)


@contextlib.contextmanager
def tidy_namespace(server: RedisServer, namespace: str) -> Iterator[str]:
    """Afterwards: no key of the namespace lasts but those that may; then all of them are deleted.

    Namespaces whose names begin with this one are held to the same.
    """
    yield namespace
    keys = server.keys(f"bg:{{{quote(namespace, safe='')}*")
    lasting = [key.decode() for key in server.ask("EVAL", WITHOUT_TTL, len(keys), *keys)]
    if keys:
        server.ask("DEL", *keys)
    assert [key for key in lasting if key.partition("}:")[2] not in LASTING] == [], "keys without TTL"
