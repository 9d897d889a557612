"""What becomes of a hold that is dropped, that grows where others are due, and of a run that is entered twice."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator

import pytest
from guard_kit import BOTH, ESTIMATE, USAGE, World, until

import budgetguard as bg
from budgetguard.events import Assumed

STORES = BOTH


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


async def recorded(guard: bg.Guard) -> bg.Hold:
    hold = await guard.reserve(estimate=ESTIMATE)
    hold.record(USAGE)
    return hold


def test_what_was_recorded_is_charged_when_the_hold_is_dropped(world: World) -> None:
    async def main() -> None:
        async with world.guard("9k tokens/day") as guard:
            hold = await recorded(guard)
            del hold
            await until(lambda: world.statuses() == ["settled"], "it is settled")
            assert (world.spent(), world.reserved()) == (600, 0)
            kept = [await recorded(guard)]
            thread = threading.Thread(target=kept.clear)
            thread.start()
            thread.join()
        assert (world.spent(), world.held()) == (1_200, 0)

    asyncio.run(main())


def test_what_was_recorded_is_spooled_when_the_hold_is_dropped_after_its_loop_or_guard_has_ended(world: World) -> None:
    async def closed() -> bg.Hold:
        async with world.guard("9k tokens/day") as guard:
            return await guard.reserve(estimate=ESTIMATE)

    async def replayed() -> None:
        async with world.guard("9k tokens/day"):
            await until(lambda: world.spent() == 1_200, "the next guard delivers it")

    guard = world.guard("9k tokens/day")
    after_loop = asyncio.run(recorded(guard))
    del after_loop
    assert asyncio.run(guard.aclose()) == 1
    after_close = asyncio.run(closed())
    after_close.record(USAGE)
    del after_close
    asyncio.run(replayed())
    assert (world.statuses(), world.held()) == (["settled", "settled"], 0)


def test_a_refused_growth_sweeps_what_is_due_and_asks_once_more(world: World) -> None:
    async def dropped() -> None:
        guard = world.guard("1500 tokens/day", settings=bg.GuardSettings(on_expiry="release"))
        await guard.reserve(estimate=ESTIMATE)

    async def main() -> None:
        async with world.guard("1500 tokens/day") as guard, guard.reserve(estimate=USAGE) as hold:
            with pytest.raises(bg.BudgetExceeded):
                await hold.grow(bg.Usage(1_000, 0))
            world.clock.advance(60_000)
            await hold.grow(bg.Usage(1_000, 0))
            assert world.reserved() == 1_000
            hold.record(USAGE)
        assert sorted(world.statuses()) == ["expired", "settled"]

    asyncio.run(dropped())
    asyncio.run(main())


class Interrupts:
    """An observer during which Ctrl-C is pressed."""

    def on_event(self, event: bg.Event) -> None:
        if isinstance(event, Assumed):
            raise KeyboardInterrupt


def test_an_interrupt_while_observers_are_told_leaves_no_hold_open(world: World) -> None:
    async def main() -> None:
        async with world.guard("9k tokens/day", observers=[Interrupts()]) as guard:
            with pytest.raises(KeyboardInterrupt):
                async with guard.reserve(estimate=ESTIMATE):
                    pass
            by_hand = await guard.reserve(estimate=ESTIMATE)
            with pytest.raises(KeyboardInterrupt):
                await by_hand.settle()
        assert (world.statuses(), world.spent(), world.held()) == (["assumed", "assumed"], 1_600, 0)

    asyncio.run(main())


def test_a_stream_that_its_reader_leaves_is_cancelled_and_no_error(world: World) -> None:
    async def main() -> None:
        async with world.guard("9k tokens/day") as guard:

            async def stream() -> AsyncGenerator[int, None]:
                async with guard.reserve(estimate=ESTIMATE) as hold:
                    hold.record(USAGE)
                    yield 1
                    yield 2

            async with contextlib.aclosing(stream()) as parts:
                async for _ in parts:
                    break
        assert (world.statuses(), world.spent(), world.held()) == (["cancelled"], 600, 0)

    asyncio.run(main())
