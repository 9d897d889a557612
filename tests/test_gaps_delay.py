"""Who must not wait is refused at once, and who waits is not overtaken: where nobody waits, no time passes.

Written where the bugs of `test_mutants` were found by no other test.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import pytest
from delay_kit import taken
from guard_kit import BOTH, ESTIMATE
from virtual_time import Patiently, VirtualLoop, run

import budgetguard as bg

STORES = BOTH

if TYPE_CHECKING:
    from guard_kit import World

PATIENT = bg.Budget("patient", ["1k tokens/day"], on_exceed="delay", max_delay="1h")
HARD = bg.Budget("hard", ["900 tokens/day"])


def in_no_time(world: World, budgets: list[bg.Budget], scenario: Callable[[bg.Guard], Awaitable[None]]) -> None:
    """Run a scenario in which no time may pass, while another task holds 800 tokens."""
    loop = VirtualLoop()

    async def main() -> None:
        async with world.guard(budgets=budgets, store=Patiently(world.store(), loop)) as guard:
            held = await taken(guard, estimate=ESTIMATE)
            began = loop.time()
            await scenario(guard)
            assert loop.time() == began
            await held.release()

    run(loop, main())


async def refused(guard: bg.Guard) -> list[str]:
    """The budgets that refuse a call of 800 tokens."""
    with pytest.raises(bg.BudgetExceeded) as refusal:
        await guard.reserve(estimate=ESTIMATE)
    return [violation.account.budget for violation in refusal.value.violations]


@pytest.mark.parametrize("budgets", [[PATIENT, HARD], [HARD, PATIENT]])
def test_where_one_budget_refuses_nobody_waits_for_the_other(world: World, budgets: list[bg.Budget]) -> None:
    async def scenario(guard: bg.Guard) -> None:
        assert await refused(guard) == [budget.name for budget in budgets]

    in_no_time(world, budgets, scenario)


def test_inside_an_open_hold_nobody_waits(world: World) -> None:
    """It could be the hold itself for which the call would wait."""

    async def scenario(guard: bg.Guard) -> None:
        async with guard.reserve(estimate=bg.Usage(10, 0)) as hold:
            assert await refused(guard) == ["patient"]
            assert await asyncio.create_task(refused(guard)) == ["patient"], "nor in a task that was begun inside"
            hold.record(bg.Usage(10, 0))

    in_no_time(world, [PATIENT], scenario)


def test_of_two_that_were_refused_together_the_second_does_not_overtake_the_first(world: World) -> None:
    """Another process returns what is enough for the second: it stays for the first, until all of it has room."""
    loop = VirtualLoop()

    async def main() -> None:
        mine, other = (world.guard(budgets=[PATIENT], store=Patiently(world.store(), loop)) for _ in range(2))
        async with mine, other:
            most, rest = [await taken(other, estimate=bg.Usage(tokens, 0)) for tokens in (800, 200)]
            large, small = [asyncio.create_task(taken(mine, estimate=bg.Usage(tokens, 0))) for tokens in (900, 100)]
            await asyncio.sleep(5)
            await rest.release()
            await asyncio.sleep(60)
            assert not large.done() and not small.done()
            await most.release()
            for waiter in (large, small):
                await (await asyncio.wait_for(waiter, 5)).release()

    run(loop, main())
