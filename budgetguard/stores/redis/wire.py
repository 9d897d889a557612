"""One connection to one server: a round trip writes all its commands together and reads a reply to each.

On asyncio's transports with hiredis's reader: redis-py's connections cost each round trip some 15 us more of CPU, and
end with some error replies. Nothing here waits with a deadline, save `close`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Any, cast

from hiredis import Reader, pack_command

from budgetguard.stores.redis.address import Endpoint, Tls
from budgetguard.stores.redis.errors import Remedy, ReplyError, Trouble, WireLost
from budgetguard.stores.redis.tls import tls_context

Command = Sequence[bytes | str | int]
Ended = Callable[[list[Any], Exception | None], None]
CLOSE_TIMEOUT_S = 0.5
_NOT_YET = object()


class Wire(asyncio.Protocol):
    """A connection that stands until it is dropped; after any error it must be."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._loop = asyncio.get_running_loop()
        self._reader = Reader(protocolError=WireLost, replyError=ReplyError, notEnoughData=_NOT_YET)
        self._came: list[Any] = []
        self._awaited = 0
        self._ended: Ended | None = None
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._why = ""
        self._transport: asyncio.Transport

    @classmethod
    async def connect(cls, endpoint: Endpoint, tls: Tls | None) -> Wire:
        """Connect, without logging in.

        Raises:
            WireLost: it could not be done.
            Trouble: its certificate is not accepted, or a file for TLS cannot be read.
        """
        loop = asyncio.get_running_loop()
        context = None if tls is None else tls_context(tls)
        if endpoint.path:
            connecting = loop.create_unix_connection(lambda: cls(endpoint), endpoint.path)
        else:
            connecting = loop.create_connection(lambda: cls(endpoint), endpoint.host, endpoint.port, ssl=context)
        # A transport keeps the context that it was made in: it must not be that of whoever asked first.
        task = loop.create_task(connecting, context=Context())
        try:
            _, wire = await task
        except asyncio.CancelledError:
            if task.done() and not task.cancelled() and task.exception() is None:  # nobody has taken it yet
                task.result()[0].abort()
            raise
        except ssl.SSLCertVerificationError as error:
            text = f"its certificate is not accepted: {error.verify_message}"
            raise Trouble(text, Remedy.OPERATOR) from error
        except (OSError, UnicodeError) as error:  # the latter of a host's name that cannot be one
            raise WireLost(f"no connection to {endpoint}: {error}") from error
        return wire

    @property
    def is_clean(self) -> bool:
        """Whether it stands, and nothing has come that nobody asked for."""
        return not (self._came or self._reader.has_data() or self._transport.is_closing())

    def begin(self, commands: Sequence[Command], ended: Ended) -> None:
        """Write the commands. `ended` gets a reply for each: bytes, numbers, None, lists of them, or a `ReplyError`.

        Where not all came: those that did, and why: `WireLost`, or `TimeoutError` after `give_up`.
        """
        packed = b"".join([pack_command(tuple(command)) for command in commands])  # type: ignore[arg-type]
        self._awaited = len(commands)
        self._ended = ended
        self._transport.write(packed)

    async def round_trip(self, commands: Sequence[Command]) -> tuple[list[Any], Exception | None]:
        """The same for whoever waits for it. Cancelled, it leaves replies that must not be taken for others'."""
        if self._transport.is_closing():
            return [], WireLost(self._why)
        # As a result: an exception that is set while the caller is being cancelled would be complained of as lost.
        heard: asyncio.Future[tuple[list[Any], Exception | None]] = self._loop.create_future()
        self.begin(commands, lambda *ended: None if heard.done() else heard.set_result(ended))
        return await heard

    def give_up(self) -> None:
        """End the round trip that is under way, if it still is."""
        self._end(TimeoutError())

    def drop(self) -> None:
        """Close at once; what was not sent is not sent."""
        self._transport.abort()

    async def close(self) -> None:
        """Close, and wait for it a little: TLS takes leave of the other side."""
        self._transport.close()
        try:
            await asyncio.wait([self._closed], timeout=CLOSE_TIMEOUT_S)
        finally:
            self.drop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio has connected."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """asyncio has read."""
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not _NOT_YET:
                self._came.append(reply)
        except WireLost as error:
            self._end(WireLost(f"{self.endpoint} does not speak as a Redis: {error}"))
            self.drop()
            return
        if len(self._came) >= self._awaited:
            self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio has closed it, whoever wanted that."""
        self._why = f"{self.endpoint} has closed the connection" if exc is None else f"{self.endpoint}: {exc}"
        self._end(WireLost(self._why))
        self._closed.set_result(None)

    def _end(self, error: Exception | None) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            replies, self._came = self._came[: self._awaited], self._came[self._awaited :]
            ended(replies, error)
