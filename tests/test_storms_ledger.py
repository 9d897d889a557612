"""A storm on Redis whose rows are drained meanwhile into PostgreSQL, by drains that are killed and a server that stops.

At every look, and at the end from PostgreSQL alone: ledger = accounts, and what the provider billed stands there once.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres_kit import Books as Schema
from postgres_kit import PostgresServer
from redis_kit import MISSING, RedisServer, has_redis, key_prefix, tidy_namespace
from storm_books import Books, LedgerRow, keys_of
from storm_fleet import until
from storm_kit import SEED, Storm
from storm_stores import InRedis
from warm_python import WarmProcess

pytestmark = pytest.mark.skipif(not has_redis(), reason=MISSING)
NAMESPACE = "storm"
AT_ONCE = 3
"""Drains: each takes what the others have read and not yet dropped, so a batch is delivered as often."""
AWAY = 2
"""What a drain ends with whose ledger is away."""
STOPPED_IN, LEAST_ROUNDS, KILLED_BY, LONG_STORMS = 2, 4, 150, 10
DRAIN = "import sys; from budgetguard.cli.app import run; sys.exit(run(sys.argv[1:]))"
ROWS = """
SELECT reservation_id, status, prompt_tokens, completion_tokens, cost_nanousd, accounts::text, revision
FROM token_usage WHERE namespace = %s"""


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as made, tidy_namespace(made, NAMESPACE):
        yield made


class Drained(InRedis):
    """A namespace whose ledger is in PostgreSQL, as far as it is drained."""

    def __init__(self, server: RedisServer, folder: Path, schema: Schema) -> None:
        super().__init__(server, NAMESPACE, folder)
        self.schema = schema
        self.quiet = asyncio.Lock()
        """Held by who drains, and by who looks."""

    async def books(self) -> Books:
        """Accounts and outbox of one instant, in which nobody drains."""
        async with self.quiet:
            standing = await super().books()
            return standing._replace(ledger=latest(self.in_postgres(), standing.ledger))

    def in_postgres(self) -> tuple[LedgerRow, ...]:
        (exists,) = self.schema.ask("SELECT to_regclass('token_usage') IS NOT NULL")
        rows = self.schema.ask(ROWS, NAMESPACE) if exists == (True,) else []
        return tuple(LedgerRow(*row[:5], keys_of(row[5]), row[6]) for row in rows)


def latest(*ledgers: tuple[LedgerRow, ...]) -> tuple[LedgerRow, ...]:
    """Of each call the highest revision."""
    rows = sorted((row for ledger in ledgers for row in ledger), key=lambda row: row.revision)
    return tuple({row.id: row for row in rows}.values())


class Drains:
    """Rounds of drains at once, some of which are killed where the seed says; in one, PostgreSQL is stopped."""

    def __init__(self, storm: Storm, store: Drained, seed: int) -> None:
        self.codes: list[int] = []
        self.storm_is_over = False
        self._storm, self._store = storm, store
        self._dice = random.Random(f"drains {seed}")

    async def go_on(self) -> None:
        """Round after round, as long as the storm goes on, and so many at least."""
        for number in itertools.count(1):
            await self._lines(1)
            if self.storm_is_over and number > LEAST_ROUNDS:
                return
            async with self._store.quiet:
                await self._round(stopped=number == STOPPED_IN)

    async def _round(self, *, stopped: bool) -> None:
        server = self._store.schema.server
        if stopped:
            await asyncio.to_thread(server.stop)
        drains = [started(self._store) for _ in range(AT_ONCE)]
        killing = [asyncio.create_task(self._kill(drain)) for drain in drains[1:]]
        try:
            codes = [await drain.wait() for drain in drains]
        finally:
            for task in killing:
                task.cancel()
            for drain in drains:
                if drain.returncode is None:
                    drain.kill()
        self.codes += codes
        if stopped:
            assert codes[0] == AWAY
            await asyncio.to_thread(server.start)

    async def _kill(self, drain: WarmProcess) -> None:
        """Amid its work, wherever that is once the storm has gone on so far."""
        await self._lines(self._dice.randint(1, KILLED_BY))
        if drain.returncode is None:
            drain.kill()

    async def _lines(self, count: int) -> None:
        """Until the storm's processes have told so many lines more, or all that they had to tell."""
        ends = self._storm.lines + count

        async def told() -> bool:
            return self.storm_is_over or self._storm.lines >= ends

        await until(told, "the storm to go on", 300)


def started(store: Drained) -> WarmProcess:
    """`budgetguard ledger drain`."""
    args = ["ledger", "drain", "--to", store.schema.url, "--store", store.url, "--namespace", NAMESPACE]
    with (store.folder / "drains.log").open("ab") as log:
        return WarmProcess(DRAIN, args, store.folder, os.environ, log, log)


def storm_with_drains(folder: Path, server: RedisServer, postgres: PostgresServer, seed: int, count: int) -> None:
    """A storm of four workers and so many tasks of each."""

    async def scenario() -> None:
        store = Drained(server, folder, Schema(postgres, f"storm_{seed}"))
        storm = Storm(folder, store, seed, 4, count, kills=3, stops=1, latest=20)
        drains = Drains(storm, store, seed)
        draining = asyncio.create_task(drains.go_on())
        try:
            books = await storm.run()
            drains.storm_is_over = True
            await draining
        finally:
            draining.cancel()
            await asyncio.wait([draining])
        storm.check(books)
        left = int(server.ask("XLEN", f"{key_prefix(NAMESPACE)}outbox"))
        print(f"drains ended with {dict(Counter(drains.codes))}; {left} entries were left")
        assert drains.codes.count(-signal.SIGKILL) >= 3 and {0, AWAY} <= {*drains.codes}
        assert await started(store).wait() == 0
        assert server.ask("XLEN", f"{key_prefix(NAMESPACE)}outbox") == 0
        storm.check(books._replace(ledger=store.in_postgres()))

    asyncio.run(scenario())


def test_postgresql_equals_the_accounts_whatever_befalls_the_drains_and_the_database(
    tmp_path: Path, server: RedisServer, postgres_server: PostgresServer
) -> None:
    storm_with_drains(tmp_path, server, postgres_server, SEED, 120)


@pytest.mark.long
@pytest.mark.parametrize("number", range(LONG_STORMS))
def test_postgresql_equals_the_accounts_after_many_storms(
    tmp_path: Path, server: RedisServer, postgres_server: PostgresServer, number: int
) -> None:
    storm_with_drains(tmp_path, server, postgres_server, SEED + number, 300)
