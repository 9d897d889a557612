"""On Redis: a call that is refused, for whatever reason, leaves every key but `meta` as it was, byte for byte."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from guard_kit import ESTIMATE, USAGE, until
from redis_kit import RedisServer, key_prefix
from redis_world import RedisWorld
from store_kit import NOON_MS, ask_one, plan, reserve
from test_refusal_identity import NOW_MS, REFUSED, SMALL, filled, unanswered

import budgetguard as bg
from budgetguard.events import Exhausted
from budgetguard.stores.redis import RedisStore
from budgetguard.testing.clock import FakeClock


def dumps(server: RedisServer, namespace: str) -> dict[str, tuple[bytes, int]]:
    """Every key of the namespace but `meta`: what it holds, and when it ends."""
    keys = [key for key in server.keys(f"{key_prefix(namespace)}*") if not key.endswith("}:meta")]
    return {key: (server.ask("DUMP", key), server.ask("PEXPIRETIME", key)) for key in keys}


@pytest.mark.parametrize("why", REFUSED)
def test_a_refused_reserve_leaves_every_key_identical(redis_server: RedisServer, namespace: str, why: str) -> None:
    of, asked, reasons = REFUSED[why]

    async def scenario() -> None:
        clock = FakeClock(NOON_MS)
        store = RedisStore(redis_server.url, namespace, clock=clock)
        await filled(store, clock)
        before = dumps(redis_server, namespace)
        refused = await ask_one(store, reserve("new", of, asked, NOW_MS))
        assert (refused.word, {v.reason for v in refused.violations}) == ("refused", reasons)
        assert dumps(redis_server, namespace) == before
        # A refused id is unknown: it may be asked again, and is decided anew.
        again = await ask_one(store, reserve("new", plan("$9/week", name="other"), SMALL, NOW_MS))
        assert again.word == "granted" and dumps(redis_server, namespace) != before
        await store.aclose()

    asyncio.run(scenario())


@pytest.mark.parametrize("word", unanswered(0))
def test_an_operation_that_changes_nothing_leaves_every_key_identical(
    redis_server: RedisServer, namespace: str, word: str
) -> None:
    async def scenario() -> None:
        clock = FakeClock(NOON_MS)
        store = RedisStore(redis_server.url, namespace, clock=clock)
        await filled(store, clock)
        before = dumps(redis_server, namespace)
        for op in unanswered(NOW_MS)[word]:
            assert (await ask_one(store, op)).word == word, op
            assert dumps(redis_server, namespace) == before, op
        await store.aclose()

    asyncio.run(scenario())


def test_a_clock_that_is_behind_changes_nothing(redis_server: RedisServer, namespace: str) -> None:
    async def scenario() -> None:
        clock = FakeClock(NOON_MS)
        store = RedisStore(redis_server.url, namespace, clock=clock)
        await filled(store, clock)
        before = dumps(redis_server, namespace)
        clock.set(NOW_MS - 60_001)
        for number in range(3):
            op = reserve(f"new {number}", plan("$9/week", name="other"), SMALL, NOW_MS)
            assert (await ask_one(store, op)).word == "clock"
        assert dumps(redis_server, namespace) == before
        await store.aclose()

    asyncio.run(scenario())


def test_a_call_that_a_guard_refuses_leaves_every_key_identical(redis_world: RedisWorld) -> None:
    """A window's first refusal for what is spent is announced, by a step of its own; the next ones change nothing."""

    async def refused(guard: bg.Guard, **labels: Any) -> bg.BudgetExceeded:
        with pytest.raises(bg.BudgetExceeded) as caught:
            await guard.reserve(**{"agent": "b", "estimate": ESTIMATE, **labels})
        return caught.value

    async def main() -> None:
        budgets = [bg.Budget("agent", ["9 requests/hour"], per=["agent"])]
        guard = redis_world.guard("1k tokens/day", "1 concurrent", budgets=budgets)
        async with guard:
            async with guard.reserve(agent="a", estimate=ESTIMATE) as hold:
                before = dumps(redis_world.server, redis_world.namespace)
                held = await refused(guard)
                assert {violation.reason for violation in held.violations} == {"held"}
                assert dumps(redis_world.server, redis_world.namespace) == before
                hold.record(USAGE)
            reasons = await refused(guard)
            assert {violation.reason for violation in reasons.violations} == {"spent"}
            await until(lambda: redis_world.heard.of(Exhausted), "the announcement")
            before = dumps(redis_world.server, redis_world.namespace)
            for agent in ("a", "b", "never seen before"):
                await refused(guard, agent=agent)
            assert dumps(redis_world.server, redis_world.namespace) == before

    asyncio.run(main())
