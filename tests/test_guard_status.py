"""What a guard says of its budgets: `status` and `available`."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from guard_kit import BOTH, ESTIMATE, MODEL, USAGE, World

import budgetguard as bg

STORES = BOTH

BUDGETS = [
    bg.Budget("all", ["100k tokens/day", "$5/day"], timezone="Europe/Berlin"),
    bg.Budget("each-agent", ["2k tokens/rolling 10 minutes"], per=["agent"]),
    bg.Budget("search", ["9 requests/total"], where={"team": "search"}),
    bg.Budget("trial", ["1 tokens/day"], on_exceed="shadow"),
]


async def used(guard: bg.Guard, **labels: str) -> None:
    async with guard.reserve(model=MODEL, estimate=ESTIMATE, **labels) as hold:
        hold.record(USAGE)


def test_status_has_a_row_for_each_account(world: World) -> None:
    async def main() -> None:
        guard = world.guard(budgets=BUDGETS)
        async with guard:
            await used(guard, team="search", agent="a")
            await used(guard, team="ads", agent="b[1]")
            hold = await guard.reserve(model=MODEL, estimate=ESTIMATE)
            rows = {(row.budget, row.unit, *row.subject.values()): row for row in await guard.status()}
            assert set(rows) == {
                ("all", "tokens"), ("all", "usd"), ("each-agent", "tokens", "a"), ("each-agent", "tokens", "b[1]"),
                ("each-agent", "tokens", "(none)"), ("search", "requests"), ("trial", "tokens"),
            }  # fmt: skip
            row = rows["all", "tokens"]
            assert (row.period, str(row.resets_at)) == ("day", "2026-11-23 00:00:00+01:00")
            assert (row.limit, row.spent, row.reserved, row.available) == (100_000, 1_200, 800, 98_000)
            assert (rows["search", "requests"].resets_at, rows["each-agent", "tokens", "a"].resets_at) == (None, None)
            assert rows["trial", "tokens"].available == 1 - 1_200 - 800, "a shadow budget is counted beyond its limit"
            await hold.release()

    asyncio.run(main())


def test_status_before_the_first_call_shows_the_limits_that_are_not_split_by_labels(world: World) -> None:
    async def main() -> None:
        guard = world.guard(budgets=BUDGETS)
        async with guard:
            rows = await guard.status()
        assert [(row.budget, row.unit, row.available) for row in rows] == [
            ("all", "tokens", 100_000), ("all", "usd", 5 * 10**9), ("search", "requests", 9), ("trial", "tokens", 1),
        ]  # fmt: skip

    asyncio.run(main())


def test_status_can_be_asked_by_labels_and_globs(world: World) -> None:
    async def main() -> None:
        guard = world.guard(budgets=BUDGETS)
        async with guard:
            for agent in ("crawler-1", "crawler-2", "ranker"):
                await used(guard, team="search", agent=agent)

            async def found(**labels: str) -> list[tuple[str, ...]]:
                return [(row.budget, *row.subject.values()) for row in await guard.status(**labels)]

            agents = [("each-agent", "crawler-1"), ("each-agent", "crawler-2")]
            of_all = [("all",), ("all",), *agents, ("search",), ("trial",)]
            assert await found(agent="crawler-*") == of_all
            assert await found(agent="crawler-*", team="ads") == [row for row in of_all if row != ("search",)]
            with pytest.raises(bg.InvalidLabel, match='label "teem" is not a known label; did you mean "team"'):
                await guard.status(teem="search")

    asyncio.run(main())


def test_available_is_the_least_that_any_budget_of_the_call_leaves(world: World) -> None:
    async def main() -> None:
        guard = world.guard(budgets=BUDGETS, labels=bg.LabelRules(required=["team"]))
        async with guard:
            assert await guard.available(team="search", agent="a") == {
                "tokens": 2_000, "usd": Decimal(5), "requests": 9
            }  # fmt: skip
            await used(guard, team="search", agent="a")
            assert await guard.available(team="search", agent="a") == {
                "tokens": 1_400, "usd": Decimal("4.9993"), "requests": 8
            }  # fmt: skip
            assert await guard.available(team="ads", agent="b") == {"tokens": 2_000, "usd": Decimal("4.9993")}
            with bg.acting_as(team="ads", agent="a"):
                assert await guard.available() == {"tokens": 1_400, "usd": Decimal("4.9993")}
            with pytest.raises(bg.LabelRequired):
                await guard.available(agent="a")
            world.clock.set(int(datetime(2026, 11, 24, tzinfo=UTC).timestamp() * 1000))
            await used(guard, team="ads", agent="b")
            assert await guard.available(team="search", agent="a") == {
                "tokens": 2_000, "usd": Decimal("4.9993"), "requests": 8
            }  # fmt: skip

    asyncio.run(main())


def test_available_may_be_negative_and_then_nothing_more_is_admitted(world: World) -> None:
    async def main() -> None:
        guard = world.guard("1k tokens/day")
        async with guard:
            async with guard.reserve(estimate=USAGE) as hold:
                hold.record(bg.Usage(1_200, 0))
            assert await guard.available() == {"tokens": -200}
            with pytest.raises(bg.BudgetExceeded):
                await guard.reserve(estimate=bg.Usage(1, 0))

    asyncio.run(main())
