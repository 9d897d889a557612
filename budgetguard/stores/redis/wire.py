"""One connection to one server: a round trip writes all its commands together and reads a reply to each.

Time is the caller's matter: nothing here waits with a deadline of its own, save the end of `close`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    DefaultParser,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.exceptions import RedisError

from budgetguard.stores.redis.address import Endpoint, Tls
from budgetguard.stores.redis.errors import Remedy, ReplyError, Trouble, WireLost
from budgetguard.stores.redis.tls import tls_context

Command = Sequence[bytes | str | int]
CLOSE_TIMEOUT_S = 0.5


class _Parser(DefaultParser):  # type: ignore[misc, valid-type]
    """redis-py's, save that every error reply is a value: its own makes some of them end the connection."""

    @classmethod
    def parse_error(cls, response: str) -> ReplyError:
        return ReplyError(response)


class Wire:
    """A connection that is open until it is dropped; after any error it must be."""

    def __init__(self, connection: AbstractConnection, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._connection = connection
        # redis-py has no public way to drop what was not yet sent, and forgets its transport once it is in trouble.
        self._transport = connection._writer.transport if connection._writer else None

    @classmethod
    async def connect(cls, endpoint: Endpoint, tls: Tls | None) -> Wire:
        """Connect, without logging in.

        Raises:
            WireLost: it could not be done.
            Trouble: its certificate is not accepted, or a file for TLS cannot be read.
        """
        # One deadline stands around the whole round trip; redis-py's retries would repeat what must not be repeated
        # unseen, and its own greetings need permissions that a restricted user may lack.
        settings: dict[str, Any] = {
            "protocol": 2, "parser_class": _Parser, "socket_timeout": None, "socket_connect_timeout": None,
            "retry": None, "health_check_interval": 0, "driver_info": None, "maint_notifications_config": None,
        }  # fmt: skip
        connection: AbstractConnection
        if endpoint.path:
            connection = UnixDomainSocketConnection(path=endpoint.path, **settings)
        elif tls is None:
            connection = Connection(host=endpoint.host, port=endpoint.port, **settings)
        else:
            connection = SSLConnection(host=endpoint.host, port=endpoint.port, **settings)
            connection.ssl_context = tls_context(tls)
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
        except (RedisError, OSError) as error:
            if isinstance(error.__context__, ssl.SSLCertVerificationError):
                text = f"its certificate is not accepted: {error.__context__.verify_message}"
                raise Trouble(text, Remedy.OPERATOR) from error
            raise WireLost(str(error)) from error
        return cls(connection, endpoint)

    async def is_clean(self) -> bool:
        """Whether nothing is there to be read: no reply that nobody waits for, no end of the connection."""
        return not await self._connection.can_read()

    async def round_trip(self, commands: Sequence[Command], replies: list[Any]) -> None:
        """Write the commands and append a reply for each: bytes, numbers, None, lists of them, or a `ReplyError`.

        Raises:
            WireLost: before all replies were read.
        """
        try:
            await self._connection.send_packed_command(packed(commands), check_health=False)
            for _ in commands:
                replies.append(await self._connection.read_response())
        except (RedisError, OSError) as error:
            raise WireLost(str(error)) from error

    def drop(self) -> None:
        """Close at once; what was not sent is not sent."""
        if self._transport is not None:
            self._transport.abort()
        self._connection._reader = self._connection._writer = None

    async def close(self) -> None:
        """Close, and wait for it a little."""
        try:
            with suppress(TimeoutError, OSError, ssl.SSLError):
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await self._connection.disconnect()
        finally:
            self.drop()


def packed(commands: Sequence[Command]) -> bytes:
    """Commands as the protocol has them (RESP arrays of bulk strings)."""
    parts = []
    for command in commands:
        parts.append(b"*%d\r\n" % len(command))
        for argument in command:
            data = argument if isinstance(argument, bytes) else str(argument).encode()
            parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)
