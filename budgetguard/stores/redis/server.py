"""One event loop's connection to Redis: commands are asked in turn, and repeated until they are answered.

Everything asked here can be repeated (scripts know the ids of what they did), so a lost reply is asked again, and so
is what was refused for now. What has no answer at the deadline is told by kind: `StoreAway` where waiting can help or
the outcome is not known, `StoreUnusable` where somebody must mend the server and nothing was applied.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from typing import Any

from budgetguard.errors import StoreAway, StoreError, StoreUnusable
from budgetguard.stores.redis.address import Address
from budgetguard.stores.redis.errors import NO_ANSWER, Remedy, ReplyError, Trouble, WireLost, trouble_of
from budgetguard.stores.redis.greeting import greeted
from budgetguard.stores.redis.primary import primary_of
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
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._wire: Wire | None = None
        self._closed = False

    async def ask(self, commands: Sequence[Command], deadline: float | None = None) -> list[Any]:
        """A reply for each command, in order: bytes, int, None, lists of them, or an exception.

        `deadline` is in the loop's time (seconds); without one it is `timeout_ms` from now. An exception in the list
        is a `ReplyError` (NOSCRIPT, WRONGTYPE, a script's own: that was the command's answer); or, if other commands
        were answered, the error that is raised where none was.

        Raises:
            StoreAway: no answer before the deadline; what was asked may have been applied.
            StoreUnusable: nothing was applied, and the server must be mended first.
        """
        loop = asyncio.get_running_loop()
        if deadline is None:
            deadline = loop.time() + self._timeout_s
        asked = _Asked(commands)
        pauses_s = _pauses_s()
        while asked.open:
            began = loop.time()
            trouble = await self._tried(asked, deadline)
            if trouble is not None:
                asked.hear(trouble)
                pause_s = next(pauses_s)
                # Where it is known that nothing was applied, a try that is cut short would leave that open.
                next_s = SHORTEST_TRY_S if trouble.remedy is Remedy.RETRY else 4 * (loop.time() - began)
                if trouble.remedy is Remedy.STOP or loop.time() + pause_s + next_s >= deadline:
                    return asked.given_up(trouble, self._address)
                await asyncio.sleep(pause_s)
        return asked.replies

    async def aclose(self) -> None:
        """Close the connection, after the round trip that is under way. Nothing can be asked any more."""
        self._closed = True
        async with self._turn:
            wire, self._wire = self._wire, None
            if wire is not None:
                await wire.close()

    async def _tried(self, asked: _Asked, deadline: float) -> Trouble | None:
        """Wait for the turn and try once; what was in the way. A turn is given up between tries, so that who meets
        errors does not hold up the others."""
        loop = asyncio.get_running_loop()
        try:
            await self._have_turn(deadline)
        except TimeoutError:
            return Trouble("others' commands are waiting for it")
        try:
            left_s = deadline - loop.time()
            if left_s <= 0:
                return Trouble(NO_ANSWER)
            # Half of the time, so that another try is left if a reply is lost.
            return await self._try(asked, loop.time() + (left_s / 2 if left_s > 2 * SHORTEST_TRY_S else left_s))
        except TimeoutError:
            return Trouble(NO_ANSWER)
        except WireLost as error:
            return Trouble(str(error))
        except Trouble as trouble:
            return trouble
        finally:
            self._turn.release()

    async def _have_turn(self, deadline: float) -> None:
        if not (self._turn.locked() or self._waiting):  # it is had at once, and a timer would cost more than it
            await self._turn.acquire()
            return
        self._waiting += 1
        try:
            async with asyncio.timeout_at(deadline):
                await self._turn.acquire()
        finally:
            self._waiting -= 1

    async def _try(self, asked: _Asked, until: float) -> Trouble | None:
        wire = self._wire
        if wire is None or not wire.is_clean or self._closed:
            wire = await self._connected(until)
        replies: list[Any] = []
        timer = asyncio.get_running_loop().call_at(until, wire.give_up)
        try:
            await wire.round_trip(asked.commands_open(), replies)
        except BaseException:  # a reply that comes later must not be taken for another command's
            asked.is_ambiguous = True
            self._drop()
            raise
        finally:
            timer.cancel()
            refusals = asked.take(replies)
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


class _Asked:
    """The commands of one `ask`, their answers so far, and whether others may have been applied."""

    def __init__(self, commands: Sequence[Command]) -> None:
        self.commands = commands
        self.replies: list[Any] = [None] * len(commands)
        self.open = list(range(len(commands)))
        self.is_ambiguous = False
        self._heard = self._heard_before = ""

    def hear(self, trouble: Trouble) -> None:
        """Keep what is to be told: the last trouble, and the last that was another."""
        if str(trouble) != self._heard:
            self._heard, self._heard_before = str(trouble), self._heard

    def commands_open(self) -> list[Command]:
        """Those without an answer."""
        return [self.commands[place] for place in self.open]

    def take(self, replies: Sequence[Any]) -> list[ReplyError]:
        """Keep the answers among the replies to the open ones, as far as they came; returns the refusals."""
        unread = self.open[len(replies) :]
        refusals = []
        refused = []
        for place, reply in zip(self.open, replies, strict=False):
            if isinstance(reply, ReplyError) and reply.remedy is not Remedy.RETURN:
                refused.append(place)
                refusals.append(reply)
            else:
                self.replies[place] = reply
        self.open = refused + unread
        return refusals

    def given_up(self, trouble: Trouble, address: Address) -> list[Any]:
        """Raise what is to be told of those without an answer; or, if others have one, put it into the list."""
        said = self._heard + (f" (before that: {self._heard_before})" if self._heard_before else "")
        error: StoreError = StoreAway(f"the store {address} could not be reached in time: {said}")
        if trouble.remedy is not Remedy.RETRY and not self.is_ambiguous:
            error = StoreUnusable(f"the store {address} cannot be used: {said}")
        if len(self.open) == len(self.commands):
            raise error from trouble
        for place in self.open:
            self.replies[place] = error
        return self.replies


def _pauses_s() -> Iterator[float]:
    longest_s = FIRST_PAUSE_S
    while True:
        yield random.uniform(0.5, 1) * longest_s
        longest_s = min(2 * longest_s, LONGEST_PAUSE_S)
