"""However a call came to be refused, `refusals` counts it once: after a wait, while it grows, for whatever cause."""

from __future__ import annotations

import asyncio

import pytest
from delay_kit import taken
from guard_kit import ESTIMATE, MODEL, World
from test_refusal_counts import refusals

import budgetguard as bg

ROOM_FOR_ONE = "1000 tokens/day"


def test_a_call_that_waits_in_vain_is_one_refusal(world: World) -> None:
    async def main() -> None:
        budget = bg.Budget("slow", ["1 concurrent"], on_exceed="delay", max_delay="1100ms")
        async with world.guard(budgets=[budget]) as guard:
            hold = await taken(guard, team="a", model=MODEL, estimate=ESTIMATE)

            async def in_vain() -> None:
                with pytest.raises(bg.BudgetExceeded):
                    await guard.reserve(team="b", model=MODEL, estimate=ESTIMATE)

            async def cancelled() -> None:
                async with asyncio.timeout(0.05):
                    await guard.reserve(team="c", model=MODEL, estimate=ESTIMATE)

            ends = await asyncio.gather(in_vain(), in_vain(), cancelled(), return_exceptions=True)
            assert [type(end) for end in ends] == [type(None), type(None), TimeoutError]
            await hold.release()

    asyncio.run(main())
    assert refusals(world, "team", "budget", "reason") == {("b", "slow", "held"): (2, {"concurrent": 2})}


async def swallowed(guard: bg.Guard) -> None:
    async with guard.within("10 tokens", name="run"):
        with pytest.raises(bg.BudgetExceeded):
            await guard.reserve(team="b", model=MODEL, estimate=ESTIMATE)


def test_growth_that_is_refused_and_a_run_are_one_refusal_each(world: World) -> None:
    async def main() -> None:
        async with world.guard(ROOM_FOR_ONE) as guard:
            async with guard.reserve(team="a", model=MODEL, estimate=ESTIMATE) as hold:
                with pytest.raises(bg.BudgetExceeded):
                    await hold.grow(bg.Usage(600, 500))
                hold.record(bg.Usage(1, 1))
            with pytest.raises(bg.BudgetExceeded):  # raised again by the run: still one
                await swallowed(guard)

    asyncio.run(main())
    found = refusals(world, "team", "budget")
    assert {group: calls for group, (calls, _) in found.items()} == {("a", "default"): 1, ("b", "run"): 1}


def test_calls_that_no_budget_covers_or_that_say_too_little_are_refusals(world: World) -> None:
    async def main() -> None:
        settings = bg.GuardSettings(on_unmatched="refuse")
        budgets = [bg.Budget("a", [ROOM_FOR_ONE], where={"team": "a"})]
        async with world.guard(budgets=budgets, settings=settings) as guard:
            for _ in range(2):
                with pytest.raises(bg.CallUnmatched):
                    await guard.reserve(team="b", model=MODEL, estimate=ESTIMATE)
            with pytest.raises(bg.EstimateRequired):
                await guard.reserve(team="a", model=MODEL)

    asyncio.run(main())
    assert refusals(world, "team", "reason") == {("b", "CallUnmatched"): (2, {}), ("a", "EstimateRequired"): (1, {})}
