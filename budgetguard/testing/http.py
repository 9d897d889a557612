"""As much HTTP/1.1 as a fake provider needs, over asyncio's streams (RFC 9112): no TLS, no pipelining, no uploads."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

PHRASES = {status.value: status.phrase for status in HTTPStatus}


class HttpRequest(NamedTuple):
    """One request; the names of `headers` are lower case, `path` has no query."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


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
    return HttpRequest(parts[0], parts[1].partition("?")[0], headers, body)


async def send_json(writer: asyncio.StreamWriter, status: int, payload: Any, headers: Mapping[str, str]) -> None:
    """Answer with a JSON body.

    Raises:
        ConnectionError: the client went away.
    """
    body = json.dumps(payload).encode()
    writer.write(_head(status, {"content-type": "application/json", "content-length": str(len(body)), **headers}))
    writer.write(body)
    await writer.drain()


async def start_events(writer: asyncio.StreamWriter, headers: Mapping[str, str]) -> None:
    """Begin an answer of server-sent events.

    Raises:
        ConnectionError: the client went away.
    """
    writer.write(_head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked", **headers}))
    await writer.drain()


async def send_event(writer: asyncio.StreamWriter, data: str) -> None:
    """Send one server-sent event, as one chunk.

    Raises:
        ConnectionError: the client went away.
    """
    event = f"data: {data}\n\n".encode()
    writer.write(b"%x\r\n%b\r\n" % (len(event), event))
    await writer.drain()


async def end_events(writer: asyncio.StreamWriter) -> None:
    """End an answer of server-sent events; the connection can carry another request.

    Raises:
        ConnectionError: the client went away.
    """
    writer.write(b"0\r\n\r\n")
    await writer.drain()


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} {PHRASES.get(status, 'Status')}\r\n{fields}\r\n".encode("latin-1")
