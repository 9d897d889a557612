"""Which share of the calls failed or was charged by guess: what counts as such a call, and for how long."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from guard_kit import World
from store_kit import HOUR_MS, MINUTE_MS

import budgetguard as bg
from budgetguard.alerts.raised import AlertRaised
from budgetguard.alerts.shares import Shares
from budgetguard.alerts.watching import Watcher
from budgetguard.call_events import Released
from budgetguard.events import Expired
from budgetguard.policy import Policy
from budgetguard.testing import FakeClock


def test_calls_that_fail_and_those_charged_by_guess_are_told_by_their_share(world: World) -> None:
    async def play() -> None:
        settings = bg.AlertSettings(least_calls=10)
        async with world.guard("1M tokens/day", alerts=settings) as guard:
            for number in range(10):
                with contextlib.suppress(ConnectionRefusedError):
                    async with guard.reserve(model="acme-1", provider="acme", estimate=bg.Usage(1, 1)) as hold:
                        if number < 3:
                            raise ConnectionRefusedError
                        hold.record(bg.Usage(1, 1))
            async with guard.reserve(model="acme-1", provider="acme", estimate=bg.Usage(1, 1)):
                pass  # nothing recorded: charged by guess

    asyncio.run(play())
    assert sorted(alert.text for alert in world.heard.of(AlertRaised)) == [
        "27% of the calls of the last hour to acme-1 failed: 3 of 11",
        "9% of the calls of the last hour were charged by guess: 1 of 11",
    ]


def test_what_its_caller_lets_go_of_has_not_failed(world: World) -> None:
    """By hand (a cache had the answer), cancelled, or refused another call."""
    errors = (asyncio.CancelledError(), bg.PriceUnknown("of the call inside"))

    async def play() -> None:
        options: dict[str, Any] = {"alerts": bg.AlertSettings(least_calls=1), "outcome_of": lambda _: "release"}
        async with world.guard("1M tokens/day", **options) as guard:
            for _ in range(3):
                await (await guard.reserve(model="acme-1", estimate=bg.Usage(1, 1))).release()
            for error in errors:
                with contextlib.suppress(type(error)):
                    async with guard.reserve(model="acme-1", estimate=bg.Usage(1, 1)):
                        raise error

    asyncio.run(play())
    assert [event.cause for event in world.heard.of(Released)] == [""] * 5
    assert world.heard.of(AlertRaised) == []


def test_an_expiry_is_a_guess_only_where_it_charges() -> None:
    for on_expiry, assumed in (("charge", 1), ("release", 0)):
        policy = Policy(
            [bg.Budget("day", ["$24/day"])],
            guard=bg.GuardSettings(on_expiry=on_expiry),
            alerts=bg.AlertSettings(least_calls=1),
        )
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
