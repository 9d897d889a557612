"""What a namespace remembers of itself: schema, kind of clock, the time; the bounds of outbox and index."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis_kit import key_prefix
from redis_world import RedisWorld
from store_kit import DAY_MS, NOON_MS, amounts, ask_one, plan, reserve, settle

import budgetguard as bg
from budgetguard.core.verbs import Expire, Release
from budgetguard.store import Backlog, LostWrites
from budgetguard.stores import open_outbox
from budgetguard.testing import FakeClock

ASKED = amounts(100, 50)


def meta(world: RedisWorld, **fields: Any) -> None:
    """Write into the namespace's state behind the store's back."""
    for name, value in fields.items():
        world.server.ask("HSET", key_prefix(world.namespace) + "meta", name, value)


def test_a_namespace_of_another_schema_is_refused_by_name(redis_world: RedisWorld) -> None:
    async def main() -> None:
        async with redis_world.opened() as store:
            meta(redis_world, schema=2)
            for ask in (store.open(), ask_one(store, reserve("r", redis_world.plan("9 requests/day"), ASKED))):
                with pytest.raises(bg.StoreUnusable, match="schema 2, the scripts have 1 and this budgetguard 1"):
                    await ask

    asyncio.run(main())


def test_a_namespace_with_a_manual_clock_and_one_with_the_servers_are_not_taken_for_each_other(
    redis_world: RedisWorld,
) -> None:
    async def main() -> None:
        async with redis_world.opened(clock=FakeClock(NOON_MS)):
            with pytest.raises(bg.StoreUnusable, match="has a manual clock, and was opened with the server's"):
                async with redis_world.opened():
                    pass

    asyncio.run(main())


def test_stored_time_never_runs_backwards_and_a_minute_behind_it_admits_nothing(redis_world: RedisWorld) -> None:
    async def main() -> None:
        async with redis_world.opened() as store:
            of, now_ms = redis_world.plan("9 requests/total"), redis_world.now_ms()
            meta(redis_world, last_ms=now_ms + 50_000)
            granted = await ask_one(store, reserve("early", of, ASKED, now_ms))
            assert (granted.word, granted.now_ms) == ("granted", now_ms + 50_000)
            meta(redis_world, last_ms=now_ms + 300_000)
            assert (await ask_one(store, reserve("late", of, ASKED, now_ms + 300_000))).word == "clock"
            settled = await ask_one(store, settle("early", of, ASKED, ASKED, tried_since_ms=now_ms))
            assert (settled.word, settled.now_ms) == ("settled", now_ms + 300_000)

    asyncio.run(main())


def test_a_namespace_that_knows_less_than_was_acknowledged_has_lost_writes_once(redis_world: RedisWorld) -> None:
    async def main() -> None:
        async with redis_world.opened() as store:
            of = redis_world.plan("9 requests/total")
            heard = (await ask_one(store, reserve("one", of, ASKED, redis_world.now_ms()))).now_ms
            assert await store.lost_writes() is None
            meta(redis_world, last_ms=heard - 7_000)
            await ask_one(store, reserve("two", of, ASKED, heard))
            assert await store.lost_writes() == LostWrites(heard - 7_000, heard)
            await ask_one(store, reserve("three", of, ASKED, heard))
            assert await store.lost_writes() is None

    asyncio.run(main())


def test_a_full_outbox_refuses_reserves_and_takes_every_settle_until_it_is_drained(redis_world: RedisWorld) -> None:
    async def main() -> None:
        async with redis_world.opened(outbox_max=2) as store:
            of, now_ms = redis_world.plan("99 requests/total"), redis_world.now_ms()
            for number in range(3):
                await ask_one(store, reserve(f"r{number}", of, ASKED, now_ms))
            for number in range(3):
                assert (await ask_one(store, settle(f"r{number}", of, ASKED, ASKED))).word == "settled"
            assert await store.backlog() == Backlog(3, 2)
            with pytest.raises(bg.OutboxFull, match="run `budgetguard ledger drain`"):
                await ask_one(store, reserve("more", of, ASKED, now_ms))
            outbox = open_outbox(redis_world.url, redis_world.namespace, 2_000)
            entries = await outbox.read(10)
            assert [entry.row.id for entry in entries] == ["r0", "r1", "r2"]  # type: ignore[union-attr]
            await outbox.drop([entry.entry_id for entry in entries])
            await outbox.aclose()
            assert (await ask_one(store, reserve("more", of, ASKED, now_ms))).word == "granted"

    asyncio.run(main())


def test_without_a_ledger_the_oldest_rows_go_and_nothing_is_refused(redis_world: RedisWorld) -> None:
    async def main() -> None:
        async with redis_world.opened(outbox_max=100, ledger="none") as store:
            of, now_ms = redis_world.plan("9M requests/total"), redis_world.now_ms()
            for first in range(0, 1_000, 100):
                ids = [f"r{number}" for number in range(first, first + 100)]
                await asyncio.gather(*(ask_one(store, reserve(id, of, ASKED, now_ms)) for id in ids))
                await asyncio.gather(*(ask_one(store, settle(id, of, ASKED, ASKED)) for id in ids))
            assert await store.backlog() is None
            # Redis trims a stream by whole nodes of 100 entries.
            assert redis_world.server.ask("XLEN", key_prefix(redis_world.namespace) + "outbox") <= 300

    asyncio.run(main())


def test_the_index_forgets_an_account_once_it_is_gone_and_the_rows_that_name_it_are_drained(
    redis_world: RedisWorld,
) -> None:
    index = key_prefix(redis_world.namespace) + "index"

    async def main() -> None:
        clock = FakeClock(NOON_MS)
        async with redis_world.opened(clock=clock) as store:
            of, lasting = plan("9 requests/hour"), plan("9 requests/total", name="lasting")
            for id, each in (("r", of), ("s", lasting)):
                await ask_one(store, reserve(id, each, ASKED))
                await ask_one(store, settle(id, each, ASKED, ASKED))
            clock.set(NOON_MS + 3 * DAY_MS)
            for _ in range(3):
                await store.due(10)
            assert redis_world.server.ask("HLEN", index) == 2  # a row that waits names it
            outbox = open_outbox(redis_world.url, redis_world.namespace, 2_000)
            entries = await outbox.read(10)
            counted = [claim.account.key for entry in entries for claim in entry.row.plan.claims]  # type: ignore[union-attr]
            assert counted == [of.claims[0].account.key, lasting.claims[0].account.key]
            await outbox.drop([entry.entry_id for entry in entries])
            await outbox.aclose()
            await store.due(10)
            assert [row.account for row in (await store.read_accounts()).rows] == [lasting.claims[0].account]
            assert redis_world.server.ask("HLEN", index) == 1

    asyncio.run(main())


def test_an_expired_id_that_is_unknown_leaves_the_sweeps_list(redis_world: RedisWorld) -> None:
    async def main() -> None:
        clock = FakeClock(NOON_MS)
        async with redis_world.opened(clock=clock) as store:
            await ask_one(store, reserve("r", plan("9 requests/total"), ASKED))
            redis_world.server.ask("DEL", key_prefix(redis_world.namespace) + "h:r")
            clock.set(NOON_MS + 120_000)
            assert await store.due(10) == ["r"]
            assert (await ask_one(store, Expire("r"))).word == "unknown"
            assert await store.due(10) == []

    asyncio.run(main())


def test_all_callers_at_once_get_the_same_share(redis_world: RedisWorld) -> None:
    """256 tasks on one connection, until so many calls are done: Jain's index of what each got is at least 0.99."""
    done = [0] * 256

    async def main() -> None:
        async with redis_world.opened(timeout_ms=20_000) as store:
            of = redis_world.plan("9M requests/total")

            async def caller(number: int) -> None:
                while sum(done) < 256 * 12:
                    id = f"{number}-{done[number]}"
                    await ask_one(store, reserve(id, of, ASKED, redis_world_ms))
                    await ask_one(store, Release(id, 900_000))
                    done[number] += 1

            redis_world_ms = redis_world.now_ms()
            await asyncio.gather(*(caller(number) for number in range(256)))

    asyncio.run(main())
    assert sum(done) ** 2 / (256 * sum(share * share for share in done)) >= 0.99
