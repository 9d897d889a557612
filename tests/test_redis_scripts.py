"""What goes into one script and what comes out of it: how much, which keys, and what cannot be done beside what can."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from redis_ask_kit import connected
from redis_kit import key_prefix
from redis_world import RedisWorld
from store_kit import (
    LEASE_MS,
    MINUTE_MS,
    amounts,
    ask,
    ask_one,
    claims,
    expire,
    extend,
    release,
    reserve,
    settle,
)

import budgetguard as bg
from budgetguard.core.model import Plan
from budgetguard.stores.redis import calls
from budgetguard.stores.redis.batches import MOST_OPS
from budgetguard.stores.redis.keys import Keys
from budgetguard.stores.redis.operations import operation
from budgetguard.stores.redis.scripting import Scripting

ESTIMATE = amounts(100)


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
    """An account that somebody else has written, or an outbox of another type, spoils the operations that need it; a
    stream that takes no more entries the whole script, which is then asked for operation by operation.
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
            assert "outbox cannot be read" in str(failed)
            assert [answer.word for answer in done] == ["extended"]
            server.ask("DEL", f"{prefix}outbox")
            server.ask("XADD", f"{prefix}outbox", f"{2**64 - 1}-{2**64 - 1}", "row", "scribbled")
            asked = store.settle([settled]), store.extend([extend("b", 3 * LEASE_MS)])
            failed, done = await asyncio.gather(*asked, return_exceptions=True)
            assert "a script failed" in str(failed)
            assert [answer.word for answer in done] == ["extended"]
            server.ask("DEL", f"{prefix}outbox")
            assert (await ask_one(store, settled)).word == "settled"

    asyncio.run(main())


def test_a_key_of_another_type_is_broken_and_not_missing(redis_world: RedisWorld) -> None:
    async def main() -> None:
        server, prefix = redis_world.server, key_prefix(redis_world.namespace)
        async with redis_world.opened() as store:
            now_ms, of = redis_world.now_ms(), redis_world.plan("9M tokens/total")
            await ask_one(store, reserve("a", of, ESTIMATE, tried_since_ms=now_ms))
            (account,) = server.keys(f"{prefix}a:*")
            for key in (account, f"{prefix}h:b"):
                server.ask("DEL", key)
                server.ask("RPUSH", key, "scribbled")
                server.ask("PEXPIRE", key, MINUTE_MS)
                with pytest.raises(bg.StoreUnusable, match="cannot be read: somebody else has written it"):
                    await ask_one(store, reserve("b", of, ESTIMATE, tried_since_ms=now_ms))
                assert server.ask("LRANGE", key, 0, -1) == [b"scribbled"]
                server.ask("DEL", key)

    asyncio.run(main())


def test_a_script_is_of_at_most_64_operations_and_512_accounts(redis_world: RedisWorld) -> None:
    """While a script runs, nobody else is served."""

    def scripts() -> int:
        return int(redis_world.server.info("commandstats")["cmdstat_evalsha"]["calls"])

    async def main() -> None:
        async with redis_world.opened() as store:
            now_ms, of = redis_world.now_ms(), redis_world.plan("9M tokens/total")
            await ask(store, *(reserve(f"first-{n}", of, ESTIMATE, tried_since_ms=now_ms) for n in range(65)))
            before = scripts()
            await ask(store, *(reserve(f"one-{n}", of, ESTIMATE, tried_since_ms=now_ms) for n in range(64)))
            assert scripts() == before + 1
            await ask(store, *(reserve(f"more-{n}", of, ESTIMATE, tried_since_ms=now_ms) for n in range(65)))
            assert scripts() == before + 3
            wide = [
                Plan(claims(f"wide-{n}", [f"9M tokens/rolling {minutes} minutes" for minutes in range(1, 33)], now_ms))
                for n in range(17)
            ]
            asked = [reserve(f"wide-{n}", of, ESTIMATE, tried_since_ms=now_ms) for n, of in enumerate(wide)]
            assert {answer.word for answer in await ask(store, *asked)} == {"granted"}
            assert scripts() == before + 5

    asyncio.run(main())


def test_two_scripts_that_a_server_has_forgotten_get_their_own_answers(redis_world: RedisWorld) -> None:
    async def main() -> None:
        async with redis_world.opened() as store:
            redis_world.server.ask("SCRIPT", "FLUSH")
            numbers = range(MOST_OPS)
            asked = store.release([release(f"r{n}") for n in numbers]), store.expire([expire(f"e{n}") for n in numbers])
            told = await asyncio.gather(*asked)
            assert [{answer.word for answer in answers} for answers in told] == [{"tombstone"}, {"unknown"}]

    asyncio.run(main())
