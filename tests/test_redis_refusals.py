"""Error replies of a Redis server (FAILURES 2.1): calls go through those that pass, and the others say what to do."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator

import pytest
from fault_kit import ERROR_LINES, PASS, Fault, Once, Request, answered
from guard_kit import ESTIMATE, USAGE
from redis_ask_kit import told_unusable
from redis_kit import RedisServer
from redis_proxy import Proxy
from redis_world import USAGE_TOKENS, RedisWorld, says

import budgetguard as bg
from budgetguard.events import StoreProblem

TOKENS = "default tokens/total"
PASSING = sorted(ERROR_LINES.keys() - {"CROSSSLOT"})
"""CROSSSLOT would be a bug of ours, which no waiting mends."""


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[Proxy]:
    with Proxy(redis_server) as made:
        yield made


@pytest.fixture
def world(redis_world: RedisWorld, proxy: Proxy) -> RedisWorld:
    """The test's namespace, through the proxy."""
    redis_world.url = proxy.url
    return redis_world


def is_greeting(request: Request) -> bool:
    """Whether it is asked of a fresh connection, before anything else."""
    return request.name == "INFO"


class EachOnce:
    """One fault at each of several occasions: the first greeting, the first reserve, the first settle."""

    def __init__(self, fault: Fault) -> None:
        self.occasions = [Once(fault, when=when) for when in (is_greeting, says("reserve"), says("settle"))]

    def __call__(self, request: Request) -> Fault:
        return next((fault for once in self.occasions if (fault := once(request)) is not PASS), PASS)


@pytest.mark.parametrize("code", PASSING)
def test_a_call_goes_through_an_error_that_passes_and_its_user_hears_of_none(
    world: RedisWorld, proxy: Proxy, code: str
) -> None:
    async def main() -> None:
        proxy.faults = faults = EachOnce(answered(ERROR_LINES[code]))
        async with world.guard("9k tokens/total") as guard, guard.reserve(estimate=ESTIMATE) as hold:
            hold.record(USAGE)
        assert [len(once.hits) for once in faults.occasions] == [1, 1, 1]
        assert await world.stands() == {TOKENS: (USAGE_TOKENS, 0)}
        assert [row.status for row in world.rows()] == ["settled"]
        assert world.heard.of(StoreProblem) == []

    asyncio.run(main())


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        ("NOPERM", "give its user what the ACL in budgetguard's README lists"),
        ("NOAUTH", "give user:password@ in the store's URL"),
        ("OOM", "raise maxmemory"),
        ("MOVED", "the store's URL must begin with redis[+]cluster://"),
    ],
)
def test_an_error_that_stays_is_told_with_what_to_do(world: RedisWorld, proxy: Proxy, code: str, advice: str) -> None:
    async def main(timeout_ms: int) -> None:
        store = world.impatient(timeout_ms)
        async with world.guard("9k tokens/total", store=store) as guard:
            store.hurries = True
            proxy.faults = lambda request: answered(ERROR_LINES[code]) if says("reserve")(request) else PASS
            try:
                await guard.reserve(estimate=ESTIMATE)
            finally:
                proxy.faults = lambda _: PASS

    assert re.search(advice, str(asyncio.run(told_unusable(main))))
    assert asyncio.run(world.stands()) == {}


def test_keys_in_several_slots_would_be_a_bug_that_is_told_at_once(world: RedisWorld, proxy: Proxy) -> None:
    async def main() -> None:
        async with world.guard("9k tokens/total", timeout_ms=30_000) as guard:
            proxy.faults = once = Once(answered(ERROR_LINES["CROSSSLOT"]), when=says("reserve"))
            with pytest.raises(bg.StoreUnusable, match="a bug of budgetguard: report it"):
                await guard.reserve(estimate=ESTIMATE)
            assert len(once.hits) == 1

    asyncio.run(main())


@pytest.mark.parametrize("code", ["LOADING", "READONLY", "CLUSTERDOWN"])
def test_what_heals_by_waiting_is_away_while_it_does_not(world: RedisWorld, proxy: Proxy, code: str) -> None:
    async def main() -> None:
        store = world.impatient(200)
        async with world.guard("9k tokens/total", store=store) as guard:
            proxy.faults = lambda request: answered(ERROR_LINES[code]) if says("reserve")(request) else PASS
            store.hurries = True
            with pytest.raises(bg.StoreAway, match=code):
                await guard.reserve(estimate=ESTIMATE)
            proxy.faults = lambda _: PASS
            store.hurries = False
            async with guard.reserve(estimate=ESTIMATE) as hold:
                hold.record(USAGE)
        assert await world.stands() == {TOKENS: (USAGE_TOKENS, 0)}

    asyncio.run(main())
