"""What a guard owes while it is closed, reloaded or swept, and some of what it meets is spoiled."""

from __future__ import annotations

import asyncio

import pytest
from delay_kit import ONE_AT_A_TIME, soon, taken, waits
from guard_kit import ESTIMATE, USAGE, World

import budgetguard as bg


def test_who_waits_when_the_guard_is_closed_is_told_so_and_not_admitted(world: World) -> None:
    async def main() -> None:
        guard = world.guard(budgets=[ONE_AT_A_TIME, bg.Budget("all", ["9k tokens/day"])])
        hold = await taken(guard, estimate=ESTIMATE)
        waiters = [await waits(guard, estimate=ESTIMATE) for _ in range(3)]
        await guard.aclose()
        await hold.settle(USAGE)
        for waiter in waiters:
            with pytest.raises(bg.GuardClosed):
                await soon(waiter)
        assert (world.statuses(), world.held(), world.spent()) == (["settled"], 0, 600)

    asyncio.run(main())
