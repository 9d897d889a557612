"""How long a call waits: not inside an open hold, not in vain, and not longer than the budgets say."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from delay_kit import ONE_AT_A_TIME, ROOM, in_line, soon, taken, waits
from guard_kit import BOTH, ESTIMATE, USAGE, LossyStore, World, until
from logs_kit import SkippingLoop, run
from store_kit import MINUTE_MS

import budgetguard as bg
from budgetguard.events import Delayed, Refused

STORES = BOTH


def test_nobody_waits_inside_an_open_hold_which_could_be_what_it_waits_for(world: World) -> None:
    async def main() -> None:
        guard, other = world.guard(budgets=[ONE_AT_A_TIME]), world.guard(budgets=[ONE_AT_A_TIME])
        async with guard, other:
            async with guard.reserve() as hold:
                with pytest.raises(bg.BudgetExceeded):
                    await guard.reserve()
                with pytest.raises(bg.BudgetExceeded):
                    await taken(guard)
                waiter = await waits(other)
                hold.record(USAGE)
            again = await soon(waiter)
            waiter = await waits(guard)
            await again.release()
            await (await soon(waiter)).release()
        assert len(world.heard.of(Refused)) == 2

    asyncio.run(main())


def test_inside_an_open_hold_a_call_behind_others_that_wait_is_told_so_at_once(world: World) -> None:
    async def main() -> None:
        guard = world.guard(budgets=[ROOM])

        async def agent() -> None:
            async with guard.reserve(estimate=bg.Usage(600, 0)) as hold:
                hold.record(USAGE)
                waiters.append(await asyncio.create_task(outside()))
                with pytest.raises(bg.BudgetExceeded, match="room refused this call: earlier calls wait for 1k tokens"):
                    await guard.reserve(estimate=bg.Usage(10, 0))

        async def outside() -> asyncio.Task[bg.Hold]:
            large.set()
            await until(lambda: in_line(guard), "the large one waits")
            return waiter

        waiters: list[Any] = []
        large = asyncio.Event()

        async def wait_large() -> bg.Hold:
            await large.wait()
            return await guard.reserve(estimate=bg.Usage(450, 0))

        async with guard:
            waiter = asyncio.create_task(wait_large())
            await agent()
            with pytest.raises(bg.BudgetExceeded):
                await soon(waiter)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("limits", "estimate", "why"),
    [
        (["700 tokens/day"], bg.Usage(101, 0), "it resets long after max_delay"),
        (["700 tokens/total"], bg.Usage(101, 0), "it never resets"),
        (["700 tokens/hour"], bg.Usage(701, 0), "it is impossible"),
        (["700 tokens/rolling 10 minutes"], bg.Usage(101, 0), "what is spent leaves long after max_delay"),
    ],
)
def test_a_call_for_which_waiting_cannot_help_is_refused_at_once(
    world: World, limits: list[str], estimate: bg.Usage, why: str
) -> None:
    async def main() -> None:
        store = LossyStore(world.store())
        guard = world.guard(budgets=[bg.Budget("room", limits, on_exceed="delay", max_delay="30s")], store=store)
        async with guard:
            async with guard.reserve(estimate=USAGE) as hold:
                hold.record(USAGE)
            with pytest.raises(bg.BudgetExceeded):
                await guard.reserve(estimate=estimate)
            assert store.asked.count("reserve") == 2, why

    asyncio.run(main())


@pytest.mark.parametrize("limit", ["700 tokens/minute", "700 tokens/rolling 1 minute"])
def test_a_call_waits_for_a_reset_that_comes_in_time(world: World, limit: str) -> None:
    async def main() -> None:
        guard = world.guard(budgets=[bg.Budget("room", [limit], on_exceed="delay", max_delay="5m")])
        async with guard:
            async with guard.reserve(estimate=USAGE) as hold:
                hold.record(USAGE)
            waiter = await waits(guard, estimate=USAGE)
            world.clock.advance(MINUTE_MS - 1)
            await until(lambda: guard._engines.current().now_ms() >= world.clock.now_ms(), "the head has looked")
            assert not waiter.done()
            world.clock.advance(1_001)
            await (await soon(waiter)).settle(USAGE)
        assert world.statuses() == ["settled", "settled"]

    asyncio.run(main())


def test_after_max_delay_a_waiter_is_refused(world: World) -> None:
    async def play(loop: SkippingLoop) -> None:
        guard = world.guard(budgets=[bg.Budget("one", ["1 concurrent"], on_exceed="delay", max_delay="10s")])
        async with guard:
            held = await taken(guard)
            head, behind = await waits(guard), await waits(guard)
            await loop.skip(8.5)
            await until(lambda: in_line(guard) == 2, "both look and wait on")
            await loop.skip(1)
            with pytest.raises(bg.BudgetExceeded, match="1 concurrent is held by 1 open call; try again in 1 s"):
                await soon(head)
            await loop.skip(0.6)
            with pytest.raises(bg.BudgetExceeded):
                await soon(behind)
            await held.release()

    run(play)


def test_of_several_delays_the_smallest_counts_among_those_that_block(world: World) -> None:
    def one(name: str, max_delay: str) -> bg.Budget:
        return bg.Budget(name, ["1 concurrent"], where={"team": f"*{name}*"}, on_exceed="delay", max_delay=max_delay)

    async def play(loop: SkippingLoop) -> None:
        guard = world.guard(budgets=[one("long", "60s"), one("short", "10s")])
        async with guard:
            held = await taken(guard, team="long")
            patient = await waits(guard, team="long short")
            await loop.skip(30)
            held_too = await taken(guard, team="short")
            await until(lambda: in_line(guard) == 1, "it waits on")
            with pytest.raises(bg.BudgetExceeded) as refused:
                await soon(patient)
            assert [violation.account.budget for violation in refused.value.violations] == ["long", "short"]
            for hold in (held, held_too):
                await hold.release()

    run(play)


def test_refuse_wins_over_delay(world: World) -> None:
    async def main() -> None:
        guard = world.guard(budgets=[ROOM, bg.Budget("hard", ["900 tokens/day"])])
        async with guard:
            held = await taken(guard, estimate=ESTIMATE)
            with pytest.raises(bg.BudgetExceeded) as refused:
                await guard.reserve(estimate=ESTIMATE)
            assert [violation.account.budget for violation in refused.value.violations] == ["room", "hard"]
            await held.release()
        assert world.heard.of(Delayed) == []

    asyncio.run(main())
