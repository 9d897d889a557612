"""Which API a request goes to: told by its method, host and path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple
from urllib.parse import unquote

from budgetguard.wire.hosts import Host, declared, provider_at, split
from budgetguard.wire.paths import FREE, Kind, shape_of

__all__ = ["FREE", "Api", "Host", "Kind", "recognise"]

# No known API bills them: they list, fetch, delete, or open a websocket, which is no exchange of HTTP.
_FREE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})


class Api(NamedTuple):
    """One kind of request of one provider. `model` where the path names it, else None.

    `streams` where the path asks for a stream (Gemini, Bedrock); elsewhere the request's body does.
    """

    kind: Kind
    provider: str
    model: str | None = None
    streams: bool = False


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
    plain = "/" + unquote(path.partition("?")[0].partition("#")[0]).strip("/")
    found = shape_of(plain, provider, own.api if own else None)
    if found is None:
        return None
    shape, model, streams = found
    return FREE if shape == FREE else Api(shape, provider or name, model, streams)
