"""Where a storm's budgets are held, and how its books are looked at: a SQLite file, or a namespace of a Redis."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Protocol

import apsw
from redis_kit import RedisServer, key_prefix
from storm_books import Books, books_of, holds_at, holds_of, ledger_of

from budgetguard.core.model import Balance
from budgetguard.ledger.drain import drain
from budgetguard.ledger.sqlite import SQLiteLedger
from budgetguard.store import HoldRow
from budgetguard.stores.redis.outbox import RedisOutbox
from budgetguard.stores.redis.plans import account_from
from budgetguard.stores.redis.reading import balance_from

COPY = """
for _, key in ipairs(redis.call('KEYS', ARGV[2] .. '*')) do
  redis.call('DEL', key)
end
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do
  redis.call('COPY', key, ARGV[2] .. string.sub(key, #ARGV[1] + 1))
end
"""


class StormStore(Protocol):
    """A store that processes share, at `url` and in `namespace`."""

    @property
    def url(self) -> str: ...

    @property
    def namespace(self) -> str: ...

    async def books(self) -> Books:
        """All of it at one instant."""

    async def holds(self) -> tuple[HoldRow, ...]:
        """The open holds."""

    async def lets_others_in(self) -> bool:
        """Whether a process that stands still would hold up nobody."""


class InFile:
    """The file `budgets.db` of a folder."""

    namespace = "default"

    def __init__(self, folder: Path) -> None:
        self._path = folder / "budgets.db"
        self.url = f"sqlite:///{self._path}"

    async def books(self) -> Books:
        return await books_of(self._path)

    async def holds(self) -> tuple[HoldRow, ...]:
        return await holds_of(self._path)

    async def lets_others_in(self) -> bool:
        return await asyncio.to_thread(self._try_lock)

    def _try_lock(self) -> bool:
        db = apsw.Connection(str(self._path))
        try:
            db.set_busy_timeout(500)
            db.execute("BEGIN IMMEDIATE; ROLLBACK")
        except apsw.BusyError:
            return False
        finally:
            db.close()
        return True


class InRedis:
    """A namespace of a Redis. The ledger is read from a copy of the namespace, whose outbox is drained.

    Args:
        url: where the storm's processes find it, if it is not the server's own.
    """

    def __init__(self, server: RedisServer, namespace: str, folder: Path, url: str = "") -> None:
        self.namespace = namespace
        self.url = url or server.url
        self._server = server
        self.folder = folder
        self._copies = 0

    async def books(self) -> Books:
        self._copies += 1
        copy = f"{self.namespace}-copy"
        await asyncio.to_thread(self._server.ask, "EVAL", COPY, 0, key_prefix(self.namespace), key_prefix(copy))
        accounts = await asyncio.to_thread(self._accounts, key_prefix(copy))
        path = self.folder / f"ledger-{self._copies}.db"
        async with aclosing(RedisOutbox(self._server.url, copy, 5_000)) as outbox:
            ledger = SQLiteLedger(str(path))
            drained = await drain(outbox, ledger)
            ledger.close()
        assert drained.unreadable == {}, drained.unreadable
        return Books(accounts, await holds_at(self._server.url, copy), ledger_of(path) if drained.rows else ())

    async def holds(self) -> tuple[HoldRow, ...]:
        return await holds_at(self._server.url, self.namespace)

    async def lets_others_in(self) -> bool:
        return True

    def _accounts(self, prefix: str) -> dict[str, tuple[int, int]]:
        index = self._server.ask("HGETALL", f"{prefix}index")
        keys = [f"{prefix}a:{digest.decode()}" for digest in index]
        assert sorted(keys) == self._server.keys(f"{prefix}a:*")
        values = self._server.ask("MGET", *keys) if keys else []
        return {
            account_from(words).key: _amounts(balance_from(value))
            for words, value in zip(index.values(), values, strict=True)
        }


def _amounts(balance: Balance) -> tuple[int, int]:
    """Spent and reserved. A storm is shorter than its rolling periods: all slots count."""
    return (
        balance.spent + sum(slot[1] for slot in balance.slots),
        balance.reserved + sum(slot[2] for slot in balance.slots),
    )
