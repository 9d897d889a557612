"""The side of the fake provider that has connections: it reads requests and plays replies, slowly, in part or never."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from types import TracebackType
from typing import Self

from budgetguard.testing.http import HttpFault, HttpRequest, chunk_of, head_of, read_request
from budgetguard.testing.reply import NO_ANSWER, Reply

HOST = "127.0.0.1"


class Server(ABC):
    """Serves on the loopback interface, inside `async with`. `port`: 0 takes a free one; `port` tells which."""

    def __init__(self, port: int, latency_ms: int, chunk_interval_ms: int) -> None:
        self.port = port
        self.latency_ms = latency_ms
        self.chunk_interval_ms = chunk_interval_ms
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @abstractmethod
    async def _answer(self, request: HttpRequest) -> Reply:
        """The reply to a request. Raises HttpFault for one that gets an error."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, HOST, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
            for connection in self._connections:
                connection.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)
            await self._server.wait_closed()
            self._server = None

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task of our own: asyncio 3.11 prints a traceback for a connection's task that was cancelled.
        connection = asyncio.create_task(self._serve(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.set_write_buffer_limits(high=0)  # drain() then means sent, and abort() loses nothing
        try:
            while await self._converse(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client went away, which is its right
        finally:
            writer.transport.abort()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; False once the connection is to be closed."""
        try:
            request = await read_request(reader)
        except HttpFault as fault:
            await self._play(error_reply(fault), reader, writer)
            return False
        if request is None:
            return False
        try:
            reply = await self._answer(request)
        except HttpFault as fault:
            reply = error_reply(fault)
        if "x-request-id" in request.headers:
            reply = replace(reply, headers={"x-request-id": request.headers["x-request-id"], **reply.headers})
        return await self._play(reply, reader, writer)

    async def _play(self, reply: Reply, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        await asyncio.sleep((self.latency_ms if reply.latency_ms is None else reply.latency_ms) / 1000)
        cut_at = NO_ANSWER if reply.hang and reply.cut_at is None else reply.cut_at
        if cut_at != NO_ANSWER:
            await self._send(reply, writer)
        if cut_at is None:
            return True
        if reply.hang:
            await reader.read()  # until the client gives up
        return False

    async def _send(self, reply: Reply, writer: asyncio.StreamWriter) -> None:
        """The head, and of the body what is to arrive."""
        is_stream = not isinstance(reply.body, bytes)
        writer.write(head_of(reply.status, reply.headers, None if is_stream else len(reply.body)))
        for piece in _pieces(reply):
            if is_stream:
                await writer.drain()
                interval_ms = self.chunk_interval_ms if reply.interval_ms is None else reply.interval_ms
                await asyncio.sleep(interval_ms / 1000)
            writer.write(chunk_of(piece) if is_stream else piece)
        if is_stream and reply.cut_at is None:
            writer.write(chunk_of(b""))
        await writer.drain()


def _pieces(reply: Reply) -> Iterator[bytes]:
    left = len(reply.content) if reply.cut_at is None else reply.cut_at
    for event in reply.events:
        if event[:left]:
            yield event[:left]
        left = max(0, left - len(event))


def error_reply(fault: HttpFault) -> Reply:
    """An error as OpenAI's API tells it."""
    kind = "invalid_request_error" if fault.status < 500 else "server_error"
    error = {"message": fault.message, "type": kind, "param": None, "code": fault.code}
    return Reply.json({"error": error}, fault.status, billed=None, latency_ms=0)
