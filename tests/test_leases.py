"""Leases: the heartbeat of a hold that lives, the end of one that nobody has any more, the settle that is late."""

from __future__ import annotations

import asyncio
import gc

import pytest
from guard_kit import BOTH, ESTIMATE, USAGE, LossyStore, World, until
from store_kit import NOON_MS

import budgetguard as bg
from budgetguard.events import Assumed, Expired, Late, LeaseLost, StoreProblem

STORES = BOTH
LEASE_MS = 150
"""Short, so that heartbeats (a third) and sweeps (a quarter) come soon; the store's time stands still meanwhile."""
SHORT = bg.GuardSettings(lease_ms=LEASE_MS)


async def abandoned(world: World, **settings: object) -> str:
    """The id of a call whose event loop ends with it: nobody holds it, and nobody extends it."""
    guard = world.guard("1k tokens/day", "1 concurrent", settings=bg.GuardSettings(**settings))  # type: ignore[arg-type]
    return (await guard.reserve(estimate=ESTIMATE)).id


async def refused(guard: bg.Guard) -> bg.BudgetExceeded:
    with pytest.raises(bg.BudgetExceeded) as caught:
        await guard.reserve(estimate=ESTIMATE)
    return caught.value


def test_the_heartbeat_extends_the_lease_as_long_as_the_hold_lives(world: World) -> None:
    async def main() -> None:
        guard = world.guard("9k tokens/day", settings=SHORT)
        async with guard, guard.reserve(estimate=ESTIMATE) as hold:
            assert world.lease_end_ms(hold.id) == NOON_MS + LEASE_MS
            for step in range(1, 5):
                world.clock.advance(100)
                wanted = NOON_MS + step * 100 + LEASE_MS
                await until(lambda wanted=wanted: world.lease_end_ms(hold.id) == wanted, "the lease is extended")
            hold.record(USAGE)
        assert (world.statuses(), world.heard.of(Expired)) == (["settled"], [])

    asyncio.run(main())


def test_a_store_that_is_away_for_a_while_does_not_end_the_heartbeat(world: World) -> None:
    async def main() -> None:
        store = LossyStore(world.store())
        guard = world.guard("9k tokens/day", settings=SHORT, store=store)
        async with guard, guard.reserve(estimate=ESTIMATE) as hold:
            store.refused = {"extend"}
            await until(lambda: [p for p in world.heard.of(StoreProblem) if p.verb == "beat"], "a beat is missed")
            store.refused = set()
            world.clock.advance(100)
            await until(lambda: world.lease_end_ms(hold.id) == NOON_MS + 100 + LEASE_MS, "the lease is extended")
            hold.record(USAGE)
        assert world.statuses() == ["settled"]

    asyncio.run(main())


def test_a_guard_that_was_paused_does_not_expire_its_own_living_holds(world: World) -> None:
    async def main() -> None:
        store = LossyStore(world.store())
        guard = world.guard("9k tokens/day", settings=SHORT, store=store)
        async with guard, guard.reserve(estimate=ESTIMATE) as hold:
            store.refused = {"extend"}
            world.clock.advance(10 * LEASE_MS)
            sweeps = store.asked.count("due")
            await until(lambda: store.asked.count("due") >= sweeps + 2, "the guard sweeps")
            store.refused = set()
            await until(lambda: world.lease_end_ms(hold.id) == NOON_MS + 11 * LEASE_MS, "the lease is extended")
            hold.record(USAGE)
        assert world.statuses() == ["settled"]

    asyncio.run(main())


def test_after_max_hold_the_heartbeat_ends_and_the_call_is_charged_as_estimated(world: World) -> None:
    async def main() -> None:
        settings = bg.GuardSettings(lease_ms=LEASE_MS, max_hold_ms=10_000)
        guard = world.guard("9k tokens/day", settings=settings)
        async with guard, guard.reserve(estimate=ESTIMATE) as hold:
            end_ms = world.clock.advance(10_000) + LEASE_MS
            await until(lambda: world.lease_end_ms(hold.id) == end_ms, "the beat that hears how late it is")
            world.clock.advance(LEASE_MS)
            await until(lambda: world.statuses() == ["expired"], "it is swept")
            assert (world.spent(), world.reserved()) == (800, 0)
            hold.record(USAGE)
        assert (world.row(hold.id)["status"], world.spent()) == ("late", 600)

    asyncio.run(main())


def test_a_hold_that_nobody_has_any_more_expires_and_is_charged(world: World) -> None:
    async def main() -> None:
        guard = world.guard("9k tokens/day", settings=SHORT)
        async with guard:
            hold: bg.Hold | None = await guard.reserve(estimate=ESTIMATE)
            assert hold is not None
            id, hold = hold.id, None
            gc.collect()
            world.clock.advance(LEASE_MS)
            await until(lambda: world.statuses() == ["expired"], "its own guard sweeps it")
        row = world.row(id)
        assert (row["total_tokens"], row["expired_tokens"], world.reserved()) == (800, 800, 0)
        assert [event.reservation_id for event in world.heard.of(Expired)] == [id]

    asyncio.run(main())


def test_the_guard_of_another_process_sweeps_what_a_dead_one_left(world: World) -> None:
    id = asyncio.run(abandoned(world))
    world.clock.advance(60_000)

    async def main() -> None:
        async with world.guard("9k tokens/day", settings=SHORT):
            await until(lambda: world.statuses() == ["expired"], "the other guard sweeps it")

    asyncio.run(main())
    assert [event.reservation_id for event in world.heard.of(Expired)] == [id]


def test_a_refusal_sweeps_what_is_due_and_asks_once_more(world: World) -> None:
    asyncio.run(abandoned(world, on_expiry="release"))

    async def main() -> None:
        guard = world.guard("1k tokens/day", "1 concurrent")
        async with guard:
            assert [violation.reason for violation in (await refused(guard)).violations] == ["held", "held"]
            world.clock.advance(60_000)
            async with guard.reserve(estimate=ESTIMATE) as hold:
                hold.record(USAGE)
        assert sorted(world.statuses()) == ["expired", "settled"]
        assert world.spent() == 600

    asyncio.run(main())


def test_what_expired_is_charged_and_still_refuses_where_the_policy_does_not_say_release(world: World) -> None:
    id = asyncio.run(abandoned(world))

    async def main() -> None:
        guard = world.guard("1k tokens/day", "1 concurrent")
        async with guard:
            world.clock.advance(60_000)
            (violation,) = (await refused(guard)).violations
            assert (violation.account.unit, violation.reason, violation.spent) == ("tokens", "spent", 800)
        assert world.row(id)["status"] == "expired"

    asyncio.run(main())


def test_many_refusals_share_one_sweep(world: World) -> None:
    asyncio.run(abandoned(world))

    async def main() -> None:
        store = LossyStore(world.store())
        guard = world.guard("1k tokens/day", "1 concurrent", store=store)
        async with guard:
            world.clock.advance(60_000)
            await asyncio.gather(*(refused(guard) for _ in range(50)))
            assert (store.asked.count("due"), store.asked.count("expire")) == (1, 1)

    asyncio.run(main())


def test_a_sweep_that_fails_leaves_the_refusal_as_it_was(world: World) -> None:
    asyncio.run(abandoned(world))

    async def main() -> None:
        store = LossyStore(world.store())
        guard = world.guard("1k tokens/day", "1 concurrent", store=store)
        async with guard:
            world.clock.advance(60_000)
            store.refused = {"due"}
            assert [violation.reason for violation in (await refused(guard)).violations] == ["held", "held"]

    asyncio.run(main())


@pytest.mark.parametrize("recorded", [True, False])
def test_a_hold_whose_lease_was_lost_is_told_so_and_settled_late(world: World, recorded: bool) -> None:
    async def main() -> None:
        store = LossyStore(world.store())
        guard, other = world.guard("900 tokens/day", settings=SHORT, store=store), world.guard("900 tokens/day")
        async with guard, other, guard.reserve(estimate=ESTIMATE) as hold:
            store.refused = {"extend"}
            while not world.statuses():  # a beat may be under way still
                world.clock.advance(10 * LEASE_MS)
                await refused(other)
            store.refused = set()
            await until(lambda: hold.lease_lost, "the holder is told")
            assert (world.spent(), world.statuses()) == (800, ["expired"])
            if recorded:
                hold.record(USAGE)
        row = world.row(hold.id)
        assert [event.reservation_id for event in world.heard.of(LeaseLost)] == [hold.id]
        if recorded:
            assert (row["status"], row["total_tokens"], row["expired_tokens"], world.spent()) == ("late", 600, 800, 600)
            assert [event.reservation_id for event in world.heard.of(Late)] == [hold.id]
        else:
            assert (row["status"], row["total_tokens"], world.spent()) == ("assumed", 800, 800)
            assert len(world.heard.of(Assumed)) == 1

    asyncio.run(main())
