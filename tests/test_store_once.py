"""What a store does once: a cause is told by one of the fleet, a flush of refusals counts however often it is noted."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import pytest
from redis_kit import RedisServer, key_prefix
from store_kit import NOON_MS, amounts, ask_one, plan, reserve, rows, settle

from budgetguard.core.amounts import MAX_AMOUNT, Amounts
from budgetguard.errors import OutboxFull
from budgetguard.store import Cause, Clock, RefusalCount, RefusedBy, Store
from budgetguard.stores.redis import RedisStore
from budgetguard.stores.sqlite import SQLiteStore
from budgetguard.testing import FakeClock

Make = Callable[[Clock], Store]
BY = RefusedBy("each-agent", "usd", "day/Europe/Berlin", "spent")
COUNT = RefusalCount(NOON_MS, False, "budget", (BY,), {"team": "search", "tenant": "acme\x00"}, 3, Amounts(usd=7))


_finds = itertools.count()


def cause(text: str, ttl_ms: int, id: str | None = None) -> Cause:
    """What is asked about, unless an id is given for the first time."""
    return Cause(text, ttl_ms, f"find {next(_finds)}" if id is None else id)


@pytest.fixture(params=["sqlite", "redis"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """A worker's store; all of them are on one file or namespace."""
    if request.param == "sqlite":
        return lambda clock: SQLiteStore(str(tmp_path / "store.db"), clock=clock)
    server, namespace = request.getfixturevalue("redis_server"), request.getfixturevalue("namespace")
    return lambda clock: RedisStore(server.unix_url, namespace, 20_000, clock)


def test_one_of_a_fleet_is_the_first_to_tell_and_another_after_the_time_has_passed(make: Make) -> None:
    async def main() -> None:
        clock = FakeClock(NOON_MS)
        async with aclosing(make(clock)) as one, aclosing(make(clock)) as other:
            told = await asyncio.gather(*(store.first_to_tell([cause("drift", 1_000)]) for store in [one, other] * 5))
            assert sorted(told)[-2:] == [[False], [True]]
            assert await other.first_to_tell([cause("drift of search", 1_000), cause("drift", 9)]) == [True, False]
            clock.advance(999)
            assert await one.first_to_tell([cause("drift", 1_000)]) == [False], "and it lasts no longer for being asked"
            clock.advance(1)
            assert await other.first_to_tell([cause("drift", 1_000), cause("drift", 1_000)]) == [True, False]
            assert await one.first_to_tell([]) == []

    asyncio.run(main())


def test_whoever_asks_again_since_its_answer_was_lost_is_told_the_same_and_no_other_and_no_longer(make: Make) -> None:
    async def main() -> None:
        clock = FakeClock(NOON_MS)
        mine, other = cause("drift", 1_000, "mine"), cause("drift", 1_000, "mine too")
        async with aclosing(make(clock)) as one, aclosing(make(clock)) as another:
            assert await one.first_to_tell([mine]) == [True]
            clock.advance(999)
            assert await another.first_to_tell([other, mine, cause("another", 1_000, "mine")]) == [False, True, True]
            clock.advance(1)
            assert await another.first_to_tell([other, mine]) == [True, False]

    asyncio.run(main())


def test_a_clock_that_is_set_back_lets_nothing_be_told_again(make: Make) -> None:
    async def main() -> None:
        clock = FakeClock(NOON_MS)
        async with aclosing(make(clock)) as store:
            assert await store.first_to_tell([cause("a", 5_000)]) == [True]
            clock.set(NOON_MS - 90_000)
            assert await store.first_to_tell([cause("a", 5_000)]) == [False]
            clock.set(NOON_MS + 5_000)
            assert await store.first_to_tell([cause("a", 5_000)]) == [True]

    asyncio.run(main())


def test_noting_refusals_changes_no_account_and_no_hold(make: Make) -> None:
    async def main() -> None:
        async with aclosing(make(FakeClock(NOON_MS))) as store:
            of = plan("500 tokens/total")
            await ask_one(store, reserve("a", of, amounts(100)))  # type: ignore[arg-type]
            before = (await store.read_accounts()).rows, (await store.read_holds()).rows
            await store.note_refusals("f-1", [COUNT, COUNT._replace(shadow=True, cause="LabelRequired", limits=())])
            assert ((await store.read_accounts()).rows, (await store.read_holds()).rows) == before

    asyncio.run(main())


def test_sqlite_keeps_them_in_its_own_ledger_and_a_flush_that_comes_again_counts_once(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def main() -> None:
        async with aclosing(SQLiteStore(str(path), clock=FakeClock(NOON_MS))) as store:
            for flush_id in ("f-1", "f-2", "f-1"):
                await store.note_refusals(flush_id, [COUNT, COUNT._replace(asked=Amounts(tokens=MAX_AMOUNT + 1))])

    asyncio.run(main())
    found = rows(
        path, "SELECT flush_id, place, timestamp, mode, cause, limits, team, calls FROM refusals ORDER BY 1, 2"
    )
    limits = '[["each-agent","usd","day/Europe/Berlin","spent"]]'
    row = ("2026-11-22 12:00:00.000000", "enforce", "budget", limits, "search", 3)
    assert found == [(id, place, *row) for id in ("f-1", "f-2") for place in (0, 1)]
    assert rows(path, "SELECT DISTINCT labels, asked_cost_nanousd, asked_tokens FROM refusals ORDER BY 2") == [
        ('{"tenant":"acme\\u0000"}', 0, MAX_AMOUNT), ('{"tenant":"acme\\u0000"}', 7, 0)
    ]  # fmt: skip


def test_what_was_told_is_forgotten_by_a_sweep_once_its_time_has_passed(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def main() -> None:
        clock = FakeClock(NOON_MS)
        async with aclosing(SQLiteStore(str(path), clock=clock)) as store:
            await store.first_to_tell([cause("short", 10), cause("long", 1_000)])
            clock.advance(10)
            await store.due(10)

    asyncio.run(main())
    assert rows(path, "SELECT cause, until_ms FROM told") == [("long", NOON_MS + 1_000)]


def test_on_redis_what_is_told_has_a_ttl_and_labels_are_in_no_key(redis_server: RedisServer, namespace: str) -> None:
    async def main() -> None:
        async with aclosing(RedisStore(redis_server.unix_url, namespace, 20_000)) as store:
            assert await store.first_to_tell([cause("burn of search}", 5_000)]) == [True]

    asyncio.run(main())
    (key,) = redis_server.keys(key_prefix(namespace) + "t:*")
    assert "search" not in key and 60_000 < redis_server.ask("PTTL", key) <= 65_000


def test_a_full_outbox_keeps_no_refusals_and_says_so(redis_server: RedisServer, namespace: str) -> None:
    async def main() -> None:
        async with aclosing(RedisStore(redis_server.unix_url, namespace, 20_000, outbox_max=2)) as store:
            now_ms = await store.open()
            of = plan("500 tokens/total", now_ms=now_ms)
            await ask_one(store, settle("a", of, amounts(1), admitted_ms=now_ms, tried_since_ms=now_ms))  # type: ignore[arg-type]
            await store.note_refusals("f-1", [COUNT])
            with pytest.raises(OutboxFull, match="ledger drain"):
                await store.note_refusals("f-2", [COUNT])
            backlog = await store.backlog()
            assert backlog is not None and backlog.rows == 2

    asyncio.run(main())


def test_where_nobody_keeps_the_ledger_no_refusals_are_kept(redis_server: RedisServer, namespace: str) -> None:
    async def main() -> None:
        async with aclosing(RedisStore(redis_server.unix_url, namespace, 20_000, ledger="none")) as store:
            await store.open()
            await store.note_refusals("f-1", [COUNT])

    asyncio.run(main())
    assert redis_server.keys(key_prefix(namespace) + "outbox") == []
