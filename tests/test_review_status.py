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
