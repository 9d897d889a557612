"""What planted bugs in the scripts showed to be untested: what a sweep forgets, whose namespace it is, how long keys
stand, what is not named to a script, and operations that cannot be done beside others that can.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from redis_ask_kit import connected
from redis_kit import RedisServer, key_prefix
from redis_world import RedisWorld
from store_kit import (
    DAY_MS,
    LEASE_MS,
    MINUTE_MS,
    NOON_MS,
    REPLAY_KEEP_MS,
    amounts,
    ask,
    ask_one,
    expire,
    extend,
    plan,
    release,
    reserve,
    settle,
    stands,
)

import budgetguard as bg
from budgetguard.core.model import Plan
from budgetguard.stores.redis import RedisStore, calls
from budgetguard.stores.redis.keys import Keys
from budgetguard.stores.redis.operations import operation
from budgetguard.stores.redis.scripting import Scripting
from budgetguard.testing.clock import ManualClock

ESTIMATE = amounts(100)


@asynccontextmanager
async def on_clock(server: RedisServer, namespace: str, clock: ManualClock) -> AsyncIterator[RedisStore]:
    """A store whose time is this clock's."""
    store = RedisStore(server.unix_url, namespace, clock=clock)
    try:
        yield store
    finally:
        await store.aclose()


def drain(server: RedisServer, namespace: str) -> None:
    """All ledger rows have been moved elsewhere."""
    server.ask("XTRIM", f"{key_prefix(namespace)}outbox", "MAXLEN", 0)


async def sweep(store: RedisStore, clock: ManualClock, times: int = 3) -> None:
    """Sweeps, a second after each other: what is dead is forgotten when it is found so again."""
    for _ in range(times):
        clock.set(clock.now_ms() + 1000)
        await store.due(10)


@pytest.mark.parametrize("tokens", [0, 1, 100, 250, 65_536, 123_457])
def test_a_sweep_forgets_no_account_that_counts_or_holds(
    redis_server: RedisServer, namespace: str, tokens: int
) -> None:
    async def main() -> None:
        clock = ManualClock(NOON_MS)
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
            clock.set(NOON_MS + 2 * DAY_MS)  # the day has ended, and still something is held on it
            await sweep(store, clock)
            assert (await ask_one(store, release("open"))).word == "released"
            assert (await stands(store))["all tokens/total"] == (2 * tokens, 0)

    asyncio.run(main())


def test_a_sweep_forgets_what_has_outlived_its_time_once_its_rows_are_drained(
    redis_server: RedisServer, namespace: str
) -> None:
    async def main() -> None:
        clock, index = ManualClock(NOON_MS), f"{key_prefix(namespace)}index"
        of = plan("9M tokens/day", "9M tokens/total")
        async with on_clock(redis_server, namespace, clock) as store:
            await ask_one(store, reserve("a", of, ESTIMATE))
            await ask_one(store, settle("a", of, ESTIMATE))
            clock.set(NOON_MS + 3 * DAY_MS)
            await sweep(store, clock)
            assert redis_server.ask("HLEN", index) == 2, "rows that wait in the outbox name their accounts by the index"
            drain(redis_server, namespace)
            await sweep(store, clock, times=1)
            assert redis_server.ask("HLEN", index) == 1
            assert len(redis_server.keys(f"{key_prefix(namespace)}a:*")) == 1
            assert await stands(store) == {"all tokens/total": (100, 0)}

    asyncio.run(main())


async def refused_alike(store: RedisStore, of: Plan, says: str) -> None:
    """Whatever is asked of this store, it cannot be done, and the error says why."""
    for asking in (store.open(), ask_one(store, reserve("a", of, ESTIMATE)), store.due(10), store.read_balances([])):
        with pytest.raises(bg.StoreUnusable, match=says):
            await asking


def test_a_namespace_of_another_schema_is_refused_and_left_alone(redis_world: RedisWorld) -> None:
    async def main() -> None:
        meta = f"{key_prefix(redis_world.namespace)}meta"
        async with redis_world.opened() as store:
            redis_world.server.ask("HSET", meta, "schema", 2)
            before = redis_world.server.ask("HGETALL", meta)
            await refused_alike(store, redis_world.plan("9M tokens/total"), "schema 2")
            other = redis_world.store()
            await refused_alike(other, redis_world.plan("9M tokens/total"), "schema 2")
            await other.aclose()
        assert redis_world.server.keys(f"{key_prefix(redis_world.namespace)}*") == [meta]
        assert redis_world.server.ask("HGETALL", meta) == before

    asyncio.run(main())


@pytest.mark.parametrize("manual_first", [True, False])
def test_a_namespace_has_one_kind_of_clock(redis_world: RedisWorld, manual_first: bool) -> None:
    async def main() -> None:
        clocks = [ManualClock(NOON_MS), None] if manual_first else [None, ManualClock(NOON_MS)]
        async with redis_world.opened(clock=clocks[0]):
            other = redis_world.store(clock=clocks[1])
            says = "has a manual clock" if manual_first else "has the server's clock"
            await refused_alike(other, redis_world.plan("9M tokens/total"), says)
            await other.aclose()

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


@pytest.mark.parametrize("limit", [float("nan"), float("inf"), -1, 0.5, 2**53])
def test_a_limit_that_is_no_amount_admits_nothing(redis_world: RedisWorld, limit: Any) -> None:
    async def main() -> None:
        of = redis_world.plan("9M tokens/total")
        broken = Plan((replace(of.claims[0], limit=limit),))
        async with redis_world.opened() as store:
            with pytest.raises(bg.StoreUnusable, match="invalid claim"):
                await ask_one(store, reserve("a", broken, ESTIMATE, tried_since_ms=redis_world.now_ms()))
        assert await redis_world.stands() == {}

    asyncio.run(main())


def test_an_operation_whose_keys_are_not_named_is_not_done_nor_one_after_it(redis_world: RedisWorld) -> None:
    """In a cluster such a key might lie elsewhere; and what comes after it may depend on it."""

    async def main() -> None:
        keys, now_ms = Keys(redis_world.namespace), redis_world.now_ms()
        async with redis_world.opened() as store, connected(redis_world.server.url) as server:
            await ask_one(store, reserve("a", redis_world.plan("9M tokens/total"), ESTIMATE, tried_since_ms=now_ms))
            scripting = Scripting(keys, None)
            _, scripting.incarnation = await scripting.one(
                server, lambda caller: calls.open_namespace(caller=caller, begin_with=b"", accept_loss=False)
            )

            async def answers(named: list[bytes]) -> Any:
                ops = [operation(op, lambda _: 1, True) for op in (release("a"), release("b"))]
                return await scripting.one(
                    server,
                    lambda caller: calls.batch(
                        caller=caller, touched=named, outbox_most=9, outbox_bounded=True, plans=[], operations=ops
                    ),
                )

            for named in ([keys.hold("b")], [keys.hold("a"), keys.hold("b")]):
                _, told = await answers(named)
                assert [word for word, *_ in told] == [b"undeclared", b"undeclared"]
                assert (await redis_world.stands())["all tokens/total"] == (0, 100)
            accounts = [key.encode() for key in redis_world.server.keys(f"{keys.prefix}a:*")]
            _, told = await answers([keys.hold("a"), keys.hold("b"), *accounts])
            assert [word for word, *_ in told] == [b"released", b"tombstone"]

    asyncio.run(main())


def test_what_shares_a_script_with_what_cannot_be_done_is_done(redis_world: RedisWorld) -> None:
    """An account that somebody else has written spoils its own operation; an outbox of another type the whole script,
    which is then asked for operation by operation.
    """

    async def main() -> None:
        server, prefix = redis_world.server, key_prefix(redis_world.namespace)
        async with redis_world.opened() as store:
            now_ms, of = redis_world.now_ms(), redis_world.plan("9M tokens/total")
            await ask(store, *(reserve(id, of, ESTIMATE, tried_since_ms=now_ms) for id in "abc"))
            (key,) = server.keys(f"{prefix}a:*")
            account = server.ask("GET", key)
            server.ask("SET", key, b"scribbled", "KEEPTTL")
            settled = settle("a", of, ESTIMATE, admitted_ms=now_ms, tried_since_ms=now_ms)
            asked = store.settle([settled]), store.release([release("x")])
            failed, done = await asyncio.gather(*asked, return_exceptions=True)
            assert "cannot be read: somebody else has written it" in str(failed)
            assert [answer.word for answer in done] == ["tombstone"]
            server.ask("SET", key, account, "KEEPTTL")
            server.ask("SET", f"{prefix}outbox", "scribbled", "PX", MINUTE_MS)
            asked = store.settle([settled]), store.extend([extend("b", 2 * LEASE_MS)])
            failed, done = await asyncio.gather(*asked, return_exceptions=True)
            assert "WRONGTYPE" in str(failed)
            assert [answer.word for answer in done] == ["extended"]
            server.ask("DEL", f"{prefix}outbox")
            assert (await ask_one(store, settled)).word == "settled"

    asyncio.run(main())
