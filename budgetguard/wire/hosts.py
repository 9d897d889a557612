"""`Host`: a machine that speaks a known API, as the policy declares it; and which provider answers at which host."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from budgetguard.core.amounts import shown
from budgetguard.errors import ConfigError
from budgetguard.policy_checks import Check, a_flag, label_text, one_of, table_faults
from budgetguard.wire.providers import PROVIDERS, REGIONAL

Family = Literal["openai", "anthropic", "gemini", "bedrock", "cohere", "ollama"]
"""Whose shapes of requests a host speaks."""

_NAME = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._*?-]{1,253})(?::([1-9][0-9]{0,4}))?")
_PORT = re.compile(r":([0-9]*)$")
_OLLAMA_PORT = "11434"


@dataclass(frozen=True)
class Host:
    """A host that is not known by itself, or is known otherwise: a gateway, a server of one's own. It wins over those
    that are known.

    Args:
        name: the host ("llm.example.com"), or a glob of hosts (`*` and `?`), with a port where only that one is meant
            ("localhost:8000"). Of several that fit, one without `*` and `?` wins, then the longest.
        provider: whom calls are counted and priced under: the label `provider`.
        api: the family of its API. Unmistakable paths of other families are recognised beside it.
        refuses_stream_options: it turns away chats that ask for their usage (`stream_options`). Streams that do not
            tell it unasked are counted then.

    Raises:
        ConfigError: lists every fault by the field's path.
    """

    name: str
    provider: str
    api: Family
    refuses_stream_options: bool = False
    port: str | None = field(init=False, repr=False, compare=False)
    rank: tuple[bool, int] = field(init=False, repr=False, compare=False)
    """How closely the name fits: the greatest wins."""
    _pattern: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        found = [f"host.{fault}" for fault in host_faults(vars(self))]
        if found:
            raise ConfigError("host", found)
        name, port = split(self.name)
        glob = "".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in name)
        object.__setattr__(self, "port", port or None)
        object.__setattr__(self, "rank", ("*" not in name and "?" not in name, len(self.name)))
        object.__setattr__(self, "_pattern", re.compile(glob))

    def fits(self, name: str, port: str) -> bool:
        """Whether a request to this host, in lower case and without its port, goes here."""
        return self.port in (None, port) and self._pattern.fullmatch(name) is not None


def _host_name(path: str, value: Any) -> Iterator[str]:
    """A host or a glob of hosts, with or without a port."""
    match = _NAME.fullmatch(value) if isinstance(value, str) else None
    if match is None or int(match[2] or 0) > 65_535:
        hint = "; leave out the scheme and the path" if isinstance(value, str) and "/" in value else ""
        yield f'{path} must be a host, such as "llm.example.com", "*.example.com" or "localhost:8000", not ' + (
            f"{shown(value)}{hint}"
        )


_REQUIRED: Mapping[str, Check] = {"name": _host_name, "provider": label_text, "api": one_of(*get_args(Family))}
HOST_CHECKS: Mapping[str, Check] = {**_REQUIRED, "refuses_stream_options": a_flag}
"""The fields of a host, and what each must be."""


def host_faults(entry: Mapping[str, Any]) -> Iterator[str]:
    """Every fault of one `[[host]]` table, each beginning with its key; without one, `Host(**entry)` is good."""
    return table_faults(entry, HOST_CHECKS, required=_REQUIRED)


def place_of(url: str) -> tuple[str, str]:
    """The host of a URL, with its port but without user and password, and its path with the query."""
    authority, slash, path = url.partition("://")[2].partition("/")
    return authority.rpartition("@")[2], slash + path


def split(host: str) -> tuple[str, str]:
    """A host in lower case and its port, "" where it names none. An IPv6 address comes out in its brackets."""
    if host.count(":") > 1 and not host.startswith("["):
        host = f"[{host}]"
    found = _PORT.search(host)
    name, port = (host[: found.start()], found[1]) if found else (host, "")
    return name.lower().rstrip("."), port


def declared(name: str, port: str, hosts: Sequence[Host]) -> Host | None:
    """The one of `hosts` that fits best; the first of several that fit alike."""
    return max((host for host in hosts if host.fits(name, port)), key=lambda host: host.rank, default=None)


def provider_at(name: str, port: str) -> str | None:
    """The provider that is known to answer at a host; None where none is."""
    if name in PROVIDERS:
        return PROVIDERS[name]
    for pattern, provider in REGIONAL:
        if pattern.search(name):
            return provider
    dot = name.find(".")
    while dot >= 0:
        if name[dot:] in PROVIDERS:
            return PROVIDERS[name[dot:]]
        dot = name.find(".", dot + 1)
    return "ollama" if port == _OLLAMA_PORT else None
