"""What planted bugs in Redis' scripts showed to be untested: what a sweep forgets, whose namespace and whose time it
is, how long keys stand, and the pages of an outbox.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis_kit import RedisServer, key_prefix
from redis_world import RedisWorld
from store_kit import (
    DAY_MS,
    HOUR_MS,
    LEASE_MS,
    MINUTE_MS,
    NOON_MS,
    REPLAY_KEEP_MS,
    amounts,
    ask,
    ask_one,
    expire,
    grow,
    plan,
    release,
    reserve,
    settle,
    stands,
)

import budgetguard as bg
from budgetguard.store import LostWrites
from budgetguard.stores.redis import RedisStore
from budgetguard.stores.redis.outbox import RedisOutbox
from budgetguard.testing.clock import FakeClock

ESTIMATE = amounts(100)


@asynccontextmanager
async def on_clock(server: RedisServer, namespace: str, clock: FakeClock) -> AsyncIterator[RedisStore]:
    """A store whose time is this clock's."""
    store = RedisStore(server.unix_url, namespace, clock=clock)
    try:
        yield store
    finally:
        await store.aclose()


def drain(server: RedisServer, namespace: str) -> None:
    """All ledger rows have been moved elsewhere."""
    server.ask("XTRIM", f"{key_prefix(namespace)}outbox", "MAXLEN", 0)


async def sweep(store: RedisStore, clock: FakeClock, times: int = 3) -> None:
    """Sweeps, a second after each other: what is dead is forgotten when it is found so again."""
    for _ in range(times):
        clock.set(clock.now_ms() + 1000)
        await store.due(10)


@pytest.mark.parametrize("tokens", [0, 1, 100, 250, 65_536, 123_457])
def test_a_sweep_forgets_no_account_that_counts_or_holds(
    redis_server: RedisServer, namespace: str, tokens: int
) -> None:
    async def main() -> None:
        clock = FakeClock(NOON_MS)
        of = plan("9M tokens/total", "9M output_tokens/rolling 1 day", "9 concurrent", "9k requests/day")
        async with on_clock(redis_server, namespace, clock) as store:
            await ask_one(store, reserve("settled", of, amounts(tokens, tokens)))
            await ask_one(store, settle("settled", of, amounts(tokens, tokens)))
            await ask_one(store, reserve("open", of, amounts(tokens, tokens), lease_ms=3 * DAY_MS))
            drain(redis_server, namespace)
            before = await stands(store)
            assert before["all requests/day@UTC"] == (1, 1)
            await sweep(store, clock)
            assert await stands(store) == before
            clock.set(NOON_MS + 5 * DAY_MS)  # a day after the end of the lease, which nobody has resolved
            await sweep(store, clock)
            assert (await stands(store))["all concurrent/concurrent"] == (0, 1)
            assert (await ask_one(store, release("open"))).word == "released"
            assert (await stands(store))["all tokens/total"] == (2 * tokens, 0)

    asyncio.run(main())


def test_a_namespace_that_was_flushed_is_not_begun_anew_until_that_is_accepted(redis_world: RedisWorld) -> None:
    async def main() -> None:
        server, meta = redis_world.server, f"{key_prefix(redis_world.namespace)}meta"
        async with redis_world.opened() as store, redis_world.opened() as other:
            of = redis_world.plan("9M tokens/total")
            server.ask("DEL", meta)
            asked = reserve("a", of, ESTIMATE, tried_since_ms=redis_world.now_ms())
            for asking in (store.open(), ask_one(store, asked), store.due(10), ask_one(store, release("a"))):
                with pytest.raises(bg.StateLost):
                    await asking
            assert server.keys(f"{key_prefix(redis_world.namespace)}*") == []
            async with redis_world.opened():  # one that never knew the old one begins a new one, and accepts nothing
                with pytest.raises(bg.StateLost):
                    await ask_one(store, asked)
            begun = server.ask("HGET", meta, "incarnation")
            await store.open(accept_loss=True)
            assert server.ask("HGET", meta, "incarnation") == begun
            assert (await ask_one(other, asked)).word == "granted"

    asyncio.run(main())


def test_keys_stand_as_long_as_they_can_be_asked_for(redis_world: RedisWorld) -> None:
    """DESIGN 5: no key lasts for good, and none goes while an answer depends on it."""

    async def main() -> None:
        server, prefix = redis_world.server, key_prefix(redis_world.namespace)

        def left_ms(key: str) -> int:
            return int(server.ask("PTTL", prefix + key))

        async with redis_world.opened() as store:
            now_ms, of = redis_world.now_ms(), redis_world.plan("9M tokens/total")
            asked = [reserve(id, of, ESTIMATE, now_ms, lease_ms=LEASE_MS) for id in ("held", "settled", "released")]
            asked.append(reserve("expired", of, ESTIMATE, now_ms, lease_ms=0))
            assert {answer.word for answer in await ask(store, *asked)} == {"granted"}
            await ask_one(store, settle("settled", of, ESTIMATE, admitted_ms=now_ms, tried_since_ms=now_ms))
            await ask(store, release("released"), release("tombstone"))
            assert (await ask_one(store, expire("expired"))).word == "expired"
            (account,) = server.keys(f"{prefix}a:*")
        kept = {"held": LEASE_MS + 30 * DAY_MS, "expired": 7 * DAY_MS}
        for id in ("held", "settled", "released", "tombstone", "expired"):
            kept_ms = kept.get(id, REPLAY_KEEP_MS)
            assert kept_ms - MINUTE_MS < left_ms(f"h:{id}") <= kept_ms, id
        assert left_ms("open") > kept["held"] - MINUTE_MS
        assert 400 * DAY_MS - MINUTE_MS < left_ms(account.removeprefix(prefix)) <= 400 * DAY_MS

    asyncio.run(main())


def test_the_time_is_the_servers(redis_world: RedisWorld) -> None:
    async def main() -> None:
        before_ms, of = redis_world.now_ms(), redis_world.plan("9M tokens/total")
        async with redis_world.opened() as store:
            opened_ms = await store.open()
            answer = await ask_one(store, reserve("a", of, ESTIMATE, tried_since_ms=before_ms))
        assert before_ms <= opened_ms <= answer.admitted_ms <= redis_world.now_ms()

    asyncio.run(main())


def test_a_loss_that_reads_find_is_told_once(redis_world: RedisWorld) -> None:
    async def main() -> None:
        async with redis_world.opened() as store:
            now_ms, of = redis_world.now_ms(), redis_world.plan("9M tokens/total")
            told_ms = (await ask_one(store, reserve("a", of, ESTIMATE, tried_since_ms=now_ms))).now_ms
            assert await store.lost_writes() is None
            redis_world.server.ask("HSET", f"{key_prefix(redis_world.namespace)}meta", "last_ms", told_ms - 500)
            await store.read_balances([])
            assert await store.lost_writes() == LostWrites(told_ms - 500, told_ms)
            await store.read_balances([])
            assert await store.lost_writes() is None

    asyncio.run(main())


def test_namespaces_of_any_text_are_apart(redis_server: RedisServer, namespace: str) -> None:
    """Written into keys as it is, the second one's `meta` would be a reservation of the first."""

    async def main() -> None:
        worlds = [RedisWorld(redis_server, name) for name in (namespace, f"{namespace}}}:h:")]
        for world in worlds:
            async with world.opened() as store:
                now_ms, of = world.now_ms(), world.plan("9M tokens/total")
                assert (await ask_one(store, reserve("}:meta", of, ESTIMATE, tried_since_ms=now_ms))).word == "granted"
        for world in worlds:
            assert await world.stands() == {"all tokens/total": (0, 100)}

    asyncio.run(main())


def test_pages_of_an_outbox_follow_each_other(redis_world: RedisWorld) -> None:
    async def main() -> None:
        async with redis_world.opened() as store:
            now_ms, of = redis_world.now_ms(), redis_world.plan("9M tokens/total")
            await ask(store, *(settle(id, of, ESTIMATE, tried_since_ms=now_ms) for id in "abc"))
        outbox, found, after = RedisOutbox(redis_world.url, redis_world.namespace, 2_000), [], ""
        for _ in range(3):
            (entry,) = await outbox.read(1, after)
            found, after = [*found, entry.row.id], entry.entry_id
        assert found == ["a", "b", "c"]
        assert await outbox.read(1, after) == []
        await outbox.aclose()

    asyncio.run(main())


def test_a_lease_stands_until_its_last_millisecond(redis_server: RedisServer, namespace: str) -> None:
    async def main() -> None:
        clock = FakeClock(NOON_MS)
        async with on_clock(redis_server, namespace, clock) as store:
            await ask_one(store, reserve("a", plan("9M tokens/total"), ESTIMATE))
            clock.set(NOON_MS + LEASE_MS - 1)
            assert await store.due(10) == []
            assert (await ask_one(store, expire("a"))).word == "not_due"
            clock.set(NOON_MS + LEASE_MS)
            assert await store.due(10) == ["a"]
            assert (await ask_one(store, expire("a"))).word == "expired"

    asyncio.run(main())


def test_a_window_admits_from_its_first_to_its_last_millisecond(redis_server: RedisServer, namespace: str) -> None:
    async def main() -> None:
        clock, of = FakeClock(NOON_MS - 1), plan("9M tokens/hour")
        async with on_clock(redis_server, namespace, clock) as store:
            for at_ms, word in (
                (NOON_MS - 1, "stale_window"), (NOON_MS, "granted"), (NOON_MS + HOUR_MS - 1, "granted"),
                (NOON_MS + HOUR_MS, "stale_window"),
            ):  # fmt: skip
                clock.set(at_ms)
                assert (await ask_one(store, reserve(f"at-{at_ms}", of, ESTIMATE, tried_since_ms=at_ms))).word == word

    asyncio.run(main())


def test_a_growth_makes_no_unit_smaller(redis_server: RedisServer, namespace: str) -> None:
    async def main() -> None:
        of = plan("9M input_tokens/total", "9M output_tokens/total")
        async with on_clock(redis_server, namespace, FakeClock(NOON_MS)) as store:
            await ask_one(store, reserve("a", of, amounts(100, 100)))
            for to, word, held in (
                (amounts(50, 50), "replayed", (100, 100)),
                (amounts(50, 150), "granted", (100, 150)),
            ):
                assert (await ask_one(store, grow("a", of, to))).word == word
                reserved = {name: reserved for name, (_, reserved) in (await stands(store)).items()}
                assert (reserved["all input_tokens/total"], reserved["all output_tokens/total"]) == held

    asyncio.run(main())
