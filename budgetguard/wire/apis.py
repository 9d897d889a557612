"""Which API a request goes to: told by its method, host and path."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args
from urllib.parse import unquote

from budgetguard.wire.hosts import Family, Host, declared, provider_at, split
from budgetguard.wire.paths import FREE, Kind, shape_of

__all__ = ["FREE", "Api", "Host", "Kind", "family_of", "provider_of", "recognise"]

# No known API bills them: they list, fetch, delete, or open a websocket, which is no exchange of HTTP.
_FREE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})
_DATED = re.compile(r"(?:^|&)api-version=(\d{4}-\d{2}-\d{2})")
_AZURE_ASKS_SINCE = "2024-09-01"


class Api(NamedTuple):
    """One kind of request of one provider. `model` where the path names it, else None.

    `streams` where the path asks for a stream (Gemini, Bedrock); elsewhere the request's body does.
    `refuses_stream_options` where a chat that asks for its usage would be turned away.
    """

    kind: Kind
    provider: str
    model: str | None = None
    streams: bool = False
    refuses_stream_options: bool = False


def recognise(method: str, host: str, path: str, hosts: Sequence[Host] = ()) -> Api | Literal["free"] | None:
    """The API that a request goes to, "free" where it is known to bill nothing, None where nothing is known of it.

    Args:
        method: of HTTP.
        host: as the URL has it, with the port if it names one.
        path: as the URL has it, percent-encoded, with or without the query.
        hosts: what the policy declares; wins over what is known.

    A host of which nothing is known is its own provider, if the path is one that is the same everywhere.
    """
    if method.upper() in _FREE_METHODS:
        return FREE
    if method.upper() != "POST":
        return None
    name, port = split(host)
    own = declared(name, port, hosts)
    provider = own.provider if own else provider_at(name, port)
    found = shape_of(_plain(path), provider, own.api if own else None)
    if found is None:
        return None
    shape, model, streams = found
    if shape == FREE:
        return FREE
    refuses = (own is not None and own.refuses_stream_options) or _is_older_azure(path)
    return Api(shape, provider or name, model, streams, refuses)


def _is_older_azure(path: str) -> bool:
    """Azure OpenAI, before it knew `stream_options`: https://learn.microsoft.com/azure/ai-services/openai/whats-new"""
    before, _, query = path.partition("?")
    found = _DATED.search(query) if "/deployments/" in before else None
    return found is not None and found[1] < _AZURE_ASKS_SINCE


def provider_of(host: str, hosts: Sequence[Host] = ()) -> str | None:
    """Who answers at a host, as the policy declares it or as it is known; None where nobody is known to."""
    name, port = split(host)
    own = declared(name, port, hosts)
    return own.provider if own else provider_at(name, port)


def family_of(path: str) -> Family | None:
    """A family that has such a path: at a host that is declared to speak it, it would be known. None where none has."""
    families: tuple[Family, ...] = get_args(Family)
    return next((family for family in families if shape_of(_plain(path), None, family) is not None), None)


def _plain(path: str) -> str:
    """Decoded, without the query and without a slash at its end."""
    return "/" + unquote(path.partition("?")[0].partition("#")[0]).strip("/")
