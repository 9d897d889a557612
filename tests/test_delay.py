"""Delay: calls wait in the order in which they came, large ones are not passed, and nobody waits in vain."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from delay_kit import ONE_AT_A_TIME, ROOM, in_line, soon, taken, waits
from guard_kit import BOTH, ESTIMATE, USAGE, LossyStore, World, until
from store_kit import MINUTE_MS

import budgetguard as bg
from budgetguard import waiting
from budgetguard.core import balances
from budgetguard.events import Delayed

STORES = BOTH


@pytest.fixture
def no_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is admitted was woken: a head that is not asks again only after 30 s, which no test waits."""
    monkeypatch.setattr(waiting, "POLL_S", 600.0)
    monkeypatch.setattr(balances, "HELD_RETRY_MS", 30_000)


@pytest.mark.usefixtures("no_polls")
def test_what_is_returned_here_wakes_the_waiter_at_once(world: World) -> None:
    async def main() -> None:
        store = LossyStore(world.store())
        guard = world.guard(budgets=[ONE_AT_A_TIME], store=store)
        async with guard:
            for end in (lambda hold: hold.release(), lambda hold: hold.settle(USAGE)):
                first = await taken(guard)
                waiter = await waits(guard)
                asked = store.asked.count("reserve")
                await end(first)
                second = await soon(waiter)
                assert store.asked.count("reserve") == asked + 1
                await second.release()
        assert all(0 <= event.waited_ms < 10_000 for event in world.heard.of(Delayed))
        assert len(world.heard.of(Delayed)) == 2

    asyncio.run(main())


def test_what_another_process_returns_is_noticed_by_the_head_of_the_line(world: World) -> None:
    async def main() -> None:
        guard, other = (world.guard(budgets=[ONE_AT_A_TIME]) for _ in range(2))
        async with guard, other:
            held = await taken(other)
            waiters = [await waits(guard) for number in range(3)]
            await held.release()
            for waiter in waiters:
                await (await soon(waiter)).release()

    asyncio.run(main())


@pytest.mark.usefixtures("no_polls")
def test_what_a_sweep_returns_wakes_the_waiter_at_once(world: World) -> None:
    async def abandon() -> None:
        await world.guard(budgets=[ONE_AT_A_TIME]).reserve()

    async def main() -> None:
        guard = world.guard(budgets=[ONE_AT_A_TIME], settings=bg.GuardSettings(lease_ms=150))
        async with guard:
            waiter = await waits(guard)
            world.clock.advance(MINUTE_MS)
            await (await soon(waiter)).release()

    asyncio.run(abandon())
    asyncio.run(main())


@pytest.mark.usefixtures("no_polls")
def test_waiters_are_admitted_in_the_order_in_which_they_came(world: World) -> None:
    async def main() -> None:
        guard = world.guard(budgets=[ONE_AT_A_TIME])
        order: list[int] = []

        async def call(number: int) -> None:
            hold = await guard.reserve()
            order.append(number)
            await hold.release()

        async with guard:
            held = await taken(guard)
            async with asyncio.timeout(60), asyncio.TaskGroup() as group:
                for number in range(20):
                    group.create_task(call(number))
                await until(lambda: in_line(guard) == 20, "all wait")
                await held.release()
        assert order == sorted(order)
        assert [event.waited_ms < 20_000 for event in world.heard.of(Delayed)] == [True] * 20

    asyncio.run(main())


@pytest.mark.usefixtures("no_polls")
def test_a_large_call_is_not_passed_by_those_that_count_against_the_same_account(world: World) -> None:
    async def main() -> None:
        each = bg.Budget("each-agent", ["700 tokens/hour"], per=["agent"], on_exceed="delay", max_delay="60s")
        guard = world.guard(budgets=[each, bg.Budget("calls", ["100 requests/day", "$5/day"])])
        async with guard:
            held = await taken(guard, agent="a", estimate=bg.Usage(600, 0, cost_usd=0))
            large = await waits(guard, agent="a", estimate=bg.Usage(700, 0, cost_usd=0))
            small = await waits(guard, agent="a", estimate=bg.Usage(10, 0, cost_usd=0))
            # It would fit: 600 + 10 <= 700. Others pass freely, and so does what asks nothing of that account.
            other = await taken(guard, agent="b", estimate=bg.Usage(10, 0, cost_usd=0))
            free = await taken(guard, agent="a", estimate=bg.Usage(0, 0, cost_usd=1))
            await held.release()
            hold = await soon(large)
            assert not small.done()
            await hold.release()
            for open_hold in (await soon(small), other, free):
                await open_hold.release()

    asyncio.run(main())


@pytest.mark.usefixtures("no_polls")
def test_no_stream_of_small_calls_starves_a_large_one(world: World) -> None:
    async def main() -> None:
        guard = world.guard(budgets=[ROOM])
        admitted: list[str] = []

        async def small(number: int) -> None:
            for _ in range(5):
                hold = await guard.reserve(estimate=bg.Usage(100, 0))
                admitted.append("small")
                await asyncio.sleep(0)
                await hold.release()

        async def large() -> None:
            hold = await guard.reserve(estimate=bg.Usage(1_000, 0))
            admitted.append("large")
            await hold.release()

        async with guard:
            async with asyncio.timeout(60), asyncio.TaskGroup() as group:
                for number in range(15):
                    group.create_task(small(number))
                await until(lambda: len(admitted) >= 10, "the small ones are under way")
                group.create_task(large())
            assert world.reserved() == 0
        # At most those that were in the line or in the store when the large one came, and not their later calls.
        assert admitted.index("large") <= 10 + 15 + 15
        assert len(admitted) == 76

    asyncio.run(main())


@pytest.mark.usefixtures("no_polls")
def test_a_new_version_of_the_policy_wakes_everybody(world: World, tmp_path: Path) -> None:
    file = tmp_path / "budgetguard.toml"

    def write(text: str) -> None:
        file.write_text(f'{text}\n[[budget]]\nname = "room"\nlimits = ["1k tokens/day"]\non_exceed = "delay"\n')
        os.utime(file, ns=(1, len(text)))

    async def main() -> None:
        write("")
        guard = bg.Guard.from_toml(file, store=world.store(), observers=[world.heard])
        async with guard:
            held = await taken(guard, estimate=ESTIMATE)
            waiters = [await waits(guard, estimate=ESTIMATE) for number in range(3)]
            write('mode = "shadow"')
            guard.reload()
            for hold in [await soon(waiter) for waiter in waiters]:
                await hold.release()
            await held.release()

    asyncio.run(main())


@pytest.mark.usefixtures("no_polls")
def test_a_waiter_that_is_cancelled_wakes_the_next(world: World) -> None:
    async def main() -> None:
        guard = world.guard(budgets=[ROOM])
        async with guard:
            held = await taken(guard, estimate=bg.Usage(600, 0))
            large = await waits(guard, estimate=bg.Usage(900, 0))
            small = await waits(guard, estimate=bg.Usage(400, 0))
            large.cancel()
            with pytest.raises(asyncio.CancelledError):
                await large
            await (await soon(small)).release()
            await held.release()
        assert (world.reserved(), world.statuses()) == (0, [])

    asyncio.run(main())


@pytest.mark.usefixtures("no_polls")
def test_however_long_a_call_has_waited_it_is_not_too_old_for_the_store(world: World) -> None:
    async def main() -> None:
        settings = bg.GuardSettings(replay_keep_ms=1_000)
        guard = world.guard(budgets=[ONE_AT_A_TIME], settings=settings)
        async with guard:
            held = await taken(guard)
            waiters = [await waits(guard) for number in range(2)]
            world.clock.advance(30_000)
            await held.release()
            for waiter in waiters:
                await (await soon(waiter)).release()

    asyncio.run(main())


@pytest.mark.usefixtures("no_polls")
def test_a_store_that_goes_away_while_a_call_waits_refuses_it_and_lets_the_next_look(world: World) -> None:
    async def main() -> None:
        store = LossyStore(world.store())
        guard = world.guard(budgets=[ONE_AT_A_TIME], store=store)
        async with guard:
            held = await taken(guard)
            waiters = [await waits(guard) for number in range(2)]
            store.refused = {"reserve"}
            await held.release()
            for waiter in waiters:
                with pytest.raises(bg.StoreAway):
                    await soon(waiter)
            store.refused = set()
            await (await taken(guard)).release()

    asyncio.run(main())


def test_a_thousand_waiters_for_a_reset_ask_the_store_at_most_twice_each(world: World) -> None:
    async def main() -> None:
        store = LossyStore(world.store())
        budget = bg.Budget("burst", ["1000 requests/minute"], on_exceed="delay", max_delay="5m")
        guard = world.guard(budgets=[budget], store=store)
        order: list[int] = []

        async def call(number: int) -> None:
            hold = await guard.reserve()
            order.append(number)
            await hold.settle(USAGE)

        async with guard:
            await asyncio.gather(*(call(-1) for _ in range(1_000)))
            del order[:]
            calls = [asyncio.create_task(call(number)) for number in range(1_000)]
            await until(lambda: in_line(guard) == 1_000, "all wait")
            store.asked.clear()
            world.clock.advance(MINUTE_MS)
            async with asyncio.timeout(60):
                await asyncio.gather(*calls)
        assert order == list(range(1_000))
        print(f"{store.asked.count('reserve')} reserves admitted 1,000 waiters")
        assert store.asked.count("reserve") <= 2_000
        assert (world.reserved(), len(world.heard.of(Delayed))) == (0, 1_000)

    asyncio.run(main())
