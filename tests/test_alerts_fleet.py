"""Alerts of several guards on one store: each is told once, and nothing of it delays or fails a call."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from alert_kit import call
from guard_kit import BOTH, PATIENT_MS, Heard, LossyStore, World, only_on_sqlite, until
from postgres_kit import Books
from redis_kit import key_prefix
from redis_world import RedisWorld
from store_kit import DAY_MS, HOUR_MS, NOON_MS

import budgetguard as bg
from budgetguard.alerts.looking import Looks
from budgetguard.alerts.raised import AlertRaised
from budgetguard.events import StoreProblem

STORES = BOTH
LARGE = bg.Usage(9_000, 0)


def causes(*heards: Heard) -> list[str]:
    return sorted(alert.cause for heard in heards for alert in heard.of(AlertRaised))


def test_two_guards_tell_each_cause_once_an_hour(world: World) -> None:
    async def play() -> None:
        got: list[AlertRaised] = []
        options: dict[str, Any] = {"on_alert": [got.append]}
        for hour in range(2):
            world.clock.set(NOON_MS + hour * HOUR_MS)
            async with world.guard("1B tokens/day", **options) as one, world.guard("1B tokens/day", **options) as other:
                for guard in (one, other, one, other):
                    await call(guard, LARGE, agent="a")
                    await call(guard, bg.Usage(1, 1), model="unheard-of")
                await call(other, LARGE, agent="b")
        # The price is told once a day, the large requests of an agent once an hour.
        assert sorted(alert.cause for alert in got) == ["large_request"] * 4 + ["unknown_price"]
        assert causes(world.heard) == ["large_request"] * 4 + ["unknown_price"]

    asyncio.run(play())


def test_of_two_guards_one_looks_at_the_store_after_each_full_minute(world: World) -> None:
    """By itself, and soon: half of the day is over, and of the limit four fifths are spent."""
    world.clock.set(NOON_MS - DAY_MS // 2)

    async def play() -> None:
        heards = Heard(), Heard()
        first, second = (world.guard("$10/day", observers=[heard]) for heard in heards)
        async with first:
            await call(first, bg.Usage(1, 1, cost_usd="8"))
        assert causes(*heards) == []
        world.clock.set(NOON_MS - 20)
        first = world.guard("$10/day", observers=[heards[0]])
        async with first, second:
            for guard in (first, second):
                await guard.available()
            await until(lambda: causes(*heards), "an account that will be exhausted is told")
        assert causes(*heards) == ["burn_rate"]

    asyncio.run(play())


def test_on_redis_the_ledger_in_postgresql_tells_what_an_agent_costs(redis_world: RedisWorld, postgres: Books) -> None:
    settings = bg.StoreSettings(redis_world.url, redis_world.namespace, timeout_ms=PATIENT_MS)

    async def play() -> None:
        budget = bg.Budget("each-agent", ["$24/day", "1M tokens/hour"], per=["agent"])
        guard = bg.Guard(budgets=[budget], store=settings, ledger=bg.LedgerSettings(url=postgres.url))
        async with guard:
            store = await guard.store()
            looks = Looks(lambda: guard.policy, store, postgres.url)
            assert await looks.look_at_ledger(await store.open()) == []  # there is no ledger yet
            for agent, usd in (("crawler", "1.01"), ("writer", "0.99")):
                await call(guard, bg.Usage(10, 1, cost_usd=usd), agent=agent)
            outbox = f"{key_prefix(redis_world.namespace)}outbox"
            await until(lambda: redis_world.server.ask("XLEN", outbox) == 0, "it is drained")
            for later_ms in (0, 600_000):
                found = [one.alert for one in await looks.look_at_ledger(await store.open() + later_ms)]
                costs = [alert for alert in found if alert.cause == "hourly_cost"]
                assert [alert.subject for alert in costs] == [{"agent": "crawler"}]
                assert "drift" not in {alert.cause for alert in found}

    asyncio.run(play())


@only_on_sqlite
@pytest.mark.parametrize("is_back", [True, False], ids=["and is back", "until the end"])
def test_what_cannot_be_told_while_the_store_is_away_is_told_later_and_calls_go_on(world: World, is_back: bool) -> None:
    store = LossyStore(world.store())
    store.refused.add("first_to_tell")

    async def play() -> None:
        async with world.guard("1B tokens/day", store=store) as guard:
            await call(guard, LARGE, agent="a")
            await until(lambda: world.heard.of(StoreProblem), "that it cannot be told is told")
            assert causes(world.heard) == []
            await call(guard, LARGE, agent="a")
            if is_back:
                store.refused.clear()

    asyncio.run(play())
    assert causes(world.heard) == ["large_request"]


@only_on_sqlite
def test_alerts_that_are_switched_off_are_not_raised_and_a_reload_switches_them_on(world: World, tmp_path: Any) -> None:
    file = tmp_path / "budgetguard.toml"
    budget = '[[budget]]\nname = "all"\nlimits = ["1B tokens/day"]\n'
    file.write_text(f"[alerts]\nrequest_tokens = false\nunknown_price = false\n{budget}", encoding="utf-8")

    async def play() -> None:
        async with bg.Guard.from_toml(file, store=world.store(), observers=[world.heard]) as guard:
            await call(guard, LARGE, model="unheard-of")
            file.write_text(f"[alerts]\nrequest_tokens = 10_000\n{budget}", encoding="utf-8")
            guard.reload()
            await call(guard, LARGE, agent="a")
            await call(guard, bg.Usage(10_001, 0), agent="b")

    asyncio.run(play())
    assert [alert.subject["agent"] for alert in world.heard.of(AlertRaised)] == ["b"]


@only_on_sqlite
def test_a_guard_that_is_off_raises_nothing(world: World) -> None:
    async def play() -> None:
        got: list[AlertRaised] = []
        async with world.guard("1B tokens/day", mode="off", on_alert=[got.append]) as guard:
            await call(guard, LARGE, agent="a")
        assert got == []

    asyncio.run(play())
    assert world.heard.events == []
