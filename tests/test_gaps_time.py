"""A guard and the store's time: windows that end between two calls, leases that stand among guards that sweep.

Written where the bugs of `test_mutants` were found by no other test.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from guard_kit import ESTIMATE, USAGE
from store_kit import HOUR_MS, NOON_MS
from virtual_time import Patiently, VirtualLoop, run

import budgetguard as bg
from budgetguard.events import Expired, LeaseLost
from budgetguard.stores.sqlite import SQLiteStore

if TYPE_CHECKING:
    from guard_kit import World


@pytest.mark.parametrize("limits", [["1k tokens/hour"], ["9k tokens/day", "1k tokens/minute", "1k tokens/hour"]])
def test_a_window_that_ended_since_the_store_was_last_heard_counts_nothing(world: World, limits: list[str]) -> None:
    """The guard believes that it is still noon; the store knows better, and the call is counted in the new window."""

    async def main() -> None:
        async with world.guard(*limits) as guard:
            for _ in range(4):
                async with guard.reserve(estimate=ESTIMATE) as hold:
                    hold.record(USAGE)
                with pytest.raises(bg.BudgetExceeded):
                    await guard.reserve(estimate=ESTIMATE)
                world.clock.advance(HOUR_MS)

    asyncio.run(main())


class Noon:
    """A store's clock that goes with a loop's time, from noon."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def now_ms(self) -> int:
        return NOON_MS + self._loop.now_ms()


def test_a_call_of_ten_minutes_keeps_its_hold_among_guards_that_sweep(world: World) -> None:
    """Two guards on one file, leases of a minute: what one of them holds open, the other never finds due."""
    loop = VirtualLoop()

    async def main() -> None:
        guards = [
            world.guard("9k tokens/day", store=Patiently(SQLiteStore(str(world.path), clock=Noon(loop)), loop))
            for _ in range(2)
        ]
        holder, sweeper = guards
        async with holder, sweeper, holder.reserve(estimate=ESTIMATE) as hold:
            await asyncio.sleep(600)
            assert await sweeper.available() == {"tokens": 8_200}
            hold.record(USAGE)
        assert world.statuses() == ["settled"]
        assert world.heard.of(Expired) == world.heard.of(LeaseLost) == []

    run(loop, main())
