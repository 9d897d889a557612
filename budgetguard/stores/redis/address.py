"""Where a Redis is and how to log in: a URL, read into an `Address`; a fault of it is told without its text.

Pure: nothing is connected, no file is opened. The shapes are redis-py's (`redis.asyncio.connection.parse_url`), with
Sentinel and cluster beside them; unlike there, what is not understood is an error.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Literal
from urllib.parse import unquote, unquote_plus

from budgetguard.errors import ConfigError

Kind = Literal["fixed", "sentinel", "cluster"]

SHAPES = {
    "redis": "redis://user:password@host:6379/0",
    "unix": "unix://user:password@/run/redis.sock?db=0",
    "redis+sentinel": "redis+sentinel://user:password@host1:26379,host2:26379/master/0",
    "redis+cluster": "redis+cluster://user:password@host1:6379,host2:6379",
}
SENTINEL_PORT, REDIS_PORT = 26379, 6379
MOST_DB = 2**31 - 1
FLAGS = {**dict.fromkeys(("true", "t", "yes", "y", "1"), True), **dict.fromkeys(("false", "f", "no", "n", "0"), False)}
CERT_REQS = ("required", "optional", "none")
_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_TLS = (*_TLS_FILES, "ssl_cert_reqs", "ssl_check_hostname")
_SENTINEL = ("sentinel_username", "sentinel_password")
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,252})")
_PORT = re.compile(r"[0-9]{1,5}")
_DB = re.compile(r"[0-9]{1,10}")


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


class _Fault(Exception):
    """What is wrong with a URL, in words that hold nothing of it."""


def parse_address(url: str) -> Address:
    """The address that a URL says.

    Raises:
        ConfigError: of `store.url`; says what was expected, and shows nothing of the URL.
    """
    scheme, colon, rest = url.partition("://")
    plain = scheme.replace("rediss", "redis", 1)
    if not colon or plain not in SHAPES:
        raise ConfigError("store.url", [f"expected a URL such as {', '.join(SHAPES.values())} (rediss with TLS)"])
    try:
        return _address(plain, scheme.startswith("rediss"), rest)
    except _Fault as fault:
        raise ConfigError("store.url", [f"{fault}: expected {SHAPES[plain].replace(plain, scheme, 1)}"]) from None


def _address(plain: str, with_tls: bool, rest: str) -> Address:
    """Of a scheme without its s."""
    rest, _, query = rest.partition("?")
    authority, slash, path = rest.partition("/")
    if "#" in rest + query or (plain != "unix" and "@" in path + query):
        raise _Fault("a user, password or file holds one of : / ? # @ as it is, and must have it percent-encoded (%40)")
    parameters = _parameters(query, _known(plain, with_tls))
    userinfo, _, hosts = authority.rpartition("@")
    login = Login(*(_decoded(part) for part in userinfo.partition(":")[::2]))
    if plain == "unix":
        if hosts or not path:
            raise _Fault("a Unix socket has a path with three slashes and no host")
        return Address("fixed", (Endpoint(path=_decoded(slash + path)),), login, _db(parameters.get("db", "")))
    kind: Kind = "sentinel" if plain == "redis+sentinel" else "cluster" if plain == "redis+cluster" else "fixed"
    master, db = _master_and_db(kind, path, parameters.get("db", ""))
    return Address(
        kind, _endpoints(hosts, kind), login, db, master,
        Login(*(parameters.get(name, "") for name in _SENTINEL)), _tls(parameters) if with_tls else None,
    )  # fmt: skip


def _known(plain: str, with_tls: bool) -> tuple[str, ...]:
    return (
        *(("db",) if plain != "redis+cluster" else ()),
        *(_SENTINEL if plain == "redis+sentinel" else ()),
        *(_TLS if with_tls else ()),
    )


def _parameters(query: str, known: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, pair in enumerate(query.split("&") if query else (), start=1):
        name, equals, value = pair.partition("=")
        if name in known and (not equals or not value or name in found):
            raise _Fault(f"the parameter {name} must stand once, as {name}=value")
        if name not in known:
            raise _Fault(f"parameter {number} after the ? is not known{_hint(name, known)}")
        found[name] = _decoded(value, in_query=True)
    return found


def _hint(name: str, known: tuple[str, ...]) -> str:
    if name in _TLS:
        return f" without TLS ({name} needs a URL that begins with rediss)"
    if name in _SENTINEL:
        return f" here ({name} belongs to sentinels)"
    if near := get_close_matches(name[:40], known, n=1):
        return f" (did you mean {near[0]}?)"
    return f" (known are {', '.join(known)})" if known else " (none is, in this kind of URL)"


def _decoded(text: str, in_query: bool = False) -> str:
    try:
        decoded = (unquote_plus if in_query else unquote)(text, errors="strict")
        decoded.encode()
    except UnicodeError:
        raise _Fault("what is percent-encoded must be UTF-8") from None
    if "\0" in decoded:
        raise _Fault("nothing in it may hold the character NUL (%00)")
    return decoded


def _endpoints(hosts: str, kind: Kind) -> tuple[Endpoint, ...]:
    texts = hosts.split(",")
    if kind == "fixed" and len(texts) > 1:
        raise _Fault("several hosts need a URL that begins with redis+sentinel or redis+cluster")
    return tuple(dict.fromkeys(_endpoint(text, SENTINEL_PORT if kind == "sentinel" else REDIS_PORT) for text in texts))


def _endpoint(text: str, default_port: int) -> Endpoint:
    if text.startswith("["):
        inside, bracket, tail = text[1:].partition("]")
        none, colon, port = tail.partition(":")
        host = _decoded(inside)
        if not bracket or none or not _is_ipv6(host):
            raise _Fault("an IPv6 host must be written as [::1] or [::1]:6379")
    else:
        host, colon, port = text.partition(":")
        if ":" in port:
            raise _Fault("an IPv6 host must stand in brackets, a password's : must be written %3A")
        if not _HOST.fullmatch(host):
            raise _Fault("a host must be there, and be a name or an IP address")
    if colon and not (_PORT.fullmatch(port) and 0 < int(port) < 65536):
        raise _Fault("a port must be a number from 1 to 65535")
    return Endpoint(host, int(port) if colon else default_port)


def _is_ipv6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True


def _master_and_db(kind: Kind, path: str, parameter: str) -> tuple[str, int]:
    master, db = "", path
    if kind == "sentinel":
        master, _, db = path.partition("/")
        master = _decoded(master)
        if not master:
            raise _Fault("the sentinels' name of the master must follow the hosts")
    if kind == "cluster":
        if db not in ("", "0"):
            raise _Fault("a cluster has the database 0 only")
        return "", 0
    if db and parameter:
        raise _Fault("the database must be said once")
    return master, _db(db or parameter)


def _db(text: str) -> int:
    if text and not (_DB.fullmatch(text) and int(text) <= MOST_DB):
        raise _Fault("the database must be a number such as 0")
    return int(text or 0)


def _tls(parameters: Mapping[str, str]) -> Tls:
    required = parameters.get("ssl_cert_reqs", "required")
    if required not in CERT_REQS:
        raise _Fault(f"ssl_cert_reqs must be one of {', '.join(CERT_REQS)}")
    check = FLAGS.get(parameters.get("ssl_check_hostname", "true").lower())
    if check is None:
        raise _Fault("ssl_check_hostname must be true or false")
    if "ssl_keyfile" in parameters and "ssl_certfile" not in parameters:
        raise _Fault("ssl_keyfile needs ssl_certfile beside it")
    return Tls(required, check, *(parameters.get(name) for name in _TLS_FILES))
