"""What a reviewer with fresh eyes found in the Redis store."""

from __future__ import annotations

import asyncio

import pytest
from guard_kit import until
from redis_ask_kit import stalls
from redis_kit import MISSING, RedisServer, has_redis, key_prefix
from redis_world import RedisWorld
from store_kit import amounts, ask_one, expire, plan, reserve, settle, stands

import budgetguard as bg
from budgetguard.core.amounts import Amounts

pytestmark = pytest.mark.skipif(not has_redis(), reason=MISSING)
ASKED = Amounts(usd=5)


@pytest.mark.parametrize("healed", [True, False])
def test_a_reserve_that_a_real_server_refuses_for_now_is_asked_again(redis_world: RedisWorld, healed: bool) -> None:
    async def main() -> None:
        async with redis_world.opened(timeout_ms=5_000 if healed else 200) as store:
            redis_world.server.ask("CONFIG", "SET", "min-replicas-to-write", 1)
            try:
                asking = asyncio.ensure_future(
                    ask_one(store, reserve("r", redis_world.plan("$1/total"), ASKED, redis_world.now_ms()))
                )
                if healed:
                    errors = redis_world.server.info
                    await until(lambda: errors("errorstats").get("errorstat_NOREPLICAS"), "Redis to refuse it")
                    redis_world.server.ask("CONFIG", "SET", "min-replicas-to-write", 0)
                    assert (await asking).word == "granted"
                else:
                    with pytest.raises(bg.StoreAway, match="NOREPLICAS"):
                        await asking
            finally:
                redis_world.server.ask("CONFIG", "SET", "min-replicas-to-write", 0)

    asyncio.run(main())


def test_a_settle_that_cannot_write_its_row_leaves_the_hold_to_the_sweep(redis_world: RedisWorld) -> None:
    outbox = f"{key_prefix(redis_world.namespace)}outbox"

    async def main() -> None:
        async with redis_world.opened() as store:
            of, now_ms = redis_world.plan("$1/total"), redis_world.now_ms()
            await ask_one(store, reserve("r", of, ASKED, now_ms, lease_ms=0))
            redis_world.server.ask("SET", outbox, "somebody else's")
            with pytest.raises(bg.StoreUnusable, match="outbox cannot be read"):
                await ask_one(store, settle("r", of, ASKED, ASKED, tried_since_ms=now_ms))
            redis_world.server.ask("DEL", outbox)
            assert await store.due(10) == ["r"]
            assert (await ask_one(store, expire("r"))).word == "expired"
            assert await stands(store) == {"all usd/total": (5, 0)}

    asyncio.run(main())


def test_a_spoiled_entry_of_the_index_does_not_end_the_sweeps(redis_world: RedisWorld) -> None:
    async def main() -> None:
        async with redis_world.opened() as store:
            await ask_one(store, reserve("r", redis_world.plan("$1/total"), ASKED, redis_world.now_ms(), lease_ms=0))
            redis_world.server.ask("HSET", f"{key_prefix(redis_world.namespace)}index", "x" * 16, "somebody else's")
            assert await store.due(10) == ["r"]

    asyncio.run(main())


def test_many_calls_that_wait_for_a_server_that_hangs_are_told_so_in_their_time_together() -> None:
    async def main() -> None:
        with RedisServer() as server:
            async with RedisWorld(server, "hangs").opened(timeout_ms=400) as store:
                loop = asyncio.get_running_loop()
                of, now_ms = plan("$1/total"), await store.open()
                server.pause()
                try:
                    began = loop.time()
                    asking = [ask_one(store, reserve(f"r{n}", of, ASKED, now_ms)) for n in range(1_000)]
                    with stalls() as stalled_s:
                        told = await asyncio.gather(*asking, return_exceptions=True)
                    took_s = loop.time() - began - stalled_s()
                finally:
                    server.resume()
                assert {type(answer) for answer in told} == {bg.StoreAway}
                assert took_s < 1.2, "eight batches, of which each would wait 0.4 s"
                assert (await ask_one(store, reserve("after", of, ASKED, now_ms))).word == "granted"

    asyncio.run(main())


@pytest.mark.parametrize("spoiled", [True, False])
def test_an_account_that_the_index_does_not_tell_spoils_the_answer_that_means_it_and_no_other(
    redis_world: RedisWorld, spoiled: bool
) -> None:
    index = f"{key_prefix(redis_world.namespace)}index"

    async def main() -> None:
        async with redis_world.opened() as store, redis_world.opened() as other:
            now_ms = redis_world.now_ms()
            of, elsewhere = plan("$1/total", alert_levels=(5,)), plan("$1/total", name="elsewhere")
            await ask_one(store, reserve("r", of, ASKED, now_ms, lease_ms=0))
            (digest,) = redis_world.server.ask("HKEYS", index)
            redis_world.server.ask(*(("HSET", index, digest, "x") if spoiled else ("HDEL", index, digest)))
            expired, granted = await asyncio.gather(
                ask_one(other, expire("r")),
                ask_one(other, reserve("s", elsewhere, ASKED, now_ms)),
                return_exceptions=True,
            )
            assert isinstance(expired, bg.StoreUnusable), expired
            assert granted.word == "granted"
            assert (await ask_one(other, expire("r"))).word == "replayed"

    asyncio.run(main())


def test_an_operation_that_cannot_be_sent_spoils_no_other_of_its_batch(redis_world: RedisWorld) -> None:
    async def main() -> None:
        async with redis_world.opened() as store:
            of, now_ms = redis_world.plan("9 requests/total"), redis_world.now_ms()
            asked = [reserve(id, of, amounts(1, 1), now_ms) for id in ("a", "\ud800", "b")]
            asked.append(reserve("c", of, amounts(2**70), now_ms))
            told = await asyncio.gather(*(ask_one(store, op) for op in asked), return_exceptions=True)
            assert [getattr(answer, "word", type(answer)) for answer in told] == [
                "granted", UnicodeEncodeError, "granted", OverflowError,
            ]  # fmt: skip

    asyncio.run(main())
