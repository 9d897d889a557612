"""What is in the spool stays there until it is delivered.

Written where the bugs of `test_mutants` were found by no other test.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from guard_kit import ESTIMATE, USAGE, LossyStore, until

from budgetguard.events import SpoolReplayed, StoreProblem

if TYPE_CHECKING:
    from guard_kit import World


def test_a_replay_that_the_store_does_not_take_leaves_the_entry_in_the_spool(world: World) -> None:
    """And one that it takes removes it, once."""

    async def main() -> None:
        store = LossyStore(world.store())
        guard = world.guard("90k tokens/day", store=store)
        hold = await guard.reserve(estimate=ESTIMATE)
        store.refused = {"settle"}
        await hold.settle(USAGE)
        assert await guard.aclose() == 1
        again = world.guard("90k tokens/day", store=store)
        await again.available()
        await until(lambda: [p for p in world.heard.of(StoreProblem) if p.verb == "replay"], "a replay in vain")
        assert await again.aclose() == 1
        store.refused = set()
        third = world.guard("90k tokens/day", store=store)
        await third.available()
        await until(lambda: world.spent() == 600, "it is delivered")
        await until(lambda: world.heard.of(SpoolReplayed), "it is told")
        assert await third.aclose() == 0

    asyncio.run(main())
