"""Where a Redis is and how to log in: a URL as `Address`, every fault of it said without its secrets.

Pure: nothing is connected. The shapes follow redis-py's `from_url`, with Sentinel and cluster beside them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["fixed", "sentinel", "cluster"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One place to connect to: a host and port, or the path of a Unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.path or f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Login:
    """A user and password; no user: the server's default one. The password is not shown."""

    username: str = ""
    password: str = field(default="", repr=False)

    def __bool__(self) -> bool:
        return bool(self.username or self.password)


@dataclass(frozen=True, slots=True)
class Tls:
    """How a server's certificate is checked, and which one this side shows; the names are redis-py's."""

    ssl_cert_reqs: str = "required"
    ssl_check_hostname: bool = True
    ssl_ca_certs: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None


@dataclass(frozen=True, slots=True)
class Address:
    """A Redis: `endpoints` are the server itself, the sentinels, or some nodes of the cluster.

    `master` is the sentinels' name for the primary, `sentinel_login` is for them alone; `tls` is None without TLS.
    """

    kind: Kind
    endpoints: tuple[Endpoint, ...]
    login: Login = Login()
    db: int = 0
    master: str = ""
    sentinel_login: Login = Login()
    tls: Tls | None = None

    def __str__(self) -> str:
        if self.endpoints[0].path:
            return f"unix://{self.endpoints[0].path}"
        scheme = ("redis" if self.tls is None else "rediss") + ("" if self.kind == "fixed" else f"+{self.kind}")
        tail = f"/{self.master}" if self.master else ""
        return f"{scheme}://{','.join(map(str, self.endpoints))}{tail}" + (f"/{self.db}" if self.db else "")


def parse_address(url: str) -> Address:
    """The address that a URL says.

    Raises:
        ConfigError: of `store.url`; says what was expected, and shows nothing of the URL but known words.
    """
    from urllib.parse import unquote, urlsplit

    parts = urlsplit(url)
    login = Login(unquote(parts.username or ""), unquote(parts.password or ""))
    if parts.scheme == "unix":
        return Address("fixed", (Endpoint(path=unquote(parts.path)),), login)
    endpoint = Endpoint(parts.hostname or "localhost", parts.port or 6379)
    return Address("fixed", (endpoint,), login, int(parts.path.strip("/") or 0))
