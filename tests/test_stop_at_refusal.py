"""`bg.stop_at_refusal()`: of a run, the first refusal is the last word, whoever swallows it."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from guard_kit import BOTH, ESTIMATE, MODEL, USAGE, Heard, World
from replay_kit import Replay
from sdk_kit import Sdk, closing, four_sdks

import budgetguard as bg
from budgetguard.events import Refused

STORES = BOTH
BUDGETS = [
    bg.Budget("sub", where={"agent": "sub"}, limits=["1 tokens/day"]),
    bg.Budget("all", limits=["9k tokens/day"]),
]


async def call(guard: bg.Guard, agent: str = "main") -> None:
    async with guard.reserve(agent=agent, model=MODEL, estimate=ESTIMATE) as hold:
        hold.record(USAGE)


async def tool(guard: bg.Guard) -> str:
    """As frameworks run one: what it raises is told to the model."""
    try:
        await call(guard, "sub")
    except Exception:  # noqa: BLE001 - as they do
        return "An error occurred. Please try again."
    return "found"


def test_after_a_refusal_no_call_of_the_run_is_admitted_though_a_budget_has_room(world: World) -> None:
    async def main() -> None:
        stop = bg.stop_at_refusal()

        async def run() -> None:
            with stop:
                await call(guard)
                assert stop.refusal is None
                await asyncio.create_task(tool(guard))
                await call(guard)

        async with world.guard(budgets=BUDGETS) as guard:
            with pytest.raises(bg.BudgetExceeded, match="sub refused this call") as info:
                await run()
            assert str(info.value) == str(stop.refusal)
            await call(guard)

    asyncio.run(main())
    assert world.statuses() == ["settled", "settled"], "one before it, one after the block"
    assert len(world.heard.of(Refused)) == 1, "what is stopped is not asked, nor told again"


def test_a_refusal_that_was_swallowed_is_raised_at_the_end_and_another_error_stays(world: World) -> None:
    async def main() -> None:
        async def failing() -> None:
            with bg.stop_at_refusal():
                await tool(guard)
                raise KeyError

        async with world.guard(budgets=BUDGETS) as guard:
            with pytest.raises(bg.BudgetExceeded), bg.stop_at_refusal():
                assert await tool(guard) == "An error occurred. Please try again."
            with pytest.raises(KeyError):
                await failing()

    asyncio.run(main())


def test_it_does_not_reach_other_runs_nor_outlives_its_block(world: World) -> None:
    async def run(guard: bg.Guard, agent: str) -> None:
        with bg.stop_at_refusal():
            for _ in range(2):
                await call(guard, agent)

    async def main() -> None:
        async with world.guard(budgets=BUDGETS) as guard:
            ended = await asyncio.gather(run(guard, "main"), run(guard, "sub"), return_exceptions=True)
            assert [type(end) for end in ended] == [type(None), bg.BudgetExceeded]

    asyncio.run(main())
    assert world.statuses() == ["settled", "settled"]


def test_a_block_inside_another_stops_both(world: World) -> None:
    async def main() -> None:
        async def run() -> None:
            with bg.stop_at_refusal():
                with contextlib.suppress(bg.BudgetExceeded), bg.stop_at_refusal():
                    await call(guard, "sub")
                await call(guard)

        async with world.guard(budgets=BUDGETS) as guard:
            with pytest.raises(bg.BudgetExceeded):
                await run()

    asyncio.run(main())
    assert world.statuses() == []


@four_sdks
def test_a_guarded_client_sends_nothing_more_not_even_inside_an_open_hold(sdk: Sdk, world: World) -> None:
    with Replay(sdk.plain) as server, closing(world.guard(budgets=BUDGETS)) as guard:
        client = guard.wrap(sdk.client(server.url))

        def run() -> None:
            with bg.stop_at_refusal():
                with contextlib.suppress(bg.BudgetExceeded):
                    guard.sync.hold(agent="sub", model=MODEL, estimate=ESTIMATE)
                with bg.acting_as(agent="main"):
                    sdk.create(client)

        with guard.sync.reserve(agent="main", model=MODEL, estimate=bg.Usage(3_000, 900)) as hold:
            with pytest.raises(bg.BudgetExceeded):
                run()
            hold.record(USAGE)
        assert server.asked == []
        sdk.close(client)


def test_in_shadow_nothing_is_refused_so_nothing_stops(world: World) -> None:
    async def main() -> None:
        async with world.guard(budgets=BUDGETS, mode="shadow", observers=[Heard()]) as guard:
            with bg.stop_at_refusal():
                await call(guard, "sub")
                await call(guard)

    asyncio.run(main())
    assert world.statuses() == ["settled", "settled"]


def test_each_block_is_a_new_one() -> None:
    stop = bg.stop_at_refusal()
    with stop, pytest.raises(RuntimeError, match="entered before"), stop:
        raise AssertionError("it must not be entered")
