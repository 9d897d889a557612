"""As much HTTP/1.1 as a fake provider needs, over asyncio's streams (RFC 9112): no TLS, no pipelining, no uploads."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote

PHRASES = {status.value: status.phrase for status in HTTPStatus}
_OF_THE_CONNECTION = frozenset(["content-length", "transfer-encoding", "connection"])


class HttpRequest(NamedTuple):
    """One request; the names of `headers` are lower case, `path` is decoded and has no query, `target` is as sent."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    target: str


class HttpFault(Exception):
    """A request that gets an error for its answer.

    Args:
        status: the HTTP status.
        message: what is wrong with the request and how to mend it.
        code: the machine-readable name of it, as OpenAI's errors have one.
    """

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(status, message, code)
        self.status = status
        self.message = message
        self.code = code


def parts_of(target: str) -> tuple[str, frozenset[tuple[str, str]]]:
    """The decoded path and the query of what a request line or a recording names."""
    path, _, query = target.partition("?")
    return unquote(path), frozenset(parse_qsl(query, keep_blank_values=True))


async def read_request(reader: asyncio.StreamReader) -> HttpRequest | None:
    """The next request of a connection; None once the client has closed it.

    Raises:
        HttpFault: it is not HTTP/1.1 with a length; the connection can't go on.
        ConnectionError, asyncio.IncompleteReadError: the client went away within a request.
    """
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        raise HttpFault(431, "the request's head is too large") from None
    except asyncio.IncompleteReadError as cut:
        if cut.partial:
            raise
        return None
    request_line, *lines = head.decode("latin-1").split("\r\n")[:-2]
    parts = request_line.split(" ")
    if len(parts) != 3:
        raise HttpFault(400, "the request line is not METHOD PATH VERSION")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if "transfer-encoding" in headers:
        raise HttpFault(411, "send a content-length")
    length = headers.get("content-length", "0")
    if not length.isdecimal():
        raise HttpFault(400, "content-length is not a number")
    body = await reader.readexactly(int(length))
    return HttpRequest(parts[0], parts_of(parts[1])[0], headers, body, parts[1])


def head_of(status: int, headers: Mapping[str, str], length: int | None) -> bytes:
    """The head of an answer; None as `length`: its body comes in chunks."""
    own = {name: value for name, value in headers.items() if name not in _OF_THE_CONNECTION}
    own |= {"transfer-encoding": "chunked"} if length is None else {"content-length": str(length)}
    fields = "".join(f"{name}: {value}\r\n" for name, value in own.items())
    return f"HTTP/1.1 {status} {PHRASES.get(status, 'Status')}\r\n{fields}\r\n".encode("latin-1")


def chunk_of(data: bytes) -> bytes:
    """A chunk of a body; an empty one ends it."""
    return b"%x\r\n%b\r\n" % (len(data), data)
