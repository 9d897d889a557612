"""Calls scripts in the incarnation of the namespace that the store knows, and sorts what is not an answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from budgetguard.errors import StateLost, StoreError, StoreUnusable
from budgetguard.store import Clock, LostWrites
from budgetguard.stores.redis.asked import Asked
from budgetguard.stores.redis.calls import SCHEMA, Call, Caller
from budgetguard.stores.redis.errors import ReplyError, lacking, unreadable
from budgetguard.stores.redis.keys import Keys
from budgetguard.stores.redis.plans import unpack
from budgetguard.stores.redis.server import Server

Make = Callable[[Caller], Sequence[Call]]
CLAIM = b"rebuild:"
"""How an incarnation begins that is the claim of whoever rebuilds the namespace: `lua/lib/claim.lua` says the same."""


class ScriptFailed(StoreUnusable):
    """A script ended with an error of its own."""


class Begun(NamedTuple):
    """Calls that were made, and what has become of them so far."""

    calls: Sequence[Call]
    asked: Asked

    @property
    def is_answered(self) -> bool:
        """Whether every script has answered: nothing is to be asked again."""
        return {bytes}.issuperset(map(type, self.asked.replies))


class Scripting:
    """What the scripts of one namespace are called with; shared by the store's event loops.

    Args:
        adopts: goes on with another incarnation whose loss was accepted. Not who rebuilds a namespace: another has then
            taken over from him.
    """

    def __init__(self, keys: Keys, clock: Clock | None, *, adopts: bool = True) -> None:
        self.keys = keys
        self.incarnation = b""
        self._clock = clock
        self._adopts = adopts
        self._heard_ms = 0
        self._lost: LostWrites | None = None

    def lost_writes(self) -> LostWrites | None:
        """What was found to be lost since this was asked last."""
        lost, self._lost = self._lost, None
        return lost

    def caller(self) -> Caller:
        """Who calls now."""
        clock_ms = None if self._clock is None else self._clock.now_ms()
        return Caller(self.keys, self.incarnation, clock_ms, self._heard_ms)

    def begin(self, server: Server, make: Make, deadline: float, ended: Callable[[], None]) -> Begun:
        """Make calls and try them once, as `Server.begin` does; then `answers_of` or `ask` goes on."""
        begun = self._begun(make)
        server.begin(begun.asked, deadline, ended)
        return begun

    async def ask(
        self, server: Server, make: Make, deadline: float | None = None, begun: Begun | None = None
    ) -> list[Any]:
        """Make calls and send them in one round trip; for each what its script has answered after "ok".

        In the place of an answer stands a StoreError if that script failed and others did not. `begun`: the calls
        were made, and tried once.

        Raises:
            StateLost: the namespace no longer has the incarnation that this object knew.
            StoreUnusable: other versions of the scripts or another kind of clock have been at work, or the scripts may
                not do their work.
            StoreError: those of `Server.ask`.
        """
        if deadline is None:  # one, however often it is asked
            deadline = server.deadline()
        while True:
            begun = begun or self._begun(make)
            await self._answered(server, begun, deadline)
            answers = self.answers_of(begun)
            if answers is not None:
                return answers
            begun = None

    def answers_of(self, begun: Begun) -> list[Any] | None:
        """What `ask` returns, of calls with their replies; None if a loss was accepted: they are to be made anew.

        Raises:
            StateLost, StoreUnusable: as for `ask`.
        """
        answers = [unpack(reply) if type(reply) is bytes else self._failure(reply) for reply in begun.asked.replies]
        for answer in answers:
            if type(answer) is list and answer[0] == b"lost":
                _, found, accepted = answer
                if not (accepted and self._adopts):
                    raise self.lost(found)
                self.incarnation = found
                return None
        return [
            answer if isinstance(answer, StoreError) else self._said(answer, call.notes_time)
            for call, answer in zip(begun.calls, answers, strict=True)
        ]

    async def one(self, server: Server, make: Callable[[Caller], Call], deadline: float | None = None) -> Any:
        """The same for one call; its failure is raised."""
        (answer,) = await self.ask(server, lambda caller: [make(caller)], deadline)
        if isinstance(answer, StoreError):
            raise answer
        return answer

    def _begun(self, make: Make) -> Begun:
        calls = make(self.caller())
        return Begun(calls, Asked([call.by_sha for call in calls]))

    async def _answered(self, server: Server, begun: Begun, deadline: float) -> None:
        replies = await server.go_on(begun.asked, deadline)
        texts = {place: begun.calls[place].by_text for place, reply in enumerate(replies) if _is(reply, "NOSCRIPT")}
        if texts:  # the text itself, not SCRIPT LOAD: between that and the next call it may be flushed again
            begun.asked.replace(texts)
            await server.go_on(begun.asked, deadline)

    def _failure(self, reply: Any) -> StoreError:
        if isinstance(reply, StoreError):
            return reply
        if _is(reply, "WRONGTYPE"):
            keys = self.keys.meta, self.keys.open, self.keys.index, self.keys.outputs, self.keys.outbox
            return ScriptFailed(unreadable(b" or ".join(keys).decode()))
        return ScriptFailed(f"a script failed: {reply}")

    def _said(self, answer: list[Any], notes_time: bool) -> list[Any]:
        word, *said = answer
        if word == b"ok":
            now_ms, lost_since_ms, *told = said
            if lost_since_ms >= 0:
                self._lost = LostWrites(lost_since_ms, self._heard_ms)
                self._heard_ms = lost_since_ms
            if notes_time:
                self._heard_ms = max(self._heard_ms, now_ms)
            return [now_ms, *told]
        if word == b"schema":
            raise StoreUnusable(
                f"the namespace {self.keys.prefix} has schema {said[0]}, the scripts have {said[1]} and this "
                f"budgetguard {SCHEMA}: use the version that wrote it, or another namespace"
            )
        if word == b"forbidden":
            raise StoreUnusable(f"the store cannot be used: {lacking(', '.join(name.decode() for name in said[0]))}")
        kind, other = ("a manual clock", "the server's") if said[0] else ("the server's clock", "a manual one")
        raise StoreUnusable(
            f"the namespace {self.keys.prefix} has {kind}, and was opened with {other}: use another one"
        )

    def lost(self, found: bytes) -> StateLost:
        """The error that says what to do."""
        if found.startswith(CLAIM):
            return StateLost(
                f"the namespace {self.keys.prefix} is being rebuilt by `budgetguard doctor --fix` "
                f"({found.removeprefix(CLAIM).decode()}): wait for it, or run that again if it has died"
            )
        return StateLost(
            f"the namespace {self.keys.prefix} is not the one that was opened: its state was lost. Restore it from a "
            "backup, rebuild its accounts with `budgetguard doctor --fix`, or run `budgetguard init --accept-loss` to "
            "start from nothing"
        )


def _is(reply: Any, code: str) -> bool:
    return isinstance(reply, ReplyError) and reply.code == code
