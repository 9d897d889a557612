"""Calls in a hold are held in dollars at their own prices, and refused where nobody knows those."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from guard_kit import World
from store_kit import rows
from transport_kit import ASKED, JSON, PLAIN, Play, Player, guard_of, heard, request

import budgetguard as bg
from budgetguard.integrations.httpx import BudgetTransport

WORKED = Play([PLAIN], JSON)
DEAR = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 100_000}
"""About six cents."""


def dear(cost_usd: str | None = None, **labels: str) -> Any:
    """How ten such calls end in a hold of the same estimate in tokens, with ten cents a day."""
    body = {"model": "gpt-4o-mini", "usage": {"prompt_tokens": 10, "completion_tokens": 100_000}}
    play = Play([json.dumps(body).encode()], JSON)

    async def main(world: World) -> list[Any]:
        async with guard_of(world, "$0.10/day") as guard:
            transport = BudgetTransport(guard, Player(play))
            async with guard.reserve(estimate=bg.Usage(100, 100_000, cost_usd=cost_usd), **labels):
                return [(await heard(transport, request(DEAR))).error for _ in range(10)]

    return main


@pytest.mark.parametrize("hold", [{"cost_usd": "0.01"}, {"model": "gpt-4o-mini"}])
def test_calls_in_a_hold_are_held_in_dollars_at_their_own_prices(world: World, hold: dict[str, str]) -> None:
    """Whatever the hold itself was estimated at, or for which model it was made."""
    errors = asyncio.run(dear(**hold)(world))
    assert [type(error) for error in errors[1:]] == [errors[1].__class__] * 9
    assert errors[0] is None and isinstance(errors[1], bg.BudgetExceeded)
    assert rows(world.path, "SELECT cost_nanousd, status FROM token_usage") == [(60_001_500, "settled")]


@pytest.mark.parametrize("setting", ["refuse", "zero"])
def test_a_call_in_a_hold_whose_price_nobody_knows_is_treated_as_any_other(world: World, setting: Any) -> None:
    async def main() -> Any:
        async with guard_of(world, "$0.10/day", on_unknown_price=setting) as guard:
            transport = BudgetTransport(guard, Player(WORKED))
            async with guard.reserve(estimate=bg.Usage(1, 1, cost_usd="0.01")):
                return (await heard(transport, request({**ASKED, "model": "acme-unheard-of"}))).error

    error = asyncio.run(main())
    assert isinstance(error, bg.PriceUnknown) == (setting == "refuse")
    assert error is None or "acme-unheard-of" in str(error)
