"""One event loop's connection to Redis: commands are asked in turn, and repeated until they are answered.

Everything asked here can be repeated (scripts know the ids of what they did), so a lost reply is asked again, and an
error reply that says "not now" too. What is left at the deadline is told by kind: `StoreAway` where waiting can help
or the outcome is not known, `StoreUnusable` where an operator must act and nothing was applied.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

from budgetguard.errors import StoreAway, StoreError, StoreUnusable
from budgetguard.stores.redis.address import Address
from budgetguard.stores.redis.errors import ReplyError
from budgetguard.stores.redis.wire import Command, Wire, WireLost

SHORTEST_TRY_S = 0.02
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.005, 0.1


class Server:
    """The primary of one address, for one event loop."""

    def __init__(
        self, address: Address, timeout_ms: int, *, slot_key: bytes = b"", allow_eviction: bool = False
    ) -> None:
        self._address = address
        self._timeout_s = timeout_ms / 1000
        self._turn = asyncio.Lock()
        self._wire: Wire | None = None

    async def ask(self, commands: Sequence[Command], deadline: float | None = None) -> list[Any]:
        """A reply for each command, in order: bytes, int, None, lists of them, or an exception.

        `deadline` is in the loop's time (seconds); without one it is `timeout_ms` from now. An exception in the list
        is a `ReplyError` (NOSCRIPT, WRONGTYPE, a script's own error: that command had its answer), or, if others were
        answered, the error that would have been raised for it alone.

        Raises:
            StoreAway: no command was answered in time, or it is not known whether one was applied.
            StoreUnusable: no command was applied, and waiting does not help.
        """
        loop = asyncio.get_running_loop()
        if deadline is None:
            deadline = loop.time() + self._timeout_s
        asked = _Asked(commands)
        pause_s = FIRST_PAUSE_S
        while asked.open:
            left = deadline - loop.time()
            try:
                async with asyncio.timeout(left / 2 if left > SHORTEST_TRY_S else left), self._turn:
                    await self._try(asked)
            except TimeoutError:
                asked.trouble = "no answer in time"
            except WireLost as error:
                asked.trouble = str(error)
            if asked.open:
                delay = random.uniform(0.5, 1) * pause_s
                if loop.time() + delay >= deadline:
                    return asked.ended(self._address)
                await asyncio.sleep(delay)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        return asked.replies

    async def _try(self, asked: _Asked) -> None:
        try:
            wire = await self._connected()
            replies: list[Any] = []
            asked.sent = True
            try:
                await wire.round_trip([asked.commands[place] for place in asked.open], replies)
                asked.sent = False
            finally:
                asked.take(replies)
        except BaseException:
            self._drop()
            raise

    async def _connected(self) -> Wire:
        if self._wire is not None and not await self._wire.is_clean():
            self._drop()
        if self._wire is None:
            self._wire = await Wire.connect(self._address.endpoints[0], self._address.tls)
            login: list[Any] = []
            if user := self._address.login:
                await self._wire.round_trip([("AUTH", user.username or "default", user.password)], login)
        return self._wire

    def _drop(self) -> None:
        if self._wire is not None:
            self._wire.drop()
            self._wire = None

    async def aclose(self) -> None:
        """Close the connection."""
        async with self._turn:
            wire, self._wire = self._wire, None
            if wire is not None:
                await wire.close()


class _Asked:
    """The commands of one `ask`, their replies so far, and what is known of the others."""

    def __init__(self, commands: Sequence[Command]) -> None:
        self.commands = commands
        self.replies: list[Any] = [None] * len(commands)
        self.open = list(range(len(commands)))
        self.sent = False
        self.trouble = "no answer in time"
        self.refused: ReplyError | None = None

    def take(self, replies: list[Any]) -> None:
        still = self.open[len(replies) :]
        for place, reply in zip(self.open, replies, strict=False):
            if isinstance(reply, ReplyError) and reply.remedy != "return":
                self.refused, self.trouble = reply, reply.text
                still.append(place)
            else:
                self.replies[place] = reply
        self.open = sorted(still)

    def ended(self, address: Address) -> list[Any]:
        error: StoreError = StoreAway(f"{address} could not be reached in time: {self.trouble}")
        if self.refused is not None and self.refused.remedy != "retry" and not self.sent:
            error = StoreUnusable(f"{address}: {self.trouble}")
        if len(self.open) == len(self.commands):
            raise error
        for place in self.open:
            self.replies[place] = error
        return self.replies
