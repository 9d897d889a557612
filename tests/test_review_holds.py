"""What becomes of a hold that is dropped, that grows where others are due, and of a run that is entered twice."""

from __future__ import annotations

import asyncio

import pytest
from guard_kit import ESTIMATE, USAGE, World


def test_a_run_is_not_entered_inside_itself_and_keeps_its_limit(world: World) -> None:
    async def main() -> None:
        async with world.guard("9k tokens/day") as guard:
            scope = guard.within("1k tokens")
            async with scope:
                with pytest.raises(RuntimeError, match="already entered"):
                    async with scope:
                        pass
                assert await guard.available() == {"tokens": 1_000}
            async with scope, guard.reserve(estimate=ESTIMATE) as hold:
                hold.record(USAGE)
            async with scope:
                assert await guard.available() == {"tokens": 400}

    asyncio.run(main())
