"""What the tests of the doctor share: a namespace of Redis whose rows are drained, and its books."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cli_kit import DEADLINE_S, Ended, command, environment
from guard_kit import ESTIMATE, PATIENT_MS, PRICES, USAGE
from redis_kit import RedisServer, key_prefix
from store_kit import NOON_MS, REPLAY_KEEP_MS, ask_one
from warm_python import WarmProcess

import budgetguard as bg
from budgetguard.core.balances import spent_and_reserved
from budgetguard.core.machine import EXPIRED_KEEP_MS
from budgetguard.core.verbs import Settle
from budgetguard.errors import StateLost
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
LIMITS = ("50 requests/total", "900k tokens/rolling 1 hour", "$40/day", "30 requests/month", "20 concurrent")


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


class Here:
    """A namespace, its ledger, a folder with a policy for both, and a guard that knows its incarnation."""

    def __init__(self, server: RedisServer, namespace: str, folder: Path, ledger: str) -> None:
        self.server, self.namespace, self.folder, self.ledger = server, namespace, folder, ledger
        store = f'[store]\nurl = "{server.unix_url}"\nnamespace = "{namespace}"\ntimeout = "15s"'
        policy = f'{store}\n[ledger]\nurl = "{ledger}"\n'
        (folder / "budgetguard.toml").write_text(policy)
        settings = bg.StoreSettings(url=server.unix_url, namespace=namespace, timeout_ms=PATIENT_MS)
        self.guard = bg.Guard(*LIMITS, store=settings, prices=PRICES)

    async def call(self) -> None:
        async with self.guard.reserve(model="acme-1", estimate=ESTIMATE) as hold:
            hold.record(USAGE)

    async def drain(self) -> None:
        await drained(self.server.unix_url, self.namespace, self.ledger)

    async def stands(self) -> Sums:
        """What the accounts have, which must be what the ledger tells."""
        look = await looked(self.server.unix_url, self.namespace, self.ledger)
        assert look.tally.differences(look.after) == []
        return sums(look.after, look)

    def started(self, program: str, *args: str, **more: str) -> tuple[WarmProcess, Any, Any]:
        out, err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 - `ended` closes them
        return WarmProcess(program, args, self.folder, environment(self.folder, **more), out, err), out, err

    def doctor(self, *args: str) -> Ended:
        return command(self.folder, "doctor", "--format", "json", *args)

    def meta(self, *fields: str) -> list[bytes | None]:
        return list(self.server.ask("HMGET", f"{key_prefix(self.namespace)}meta", *fields))


def ended(process: WarmProcess, out: Any, err: Any) -> Ended:
    code = process.wait_for(DEADLINE_S)
    with out, err:
        out.seek(0)
        err.seek(0)
        return Ended(out.read().decode(), err.read().decode(), code)


@asynccontextmanager
async def after_calls(here: Here, calls: int) -> AsyncIterator[Sums]:
    """So many calls were made and drained, one was not and is lost, and then everything else is."""
    async with here.guard:
        await asyncio.gather(*(here.call() for _ in range(calls)))
        await here.drain()
        before = await here.stands()
        assert len(before) == len(LIMITS) - 1
        await here.call()
        flush(here.server, here.namespace)
        with pytest.raises(StateLost, match="doctor --fix"):
            await here.call()
        yield before
