"""How long a refused call should wait: as long as the slowest of the limits that refused it.

Written where the bugs of `test_mutants` were found by no other test.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from guard_kit import BOTH, ESTIMATE, MODEL, USAGE

import budgetguard as bg

STORES = BOTH

if TYPE_CHECKING:
    from guard_kit import World

HALF_AN_HOUR_MS = 1_800_000


@pytest.mark.parametrize(
    ("limits", "retry_after"),
    [
        (["1000 tokens/hour"], 1800.0),
        (["1000 tokens/hour", "1000 tokens/day"], 41_400.0),
        (["1000 tokens/day", "1000 tokens/hour"], 41_400.0),
        (["1 concurrent", "1000 tokens/hour"], 1800.0),
        (["1 concurrent", "9999 tokens/hour"], 1.0),
        (["1000 tokens/hour", "1000 tokens/total"], None),
        (["1000 tokens/hour", "100 tokens/day"], None),
    ],
)
def test_retry_after_is_the_longest_over_the_limits_and_none_where_waiting_cannot_help(
    world: World, limits: list[str], retry_after: float | None
) -> None:
    """At half past noon, with 600 tokens spent and one call open."""

    async def scenario() -> None:
        world.clock.advance(HALF_AN_HOUR_MS)
        loose = [f"9999 {limit.partition(' ')[2]}" for limit in limits]
        async with world.guard(*loose) as other, world.guard(*limits) as guard:
            async with other.reserve(model=MODEL, estimate=ESTIMATE) as hold:
                hold.record(USAGE)
            opened = await other.reserve(model=MODEL, estimate=bg.Usage(1, 0))
            with pytest.raises(bg.BudgetExceeded) as refusal:
                await guard.reserve(model=MODEL, estimate=ESTIMATE)
            assert refusal.value.retry_after == retry_after
            await opened.release()

    asyncio.run(scenario())
