"""What an event loop has of a Redis store: one connection, and a queue in which operations keep their order."""

from __future__ import annotations

import asyncio

from guard_kit import until
from redis_proxy import Proxy
from redis_world import RedisWorld
from store_kit import amounts, release, reserve

ESTIMATE = amounts(100)


def test_operations_are_done_in_the_order_in_which_they_were_asked(redis_world: RedisWorld) -> None:
    """However many at once, and whoever is awaited first."""

    async def main() -> None:
        async with redis_world.opened() as store:
            of, now_ms = redis_world.plan("9M tokens/total"), redis_world.now_ms()
            reserves = [reserve(id, of, ESTIMATE, tried_since_ms=now_ms) for id in "ab"]
            granted, released = store.reserve(reserves), store.release([release("a")])
            assert [answer.word for answer in await released] == ["released"]
            assert [answer.word for answer in await granted] == ["granted", "granted"]

    asyncio.run(main())


def test_a_loop_that_leaves_while_its_first_operation_is_asked_connects_once(redis_world: RedisWorld) -> None:
    async def main() -> None:
        with Proxy(redis_world.server) as proxy:
            redis_world.url = proxy.url
            store = redis_world.store()
            of, now_ms = redis_world.plan("9M tokens/total"), redis_world.now_ms()
            asked = store.reserve([reserve("a", of, ESTIMATE, tried_since_ms=now_ms)])
            await store.leave()
            assert [answer.word for answer in await asked] == ["granted"]
            assert {request.connection for request in proxy.requests} == {1}
            await until(lambda: proxy.connections == 0, "the connection to be closed")

    asyncio.run(main())
