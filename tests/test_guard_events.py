"""What observers are told of a guard's calls beside refusals: alerts once in the fleet, overage, what was rejected."""

from __future__ import annotations

import asyncio
import gc
import weakref
from contextvars import ContextVar

import pytest
from guard_kit import BOTH, ESTIMATE, MODEL, USAGE, LossyStore, World, only_on_sqlite, until
from store_kit import amounts, ask_one, settle

import budgetguard as bg
from budgetguard.events import AlertReached, Overage, Settled, SettleRejected

STORES = BOTH


async def call(guard: bg.Guard, usage: bg.Usage = USAGE) -> bg.Hold:
    async with guard.reserve(model=MODEL, estimate=ESTIMATE) as hold:
        hold.record(usage)
    return hold


def test_each_threshold_is_told_once_in_the_fleet(world: World) -> None:
    async def main() -> None:
        budgets = [bg.Budget("all", ["2k tokens/day"], alert_at=[0.25, 0.5, 0.8])]
        guards = [world.guard(budgets=budgets) for _ in range(3)]
        async with guards[0], guards[1], guards[2]:
            await call(guards[0])
            await call(guards[1])
            await call(guards[2], bg.Usage(500, 0))
        told = [(alert.threshold, alert.level_reached, alert.limit) for alert in world.heard.of(AlertReached)]
        assert told == [(500, 600, 2_000), (1_000, 1_200, 2_000), (1_600, 1_700, 2_000)]

    asyncio.run(main())


def test_what_is_reserved_at_once_is_told_when_it_is_reserved(world: World) -> None:
    async def main() -> None:
        guard = world.guard(budgets=[bg.Budget("all", ["4 concurrent"], alert_at=[0.5])])
        async with guard, guard.reserve() as first:
            assert world.heard.of(AlertReached) == []
            async with guard.reserve() as second:
                assert [alert.threshold for alert in world.heard.of(AlertReached)] == [2]
                second.record(USAGE)
            first.record(USAGE)

    asyncio.run(main())


def test_a_call_above_its_reservation_is_told_with_the_accounts_above_their_limit(world: World) -> None:
    async def main() -> None:
        guard = world.guard("900 tokens/day", "9k tokens/hour")
        async with guard:
            hold = await call(guard, bg.Usage(1_000, 0))
        (told,) = world.heard.of(Overage)
        assert (told.reservation_id, told.overage.tokens, told.overage.usd) == (hold.id, 200, 0)
        assert (told.overdrawn, told.subject) == (1, {"model": MODEL})

    asyncio.run(main())


def test_a_settle_that_disagrees_with_the_books_is_told_and_the_books_stand(world: World) -> None:
    async def main() -> None:
        guard = world.guard("9k tokens/day")
        async with guard, guard.reserve(estimate=ESTIMATE) as hold:
            other = world.store()
            await ask_one(other, settle(hold.id, hold._call.plan, amounts(5)))
            await other.aclose()
            hold.record(USAGE)
        assert [(event.reservation_id, event.word) for event in world.heard.of(SettleRejected)] == [
            (hold.id, "conflict")
        ]
        assert (world.spent(), world.heard.of(Settled)) == (5, [])

    asyncio.run(main())


def test_a_guard_keeps_nothing_of_whoever_used_it_first(world: World) -> None:
    class Request:
        """What a server keeps in its context."""

    request: ContextVar[Request] = ContextVar("request")

    async def serve(guard: bg.Guard) -> weakref.ref[Request]:
        mine = Request()
        request.set(mine)
        await call(guard)
        return weakref.ref(mine)

    async def main() -> None:
        store = world.store(timeout_ms=1_000)
        store.hurries = True  # on Redis
        guard = world.guard("9k tokens/day", store=store)
        kept = await asyncio.create_task(serve(guard))
        # The deadlines of the store's verbs, though met, stand in the loop until their time has come.
        await until(lambda: gc.collect() >= 0 and kept() is None, "it is let go of")
        await guard.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("mode", ["enforce", "shadow"])
def test_every_settled_call_is_told(world: World, mode: str) -> None:
    async def main() -> None:
        guard = world.guard("9k tokens/day", mode=mode)
        async with guard:
            hold = await call(guard)
        (told,) = world.heard.of(Settled)
        assert (told.reservation_id, told.status, told.input_tokens, told.output_tokens) == (
            hold.id,
            "settled",
            500,
            100,
        )
        assert (told.cost_nanousd, dict(told.subject)) == (700_000, {"model": MODEL})

    asyncio.run(main())


@only_on_sqlite
def test_a_settle_that_was_recorded_and_never_answered_is_told_once(world: World) -> None:
    async def main() -> None:
        store = LossyStore(world.store())
        async with world.guard("90k tokens/day", store=store) as guard:
            store.lost.add("settle")
            await call(guard)
            await until(lambda: store.asked.count("settle") >= 3, "the courier has tried it again, in vain too")
            store.lost.clear()

    asyncio.run(main())
    assert [event.input_tokens for event in world.heard.of(Settled)] == [500]
    assert world.spent() == 600
