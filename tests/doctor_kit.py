"""What the tests of the doctor share: a namespace of Redis whose rows are drained, and its books."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from guard_kit import PATIENT_MS
from redis_kit import RedisServer, key_prefix
from store_kit import NOON_MS, REPLAY_KEEP_MS, ask_one

from budgetguard.core.balances import spent_and_reserved
from budgetguard.core.machine import EXPIRED_KEEP_MS
from budgetguard.core.verbs import Settle
from budgetguard.ledger import open_ledger
from budgetguard.ledger.books import open_book
from budgetguard.ledger.drain import drain
from budgetguard.ledger.tally import LONGEST_WINDOW_MS, Accounts, Look
from budgetguard.stores.redis import RedisStore
from budgetguard.stores.redis.books import RedisBooks
from budgetguard.stores.redis.outbox import RedisOutbox
from budgetguard.stores.redis.rebuilding import Rebuild, Rebuilt, Source
from budgetguard.testing.clock import FakeClock
from budgetguard.testing.histories import Clients
from budgetguard.testing.oracle import Announce

Sums = dict[str, tuple[int, int]]


@dataclass
class History:
    """What clients ask, while time passes. None settles so late that Redis cannot know whether it has been charged:
    that is charged anew, or marked as uncounted (DESIGN 4).
    """

    store: Any
    clock: FakeClock
    clients: Clients = field(default_factory=lambda: Clients(NOON_MS))
    ended_ms: dict[str, int] = field(default_factory=dict)

    async def go_on(self, choices: Sequence[bytes]) -> None:
        for choice in choices:
            op, now_ms = self.clients.next(choice), self.clock.now_ms()
            if isinstance(op, Announce):
                await self.store.announce([op])
            elif not isinstance(op, Settle) or self._is_known(op, now_ms):
                answer = await ask_one(self.store, op)
                self.clients.heard(op, answer)
                if answer.word in ("settled", "late"):
                    self.ended_ms[op.id] = now_ms
            await self._pass(choice)

    def _is_known(self, op: Settle, now_ms: int) -> bool:
        return min(self.ended_ms.get(op.id, now_ms), op.tried_since_ms) + REPLAY_KEEP_MS > now_ms

    async def _pass(self, choice: bytes) -> None:
        if choice[-1] < 24:
            self.clock.advance((1, 999, 20_000, 61_000, 600_000, 3_600_000)[choice[-1] % 6])
            await self.store.due(100)


async def drained(url: str, namespace: str, ledger: str, most: int = 1_000) -> int:
    """Move all rows into the ledger; how many there were."""
    target = open_ledger(ledger)
    try:
        async with aclosing(RedisOutbox(url, namespace, PATIENT_MS)) as outbox:
            done = await drain(outbox, target, most)
            assert done.unreadable == {}
            return done.rows
    finally:
        target.close()


def source(ledger: str, namespace: str) -> Source:
    """The ledger, read anew by each question."""

    def told(since_ms: int) -> Any:
        book = open_book(ledger)
        try:
            yield from book.charges(namespace, since_ms)
        finally:
            book.close()

    def resolved(now_ms: int, ids: Any) -> Any:
        book = open_book(ledger)
        try:
            yield from book.resolved(namespace, now_ms - REPLAY_KEEP_MS, now_ms - EXPIRED_KEEP_MS, ids)
        finally:
            book.close()

    return Source(told, lambda now_ms: now_ms - LONGEST_WINDOW_MS, resolved)


async def looked(url: str, namespace: str, ledger: str, clock: FakeClock | None = None) -> Look:
    """The books, side by side."""
    async with aclosing(RedisBooks(url, namespace, PATIENT_MS, clock)) as books:
        of = source(ledger, namespace)
        return await books.look(of.told, of.since_ms)


async def rebuilt(url: str, namespace: str, ledger: str, clock: FakeClock | None = None) -> Rebuilt:
    async with aclosing(RedisBooks(url, namespace, PATIENT_MS, clock)) as books:
        rebuild = Rebuild(books, REPLAY_KEEP_MS)
        assert await rebuild.claim() == ""
        return await rebuild.run(source(ledger, namespace))


def sums(accounts: Accounts, look: Look) -> Sums:
    """Spent and reserved of the accounts whose windows are open, of those that have any."""
    found = {
        key: spent_and_reserved(account, balance, look.tally.now_ms)
        for key, (account, balance) in accounts.items()
        if look.tally.counts(account)
    }
    return {key: amounts for key, amounts in found.items() if any(amounts)}


def flush(server: RedisServer, namespace: str) -> None:
    """As FLUSHALL does to one namespace."""
    keys = server.keys(f"{key_prefix(namespace)}*")
    if keys:
        server.ask("DEL", *keys)


def store_of(url: str, namespace: str, clock: FakeClock | None = None) -> RedisStore:
    return RedisStore(url, namespace, PATIENT_MS, clock)


def made_ledger(url: str) -> None:
    """Make an empty one."""
    ledger = open_ledger(url)
    ledger.write([])
    ledger.close()
