"""What happens to a real Redis server under guarded calls: scripts flushed, memory full, killed and restarted."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from guard_kit import ESTIMATE, USAGE, until
from redis_kit import RedisServer
from redis_world import USAGE_TOKENS, RedisWorld
from store_kit import amounts, ask, ask_one, expire, grow, release, reserve, settle

import budgetguard as bg
from budgetguard.events import StoreProblem

TOKENS = "default tokens/total"
FLUSHES = 100


async def call(guard: bg.Guard) -> None:
    async with guard.reserve(estimate=ESTIMATE) as hold:
        hold.record(USAGE)


async def callers(guard: bg.Guard, at_once: int, calls: int, done: Counter[str]) -> None:
    """So many callers, each of which makes so many calls; `done` counts them."""

    async def caller() -> None:
        for _ in range(calls):
            await call(guard)
            done["calls"] += 1

    await asyncio.gather(*(caller() for _ in range(at_once)))


async def check_books(world: RedisWorld, calls: int) -> None:
    """Each call was counted once, has one row, and holds nothing."""
    assert await world.stands() == {TOKENS: (calls * USAGE_TOKENS, 0)}
    rows = world.rows()
    assert Counter(row.status for row in rows) == {"settled": calls}
    assert len({row.id for row in rows}) == calls


def unknown_scripts(server: RedisServer) -> int:
    """How often the server did not know the script that it was to run."""
    return int(server.info("errorstats").get("errorstat_NOSCRIPT", {"count": 0})["count"])


def test_scripts_may_be_flushed_at_any_time(redis_world: RedisWorld) -> None:
    async def main() -> None:
        done: Counter[str] = Counter()

        async def flush() -> None:
            for _ in range(FLUSHES):
                await asyncio.to_thread(redis_world.server.ask, "SCRIPT", "FLUSH")

        unknown = unknown_scripts(redis_world.server)
        async with redis_world.guard("9M tokens/total") as guard:
            flushing = asyncio.create_task(flush())
            while not flushing.done():
                await callers(guard, 20, 5, done)
        assert unknown_scripts(redis_world.server) > unknown + FLUSHES / 10
        await check_books(redis_world, done["calls"])
        assert redis_world.heard.of(StoreProblem) == []

    asyncio.run(main())


def test_a_server_killed_and_restarted_with_its_aof_loses_and_doubles_nothing(
    redis_world: RedisWorld,
) -> None:
    async def main() -> None:
        done: Counter[str] = Counter()
        with RedisServer(appendonly="yes", appendfsync="always") as server:
            world = RedisWorld(server, "killed")
            async with world.guard("9M tokens/total", timeout_ms=20_000) as guard:
                calling = asyncio.create_task(callers(guard, 20, 30, done))
                for calls in (100, 300):
                    await until(lambda calls=calls: done["calls"] >= calls, "calls")
                    server.kill()
                    await asyncio.to_thread(server.start)
                await calling
            await check_books(world, 600)
            assert world.heard.of(StoreProblem) == []

    asyncio.run(main())


async def fill(server: RedisServer) -> None:
    """From now on the server has no room."""
    await asyncio.to_thread(server.ask, "CONFIG", "SET", "maxmemory", 1)


def test_a_server_whose_memory_is_full_admits_nothing_and_resolves_everything() -> None:
    async def main() -> None:
        with RedisServer() as server:
            world, estimate = RedisWorld(server, "full"), amounts(100, 50)
            async with world.opened(1_000) as store:
                of, now_ms = world.plan("1000 tokens/total"), world.now_ms()
                asked = [reserve(id, of, estimate, tried_since_ms=now_ms) for id in "abcd"]
                asked[2] = asked[2]._replace(lease_ms=1)
                assert {answer.word for answer in await ask(store, *asked)} == {"granted"}
                await fill(server)
                settled = settle("a", of, amounts(100, 40), estimate, admitted_ms=now_ms, tried_since_ms=now_ms)
                assert (await ask_one(store, settled)).word == "settled"
                assert (await ask_one(store, release("b"))).word == "released"
                await until(lambda: world.now_ms() > now_ms + 1, "the lease to end")
                assert (await ask_one(store, expire("c"))).word == "expired"
                for admitting in (reserve("e", of, estimate, tried_since_ms=now_ms), grow("d", of, amounts(200))):
                    with pytest.raises(bg.StoreUnusable, match="memory is full: raise its maxmemory"):
                        await ask_one(store, admitting)
            assert await world.stands() == {"all tokens/total": (290, 150)}
            assert sorted(row.id for row in world.rows()) == ["a", "c"]

    asyncio.run(main())


def test_what_shares_a_batch_with_calls_refused_for_memory_is_done(redis_world: RedisWorld) -> None:
    async def main() -> None:
        with RedisServer() as server:
            world = RedisWorld(server, "full")
            async with world.guard("9k tokens/total", timeout_ms=1_000) as guard:
                holds = [await guard.reserve(estimate=ESTIMATE) for _ in range(3)]
                await fill(server)
                asking = [guard.reserve(estimate=ESTIMATE) for _ in range(3)]
                done = await asyncio.gather(*(hold.settle(USAGE) for hold in holds), *asking, return_exceptions=True)
            assert [type(each) for each in done] == [type(None)] * 3 + [bg.StoreUnusable] * 3
            await check_books(world, 3)

    asyncio.run(main())


def test_calls_go_on_once_there_is_room_again(redis_world: RedisWorld) -> None:
    async def main() -> None:
        with RedisServer() as server:
            world = RedisWorld(server, "full")
            async with world.guard("9k tokens/total", timeout_ms=20_000) as guard:
                await call(guard)
                await fill(server)
                calling = asyncio.create_task(call(guard))
                tried = server.info("commandstats")["cmdstat_evalsha"]["calls"]
                await until(lambda: server.info("commandstats")["cmdstat_evalsha"]["calls"] > tried, "a refusal")
                assert not calling.done()
                await asyncio.to_thread(server.ask, "CONFIG", "SET", "maxmemory", 0)
                await calling
            await check_books(world, 2)

    asyncio.run(main())


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_server_that_evicts_is_refused_unless_that_is_said(redis_world: RedisWorld, policy: str) -> None:
    async def main() -> None:
        with RedisServer(maxmemory_policy=policy) as server:
            world = RedisWorld(server, "evicting")
            with pytest.raises(bg.StoreUnusable, match=f"it may evict what was spent .maxmemory-policy {policy}"):
                await call(world.guard("9k tokens/total"))
            assert server.keys() == []
            async with world.guard("9k tokens/total", store=world.store(allow_eviction=True)) as guard:
                await call(guard)
            assert [row.status for row in world.rows()] == ["settled"]

    asyncio.run(main())
