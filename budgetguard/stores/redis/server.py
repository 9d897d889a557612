"""One event loop's connection to Redis: commands are asked in turn, and repeated until they are answered.

Everything asked here can be repeated (scripts know the ids of what they did), so a lost reply is asked again, and so
is what was refused for now. What has no answer at the deadline is told by kind: `StoreAway` where waiting can help or
the outcome is not known, `StoreUnusable` where somebody must mend the server and nothing was applied.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from budgetguard.stores.redis.address import Address
from budgetguard.stores.redis.asked import Asked
from budgetguard.stores.redis.errors import NO_ANSWER, Remedy, Trouble, WireLost, trouble_of
from budgetguard.stores.redis.greeting import greeted
from budgetguard.stores.redis.primary import primary_of
from budgetguard.stores.redis.turn import Turn
from budgetguard.stores.redis.wire import Command, Wire

SHORTEST_TRY_S = 0.02
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.005, 0.1


class Server:
    """The primary of one address, for one event loop.

    Args:
        address: where it is, or who knows.
        timeout_ms: how long commands are tried.
        slot_key: in a cluster, a key of the slot to which all commands belong.
        allow_eviction: do not refuse a server whose `maxmemory-policy` is other than noeviction.
    """

    def __init__(
        self, address: Address, timeout_ms: int, *, slot_key: bytes = b"", allow_eviction: bool = False
    ) -> None:
        self._address = address
        self._timeout_s = timeout_ms / 1000
        self._primary = primary_of(address, slot_key)
        self._allow_eviction = allow_eviction
        self._turn = Turn()
        self._wire: Wire | None = None
        self._closed = False
        self.answers = True
        """Whether what was asked last has had an end that the server told."""

    @property
    def is_ready(self) -> bool:
        """Whether `begin` can do it now: the connection stands and is nobody's."""
        return not (self._turn.taken or self._closed) and self._wire is not None and self._wire.is_clean

    def deadline(self) -> float:
        """Of what is asked now (the loop's time, seconds)."""
        return asyncio.get_running_loop().time() + self._timeout_s

    def begin(self, asked: Asked, deadline: float, ended: Callable[[], None]) -> None:
        """Try once, without a task: where that is all, one costs more than the rest. Only if `is_ready`.

        `ended` is called once it is known what has become of it. What has no answer then is asked again by `go_on`.
        """
        wire, loop = self._wire, asyncio.get_running_loop()
        if wire is None:
            raise RuntimeError("it is not ready")

        def heard(replies: list[Any], error: Exception | None) -> None:
            timer.cancel()
            try:
                asked.trouble = self._trouble(wire, asked, replies, error)
                self.answers = self.answers or asked.trouble is None
            except Exception:  # noqa: BLE001 - in a callback nobody would hear of it: `go_on` meets it again, and tells
                self._drop()
            self._turn.give()
            ended()

        wire.begin(asked.commands, heard)
        self._turn.take_at_once()
        asked.began_s = loop.time()
        timer = loop.call_at(_until(asked.began_s, deadline), wire.give_up)

    async def ask(self, commands: Sequence[Command], deadline: float | None = None) -> list[Any]:
        """A reply for each command, in order: bytes, int, None, lists of them, or an exception.

        `deadline` is in the loop's time (seconds); without one it is `timeout_ms` from now. An exception in the list
        is a `ReplyError` (NOSCRIPT, WRONGTYPE, a script's own: that was the command's answer); or, if other commands
        were answered, the error that is raised where none was.

        Raises:
            StoreAway: no answer before the deadline; what was asked may have been applied.
            StoreUnusable: nothing was applied, and the server must be mended first.
        """
        return await self.go_on(Asked(commands), deadline)

    async def go_on(self, asked: Asked, deadline: float | None = None) -> list[Any]:
        """The same for what was perhaps tried already."""
        loop = asyncio.get_running_loop()
        if deadline is None:
            deadline = self.deadline()
        pauses_s = _pauses_s()
        while asked.open:
            trouble = asked.trouble or await self._tried(asked, deadline)
            asked.trouble = None
            if trouble is not None:
                asked.hear(trouble)
                pause_s = next(pauses_s)
                # Where it is known that nothing was applied, a try that is cut short would leave that open.
                next_s = SHORTEST_TRY_S if trouble.remedy is Remedy.RETRY else 4 * (loop.time() - asked.began_s)
                if trouble.remedy is Remedy.STOP or loop.time() + pause_s + next_s >= deadline:
                    self.answers = trouble.remedy is not Remedy.RETRY and not asked.is_ambiguous
                    return asked.given_up(trouble, self._address)
                await asyncio.sleep(pause_s)
        self.answers = True
        return asked.replies

    async def aclose(self) -> None:
        """Close the connection, after the round trip that is under way. Nothing can be asked any more."""
        self._closed = True
        try:
            await self._turn.take()
        except BaseException:  # whoever closes waits no longer, and nobody else will close it
            self._drop()
            raise
        try:
            wire, self._wire = self._wire, None
            if wire is not None:
                await wire.close()
        finally:
            self._turn.give()

    async def _tried(self, asked: Asked, deadline: float) -> Trouble | None:
        """Wait for the turn and try once; what was in the way. A turn is given up between tries, so that who meets
        errors does not hold up the others."""
        loop = asyncio.get_running_loop()
        asked.began_s = loop.time()
        try:
            await self._turn.take(deadline)
        except TimeoutError:
            return Trouble("others' commands are waiting for it")
        try:
            now_s = loop.time()
            return await self._try(asked, _until(now_s, deadline)) if now_s < deadline else Trouble(NO_ANSWER)
        except TimeoutError:
            return Trouble(NO_ANSWER)
        except WireLost as error:
            return Trouble(str(error))
        except Trouble as trouble:
            return trouble
        finally:
            self._turn.give()

    async def _try(self, asked: Asked, until: float) -> Trouble | None:
        wire = self._wire
        if wire is None or not wire.is_clean or self._closed:
            wire = await self._connected(until)
        timer = asyncio.get_running_loop().call_at(until, wire.give_up)
        try:
            replies, error = await wire.round_trip(asked.commands_open())
        except BaseException:  # a reply that comes later must not be taken for another command's
            self._drop()
            raise
        finally:
            timer.cancel()
        return self._trouble(wire, asked, replies, error)

    def _trouble(self, wire: Wire, asked: Asked, replies: list[Any], error: Exception | None) -> Trouble | None:
        """Keep what was answered; what was in the way of the rest."""
        refusals = asked.take(replies)
        if error is not None:  # a reply that comes later must not be taken for another command's
            asked.is_ambiguous = True
            self._drop()
            return Trouble(NO_ANSWER if isinstance(error, TimeoutError) else str(error))
        for refusal in refusals:
            if refusal.is_about_the_place:
                self._drop()
                if refusal.code == "MOVED":
                    self._primary.moved(refusal.text, wire.endpoint)
        return trouble_of(refusals[0], self._address) if refusals else None

    async def _connected(self, until: float) -> Wire:
        if self._closed:
            raise Trouble("it was closed here", Remedy.STOP)
        self._drop()
        async with asyncio.timeout_at(until):
            endpoint = await self._primary.find(until)
            try:
                self._wire = await greeted(endpoint, self._address, self._allow_eviction)
            except BaseException:
                self._primary.lost(endpoint)
                raise
        return self._wire

    def _drop(self) -> None:
        if self._wire is not None:
            self._wire.drop()
            self._primary.lost(self._wire.endpoint)
            self._wire = None


def _pauses_s() -> Iterator[float]:
    longest_s = FIRST_PAUSE_S
    while True:
        yield random.uniform(0.5, 1) * longest_s
        longest_s = min(2 * longest_s, LONGEST_PAUSE_S)


def _until(now_s: float, deadline: float) -> float:
    """When a try ends: after half of the time, so that another try is left if a reply is lost."""
    left_s = deadline - now_s
    return now_s + (left_s / 2 if left_s > 2 * SHORTEST_TRY_S else left_s)
