"""Thresholds and the first refusal: judged on what is spent, told once, to one worker of the fleet.

Written where the bugs of `test_mutants` were found by no other test, or only by a long one.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from store_kit import DAY_MS, LEASE_MS, MINUTE_MS, NOON_MS, amounts, ask_one, expire, plan, release, reserve, settle

from budgetguard.core.model import Plan
from budgetguard.stores.sqlite import SQLiteStore
from budgetguard.testing.clock import FakeClock

LEVELS = (50, 80, 100)


class Worker:
    """One worker of the fleet, with a store of its own on the file that all share."""

    def __init__(self, path: Path, clock: FakeClock) -> None:
        self.clock = clock
        self.store = SQLiteStore(str(path), clock=clock)

    async def told(self, op: Any) -> list[int]:
        """The thresholds that this worker is told to announce."""
        return [alert.threshold for alert in (await ask_one(self.store, op)).alerts]

    async def spend(self, id: str, known: Plan, tokens: int) -> list[int]:
        """Reserve one token, and settle so many."""
        assert await self.told(reserve(id, known, amounts(1), self.clock.now_ms())) == []
        return await self.told(settle(id, known, amounts(tokens), tried_since_ms=self.clock.now_ms()))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOON_MS)


@pytest.fixture
def workers(tmp_path: Path, clock: FakeClock) -> list[Worker]:
    return [Worker(tmp_path / "store.db", clock) for _ in range(2)]


def test_each_threshold_is_told_once_to_the_worker_whose_settle_reaches_it(workers: list[Worker]) -> None:
    async def scenario() -> None:
        known = plan("1000 tokens/day", alert_levels=LEVELS)
        first, second = workers
        assert await first.spend("a", known, 49) == []
        assert await second.spend("b", known, 1) == [50]
        assert await first.spend("c", known, 0) == []
        assert await first.spend("d", known, 1) == []
        assert await second.spend("e", known, 60) == [80, 100]
        assert await first.spend("f", known, 60) == []
        for worker in workers:
            await worker.store.aclose()

    asyncio.run(scenario())


def test_what_is_only_reserved_alerts_nobody(workers: list[Worker]) -> None:
    """The level is what is spent: a large hold tells nothing, neither when it is made nor when others settle."""

    async def scenario() -> None:
        known = plan("1000 tokens/day", "1000 tokens/rolling 1 hour", alert_levels=LEVELS)
        worker, other = workers
        assert await worker.told(reserve("big", known, amounts(900))) == []
        assert await worker.spend("a", known, 10) == []
        assert await worker.told(release("big")) == []
        await worker.store.aclose()
        await other.store.aclose()

    asyncio.run(scenario())


def test_an_expiry_that_charges_and_a_late_settle_alert(workers: list[Worker], clock: FakeClock) -> None:
    async def scenario() -> None:
        known = plan("1000 tokens/day", alert_levels=LEVELS)
        worker, other = workers
        await worker.told(reserve("a", known, amounts(60)))
        clock.advance(LEASE_MS)
        assert await worker.told(expire("a")) == [50]
        assert await other.told(settle("a", known, amounts(85), amounts(60))) == [80]
        await worker.store.aclose()
        await other.store.aclose()

    asyncio.run(scenario())


def test_concurrent_alerts_on_what_is_reserved_at_the_reserve(workers: list[Worker]) -> None:
    async def scenario() -> None:
        known = plan("4 concurrent", alert_levels=(2, 4))
        worker, other = workers
        assert await worker.told(reserve("a", known, amounts(1))) == []
        assert await other.told(reserve("b", known, amounts(1))) == [2]
        assert await other.told(release("b")) == []
        assert await worker.told(reserve("c", known, amounts(1))) == []
        await worker.store.aclose()
        await other.store.aclose()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("limit", "again_after_ms"),
    [("100 tokens/minute", MINUTE_MS), ("100 tokens/rolling 1 minute", 2 * MINUTE_MS), ("100 tokens/total", None)],
)
def test_a_new_window_alerts_anew_and_a_total_never(
    workers: list[Worker], clock: FakeClock, limit: str, again_after_ms: int | None
) -> None:
    async def scenario() -> None:
        worker, other = workers
        assert await worker.spend("a", plan(limit, alert_levels=LEVELS), 90) == [50, 80]
        clock.advance(again_after_ms or DAY_MS)
        known = plan(limit, now_ms=clock.now_ms(), alert_levels=LEVELS)
        assert await worker.spend("b", known, 5) == []
        assert await worker.spend("c", known, 85) == ([100] if again_after_ms is None else [50, 80])
        await worker.store.aclose()
        await other.store.aclose()

    asyncio.run(scenario())


def test_exactly_one_worker_is_told_of_a_windows_first_refusal(workers: list[Worker]) -> None:
    """However many ask at once; and none if the settle that spent the last has told it."""

    async def scenario() -> None:
        (claim,) = plan("100 tokens/day", alert_levels=LEVELS).claims
        first, second = workers
        assert await first.store.announce([(claim.account, 100)]) == [False], "an account that nobody has counted on"
        await first.spend("a", Plan((claim,)), 99)
        asked = (worker.store.announce([(claim.account, 100)] * 3) for worker in workers * 2)
        told = [answer for answers in await asyncio.gather(*asked) for answer in answers]
        assert (len(told), told.count(True)) == (12, 1)
        assert await second.spend("b", Plan((claim,)), 1) == []
        for worker in workers:
            await worker.store.aclose()

    asyncio.run(scenario())
