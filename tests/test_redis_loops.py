"""What an event loop has of a Redis store: one connection, and a queue in which operations keep their order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from fault_kit import BLACK_HOLE, PASS, Fault, Gate, Once, Request, answered, is_script
from guard_kit import until
from redis_ask_kit import ends_in_time
from redis_proxy import Proxy
from redis_world import RedisWorld, says
from store_kit import amounts, release, reserve

from budgetguard.stores.redis import RedisStore

ESTIMATE = amounts(100)
TIMEOUT_MS = 1_000
"""Two of them, one after the other, differ from one by more than an end in time may be late."""


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


class Late:
    """Answers `before` to the scripts that come in most of an operation's time, then `after`."""

    def __init__(self, before: Fault, after: Callable[[Request], Fault]) -> None:
        self._loop = asyncio.get_running_loop()
        self._until = self._loop.time() + 0.7 * TIMEOUT_MS / 1000
        self._before, self._after = before, after

    def __call__(self, request: Request) -> Fault:
        if not is_script(request):
            return PASS
        return self._before if self._loop.time() < self._until else self._after(request)


@pytest.mark.parametrize("opens", [False, True], ids=["a script, and its text", "the opening, and an operation"])
def test_what_goes_in_steps_has_one_deadline(redis_world: RedisWorld, opens: bool) -> None:
    busy, unknown = answered("-BUSY x"), answered("-NOSCRIPT x")

    def asked_by_text(request: Request) -> Fault:
        return busy if request.name == "EVAL" else unknown

    def opened(request: Request) -> Fault:
        return BLACK_HOLE if says("reserve")(request) else PASS

    async def main() -> None:
        of, now_ms = redis_world.plan("9M tokens/total"), redis_world.now_ms()
        with Proxy(redis_world.server) as proxy:
            redis_world.url = proxy.url
            store = redis_world.store(TIMEOUT_MS)
            if not opens:
                await store.open()
            proxy.faults = Late(busy, opened if opens else asked_by_text)

            async def asked() -> Any:
                return await (store.reserve([reserve("a", of, ESTIMATE, now_ms)]) if opens else store.due(1))

            await ends_in_time(asked(), TIMEOUT_MS)
            await store.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("asks", ["an operation", "a sweep"])
def test_a_loop_whose_leaving_is_cancelled_keeps_no_connection(redis_world: RedisWorld, asks: str) -> None:
    async def main() -> None:
        gate = Gate()
        of, now_ms = redis_world.plan("9M tokens/total"), redis_world.now_ms()
        with Proxy(redis_world.server) as proxy:
            redis_world.url = proxy.url
            store: RedisStore = redis_world.store()
            await store.open()
            proxy.faults = Once(Fault(hold=gate))
            verb = store.due(1) if asks == "a sweep" else store.reserve([reserve("a", of, ESTIMATE, now_ms)])
            asked = asyncio.ensure_future(verb)
            await asyncio.to_thread(gate.reached.wait, 10)
            leaving = asyncio.create_task(store.leave())
            await asyncio.sleep(0)
            leaving.cancel()
            gate.open()
            await asyncio.wait([asked, leaving])
            asked.exception()
            assert leaving.cancelled()
            await until(lambda: proxy.connections == 0, "the connection to be closed")

    asyncio.run(main())
