"""`guard.status()`: whatever it is asked, in which order it answers, and what a guard that is off says."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from guard_kit import ESTIMATE, MODEL, World

import budgetguard as bg


@pytest.mark.parametrize("value", [5, None, "", b"search", "x" * 513])
def test_status_refuses_what_is_no_label_as_available_does(value: Any, world: World) -> None:
    async def main() -> None:
        guard = world.guard(budgets=[bg.Budget("search", ["9 requests/day"], where={"team": "search"})])
        async with guard:
            with pytest.raises(bg.InvalidLabel, match="label 'team' must be text"):
                await guard.status(team=value)

    asyncio.run(main())


def test_status_is_in_the_order_of_the_policy_before_and_after_calls(world: World) -> None:
    budgets = [
        bg.Budget("all", ["9 requests/total", "$5/month", "2 concurrent", "100k tokens/day"], timezone="Europe/Berlin"),
        bg.Budget("each-agent", ["2k tokens/total", "9 requests/day"], per=["agent"]),
    ]

    async def main() -> None:
        guard = world.guard(budgets=budgets)
        async with guard:
            before = await guard.status()
            assert [row.unit for row in before] == ["requests", "usd", "concurrent", "tokens"]
            assert [str(row.resets_at) for row in before] == [
                "None", "2026-12-01 00:00:00+01:00", "None", "2026-11-23 00:00:00+01:00",
            ]  # fmt: skip
            holds = [await guard.reserve(model=MODEL, estimate=ESTIMATE, agent=agent) for agent in ("b", "a")]
            after = await guard.status()
            unchanged = [row._replace(reserved=0, available=row.limit) for row in after[: len(before)]]
            assert unchanged == before, "only the amounts change"
            assert [(row.unit, row.subject["agent"]) for row in after[len(before) :]] == [
                ("tokens", "a"), ("tokens", "b"), ("requests", "a"), ("requests", "b"),
            ]  # fmt: skip
            for hold in holds:
                await hold.release()

    asyncio.run(main())


def test_a_guard_that_is_off_has_no_accounts_and_no_limits(world: World) -> None:
    async def main(guard: bg.Guard) -> None:
        assert await guard.status() == []
        assert await guard.available(team="search") == {}

    asyncio.run(main(bg.Guard.off()))
    asyncio.run(main(world.guard("$5/day", mode="off")))
    assert not world.path.exists(), "nor does it open the store"
