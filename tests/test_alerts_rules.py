"""When alerts are raised: each rule by figures reckoned by hand, on real stores and ledgers."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apsw
import pytest
from alert_kit import call
from guard_kit import World, until
from store_kit import HOUR_MS, MINUTE_MS, NOON_MS, instant_ms

import budgetguard as bg
from budgetguard.alerts.alerting import Alerting
from budgetguard.alerts.looking import Looks
from budgetguard.alerts.raised import AlertRaised, AlertsFailed
from budgetguard.alerts.shares import Shares
from budgetguard.alerts.watching import Watcher
from budgetguard.events import Expired
from budgetguard.ledger.sqlite import SQLiteLedger
from budgetguard.policy import Policy
from budgetguard.testing import FakeClock

SEARCH = bg.Budget("search", ["$24/day"], where={"team": "search"})
EACH = bg.Budget("each-agent", ["$24/day"], per=["agent"])


def dollars(usd: str, tokens: int = 1) -> bg.Usage:
    """What such a call used."""
    return bg.Usage(tokens, 0, cost_usd=usd)


class Play:
    """A guard whose calls are spent at given times, and looks at its store and ledger."""

    def __init__(self, world: World, *budgets: bg.Budget, **settings: Any) -> None:
        self.clock = world.clock
        self.guard = world.guard(budgets=budgets, alerts=bg.AlertSettings(**settings))
        url = f"sqlite:///{world.path}" if type(world) is World else None
        self._store = world.store()
        self.policy = self.guard.policy
        self._looks = Looks(lambda: self.policy, self._store, url)

    async def __aenter__(self) -> Play:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.guard.aclose()
        await self._store.aclose()

    async def spend(self, at_ms: int, usage: bg.Usage, **labels: str) -> None:
        """A call at that time."""
        self.clock.set(at_ms)
        await call(self.guard, usage, **labels)

    async def look(self, at_ms: int) -> list[AlertRaised]:
        """What is raised at that time."""
        self.clock.set(at_ms)
        found = await self._looks.look_at_store(at_ms) + await self._looks.look_at_ledger(at_ms)
        return [one.alert for one in found]


def at(text: str) -> int:
    return instant_ms(f"2026-11-22T{text}:00+00:00")


def texts(alerts: Sequence[AlertRaised]) -> list[str]:
    return [alert.text for alert in alerts]


def test_an_account_that_will_be_exhausted_before_its_window_ends_is_told_with_the_time(world: World) -> None:
    async def play() -> None:
        async with Play(world, SEARCH, hourly_cost=False) as here:
            await here.spend(at("00:01"), dollars("6"), team="search")
            assert await here.look(at("00:05")) == []  # a tenth of the day is not over
            (alert,) = await here.look(at("03:36"))  # $6 in 3 h 36 min: the other $18 last 10 h 48 min
            assert alert.text == (
                "search: $24/day will be exhausted at 14:24 UTC (in 10 h 48 min) if it goes on as since day began; "
                "it resets at 2026-11-23 00:00 UTC (in 20 h 24 min), and $6.00 is spent"
            )
            assert (alert.cause, alert.budget, alert.subject) == ("burn_rate", "search", {"team": "search"})
            assert alert.figures["exhausted_at_ms"] == at("14:24")
            assert [a.figures["exhausted_at_ms"] for a in await here.look(at("05:41"))] == [at("22:44")]
            assert await here.look(at("05:42")) == []  # 22:48 is in the last twentieth of the day
            await here.spend(at("20:00"), dollars("18"), team="search")
            assert await here.look(at("20:05")) == []  # it is exhausted

    asyncio.run(play())


def test_a_sudden_burst_is_told_by_the_speed_of_the_last_minutes(world: World) -> None:
    async def play() -> None:
        async with Play(world, SEARCH, hourly_cost=False) as here:
            await here.spend(at("11:00"), dollars("6"), team="search")
            assert await here.look(at("12:00")) == []  # the other $18 last 36 hours
            assert await here.look(at("12:10")) == []
            await here.spend(at("12:15"), dollars("4.5"), team="search")
            (alert,) = await here.look(at("12:20"))  # $4.50 in 10 minutes: the other $13.50 last 30
            assert alert.figures["exhausted_at_ms"] == at("12:50")
            assert "at 12:50 UTC (in 30 min 0 s) if it goes on as in the last 10 minutes" in alert.text
            assert await here.look(at("12:30")) == []
            await here.spend(at("12:35"), dollars("0.5"), team="search")
            assert await here.look(at("12:40")) == []  # $0.50 in 10 minutes: the other $13 last more than three hours

    asyncio.run(play())


@pytest.mark.parametrize(
    ("settings", "spent"), [({}, "4.79"), ({"burn_rate": 0.5}, "11.99"), ({"burn_rate": False}, "23")]
)
def test_an_account_of_which_little_is_spent_raises_nothing(world: World, settings: Any, spent: str) -> None:
    async def play() -> None:
        async with Play(world, SEARCH, hourly_cost=False, **settings) as here:
            await here.spend(at("00:01"), dollars(spent), team="search")
            assert await here.look(at("02:24")) == []

    asyncio.run(play())


def test_an_agent_that_costs_more_in_an_hour_than_a_24th_of_its_day_is_told(world: World) -> None:
    async def play() -> None:
        async with Play(world, EACH, SEARCH, burn_rate=False, drift=False) as here:
            await here.spend(at("10:59"), dollars("9"), agent="writer", team="search")
            await here.spend(at("11:30"), dollars("0.6"), agent="crawler")
            await here.spend(at("11:40"), dollars("1"), agent="writer")
            await here.spend(at("11:50"), dollars("0.4"), agent="crawler")
            await here.spend(at("11:55"), dollars("2"), team="search")  # no agent's
            assert await here.look(at("12:00")) == []
            await here.spend(at("12:01"), dollars("0.01"), agent="crawler")
            assert await here.look(at("12:04")) == []  # it looks at the ledger each five minutes
            (alert,) = await here.look(at("12:06"))
            assert alert.text == (
                "each-agent [agent=crawler]: cost $1.01 in the last hour; $24/day lasts for $1.00 an hour"
            )
            assert (alert.cause, alert.subject, alert.figures["cost_nanousd"]) == (
                "hourly_cost", {"agent": "crawler"}, 1_010_000_000,
            )  # fmt: skip

    asyncio.run(play())


def test_what_several_agents_cost_together_is_about_none_of_them(world: World) -> None:
    async def play() -> None:
        crawlers = bg.Budget("crawlers", ["$24/day"], where={"agent": "crawl*", "team": "search"})
        async with Play(world, crawlers) as here:
            await here.spend(at("11:30"), dollars("1.5"), agent="crawler", team="search")
            (alert,) = await here.look(at("12:00"))
            assert (alert.cause, alert.subject) == ("hourly_cost", {"team": "search"})

    asyncio.run(play())


def test_a_task_whose_calls_take_thirty_per_cent_more_than_last_month_is_told(world: World) -> None:
    async def play() -> None:
        async with Play(world, bg.Budget("all", ["1B tokens/total"]), least_calls=3) as here:
            for task in 2 * ["rare"] + 3 * ["grown"] + 3 * ["steady"]:
                await here.spend(instant_ms("2026-10-31T23:59:00+00:00"), bg.Usage(100, 0), task=task)
            for task, tokens in 3 * [("grown", 131), ("steady", 130), ("rare", 1000), ("new", 1000)]:
                await here.spend(instant_ms("2026-11-01T00:00:00+00:00"), bg.Usage(tokens, 0), task=task)
            assert texts(await here.look(NOON_MS)) == [
                "task grown: 131 tokens per call on average this month, up 31% on last month's 100"
            ]

    asyncio.run(play())


def test_an_account_and_the_ledger_that_move_apart_are_told_and_a_budget_that_is_new_is_not(world: World) -> None:
    def tamper(statement: str) -> None:
        db = apsw.Connection(str(world.path))
        db.set_busy_timeout(5_000)
        db.execute(statement)
        db.close()

    async def play() -> None:
        budget = bg.Budget("each-agent", ["1M tokens/day", "$24/day"], per=["agent"])
        async with Play(world, budget, burn_rate=False, hourly_cost=False) as here:
            await here.spend(at("11:00"), dollars("0.5", 100), agent="a")
            tamper("UPDATE accounts SET spent = spent - 30 WHERE unit = 'tokens'")  # as if it were 30 tokens younger
            assert await here.look(at("12:00")) == []
            await here.spend(at("12:01"), dollars("0.5", 10), agent="a")
            await here.spend(at("12:02"), dollars("0.5", 10), agent="b")
            assert await here.look(at("12:05")) == []
            tamper("UPDATE accounts SET spent = spent - 5 WHERE unit = 'tokens' AND key LIKE '%\"a\"%'")
            (alert,) = await here.look(at("12:10"))
            assert (alert.cause, alert.budget, alert.subject) == ("drift", "each-agent", {"agent": "a"})
            assert (alert.figures["spent_tokens"], alert.figures["ledger_tokens"]) == (75, 110)
            assert await here.look(at("12:15")) == []
            tamper("UPDATE accounts SET spent = 110 WHERE unit = 'tokens' AND key LIKE '%\"a\"%'")
            assert await here.look(at("12:20")) == []  # mended
            SQLiteLedger(str(world.path)).prune("default", at("11:30"), 100)
            assert await here.look(at("12:25")) == []

    asyncio.run(play())


def test_a_budget_that_asks_for_other_calls_from_now_on_has_not_drifted(world: World) -> None:
    async def play() -> None:
        narrow = bg.Budget("some", ["1M tokens/day"], where={"team": "search"})
        async with Play(world, narrow, burn_rate=False) as here:
            for team in ("search", "ads"):
                await here.spend(at("11:00"), dollars("0.5", 100), team=team)
            assert await here.look(at("12:00")) == []
            here.policy = Policy([bg.Budget("some", ["1M tokens/day"], where={"team": "*"})])
            assert await here.look(at("12:05")) == []

    asyncio.run(play())


@pytest.mark.parametrize("world", ["redis"], indirect=True)
def test_ledger_rows_that_nobody_drains_are_told(world: World) -> None:
    async def play() -> None:
        async with Play(world, SEARCH, outbox_rows=1) as here:
            await here.spend(NOON_MS, dollars("0.1"), team="search")
            assert await here.look(NOON_MS) == []
            await here.spend(NOON_MS, dollars("0.1"), team="search")
            (alert,) = await here.look(NOON_MS)
            assert alert.text == "2 ledger rows wait to be drained, more than 1: run `budgetguard ledger drain`"

    asyncio.run(play())


def test_calls_that_fail_and_those_charged_by_guess_are_told_by_their_share(world: World) -> None:
    async def play() -> None:
        settings = bg.AlertSettings(least_calls=10)
        async with world.guard("1M tokens/day", alerts=settings) as guard:
            for number in range(10):
                hold = await guard.reserve(model="acme-1", provider="acme", estimate=bg.Usage(1, 1))
                await (hold.release() if number < 3 else hold.settle(bg.Usage(1, 1)))
            async with guard.reserve(model="acme-1", provider="acme", estimate=bg.Usage(1, 1)):
                pass  # nothing recorded: charged by guess

    asyncio.run(play())
    assert sorted(texts(world.heard.of(AlertRaised))) == [
        "27% of the calls of the last hour to acme-1 failed: 3 of 11",
        "9% of the calls of the last hour were charged by guess: 1 of 11",
    ]


def test_an_expiry_is_a_guess_only_where_it_charges() -> None:
    for on_expiry, assumed in (("charge", 1), ("release", 0)):
        policy = Policy([SEARCH], guard=bg.GuardSettings(on_expiry=on_expiry), alerts=bg.AlertSettings(least_calls=1))
        watcher = Watcher(lambda: policy)  # noqa: B023 - asked before the next one
        watcher.on_event(Expired("r-1"))
        watcher.find_shares()
        assert [found.alert.cause for found in watcher.take_found()] == ["assumed"] * assumed


def test_shares_are_of_the_last_hour() -> None:
    clock = FakeClock(0)
    shares = Shares(lambda: clock.now_ms() / 1000)
    settings = bg.AlertSettings(least_calls=2)
    for minute in (0, 30):
        clock.set(minute * MINUTE_MS)
        shares.count("", "m", True, False)
    assert [alert.figures for alert in shares.over(settings)] == [{"calls": 2, "count": 2}]
    clock.set(HOUR_MS)
    assert list(shares.over(settings)) == []


def test_a_ledger_that_cannot_be_read_is_told_once_and_costs_no_other_alert(tmp_path: Path, world: World) -> None:
    async def play() -> None:
        async def spend(usd: str) -> None:
            async with world.guard(budgets=[SEARCH]) as guard:
                await call(guard, dollars(usd), team="search")

        await spend("1")
        file = shutil.copy(world.path, tmp_path / "ledger.db")
        store, watcher = world.store(), Watcher(lambda: policy)
        policy = Policy([SEARCH])
        await store.open()
        alerting = Alerting(
            lambda: policy, store, f"sqlite:///{file}", watcher, [], world.heard.on_event, world.clock.now_ms
        )
        for minute in (0, 5, 6, 7, 8):
            if minute == 5:
                Path(file).unlink()
                await spend("15")
            world.clock.set(NOON_MS + minute * MINUTE_MS)
            await alerting.look_at_store()
            await until(lambda: asyncio.all_tasks() == {asyncio.current_task()}, "the look is over")
        await alerting.end()
        await store.aclose()

    asyncio.run(play())
    (failed,) = world.heard.of(AlertsFailed)
    assert "there is no ledger" in failed.error
    assert [alert.cause for alert in world.heard.of(AlertRaised)] == ["burn_rate"]
