"""What a guard owes while it is closed, reloaded or swept, and some of what it meets is spoiled."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from delay_kit import ONE_AT_A_TIME, soon, taken, waits
from guard_kit import ESTIMATE, USAGE, World, until
from store_kit import NOON_MS, rows
from test_guard_reload import write
from virtual_time import Patiently, VirtualLoop, run

import budgetguard as bg
from budgetguard.events import Expired, LeaseLost, PolicyReloaded, StoreProblem
from budgetguard.stores.sqlite import SQLiteStore


def test_who_waits_when_the_guard_is_closed_is_told_so_and_not_admitted(world: World) -> None:
    async def main() -> None:
        guard = world.guard(budgets=[ONE_AT_A_TIME, bg.Budget("all", ["9k tokens/day"])])
        hold = await taken(guard, estimate=ESTIMATE)
        waiters = [await waits(guard, estimate=ESTIMATE) for _ in range(3)]
        await guard.aclose()
        await hold.settle(USAGE)
        for waiter in waiters:
            with pytest.raises(bg.GuardClosed):
                await soon(waiter)
        assert (world.statuses(), world.held(), world.spent()) == (["settled"], 0, 600)

    asyncio.run(main())


class Noon:
    """A store's clock that goes with a loop's time, from noon."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def now_ms(self) -> int:
        return NOON_MS + self._loop.now_ms()


@pytest.mark.parametrize("reloads", [1, 40])
def test_a_shorter_lease_is_kept_from_the_reload_on(world: World, tmp_path: Path, reloads: int) -> None:
    """The heartbeat of a minute's lease would come after 20 s; reloading again and again does not put it off."""
    loop, file = VirtualLoop(), tmp_path / "budgetguard.toml"
    write(file, "9k tokens/day")

    async def main() -> None:
        stores = [Patiently(SQLiteStore(str(world.path), clock=Noon(loop)), loop) for _ in range(2)]
        holder = bg.Guard.from_toml(file, store=stores[0], observers=[world.heard])
        sweeper = world.guard("9k tokens/day", store=stores[1], settings=bg.GuardSettings(lease_ms=1_000))
        async with holder, sweeper:
            write(file, "9k tokens/day", '[guard]\nlease = "1s"')
            holder.reload()
            async with holder.reserve(estimate=ESTIMATE) as hold:
                for _ in range(reloads):
                    await asyncio.sleep(15 / reloads)
                    holder.reload()
                hold.record(USAGE)
        assert world.statuses() == ["settled"]
        assert world.heard.of(Expired) == world.heard.of(LeaseLost) == []

    run(loop, main())


def test_one_spoiled_reservation_hides_neither_what_expired_nor_whose_lease_was_lost(world: World) -> None:
    async def main() -> None:
        holder = world.guard("1700 tokens/day", settings=bg.GuardSettings(lease_ms=3_000))  # a beat a second
        async with holder, world.guard("1700 tokens/day") as other:
            spoiled, lost = await taken(holder, estimate=ESTIMATE), await taken(holder, estimate=ESTIMATE)
            rows(world.path, "UPDATE reservations SET body = '' WHERE id = ?", spoiled.id)
            world.clock.advance(60_000)
            with pytest.raises(bg.BudgetExceeded):
                await other.reserve(estimate=ESTIMATE)
            assert [event.reservation_id for event in world.heard.of(Expired)] == [lost.id]
            await until(lambda: lost.lease_lost, "the holder is told")
        assert [event.reservation_id for event in world.heard.of(LeaseLost)] == [lost.id]
        assert {problem.verb for problem in world.heard.of(StoreProblem)} >= {"expire", "beat"}
        assert all(spoiled.id in problem.error for problem in world.heard.of(StoreProblem))

    asyncio.run(main())


def test_a_reload_announces_no_other_store_before_the_process_starts_again(world: World, tmp_path: Path) -> None:
    file = tmp_path / "budgetguard.toml"
    write(file, "1k tokens/day")
    guard = bg.Guard.from_toml(file, store=world.store(), observers=[world.heard])
    write(file, "1k tokens/day", '[store]\nurl = "sqlite:///other.db"\nnamespace = "b"\non_store_away = "allow"')
    guard.reload()
    write(file, "1k tokens/day", '[store]\ntimeout = "3s"\noutbox_max = 5\nledger = "none"\nallow_eviction = true')
    guard.reload()
    write(file, "1k tokens/day")
    guard.reload()
    later = "takes effect when the process starts again"
    assert [event.resets for event in world.heard.of(PolicyReloaded)] == [
        tuple(f"store.{name}: {later}" for name in names)
        for names in (("url", "namespace"), ("timeout", "outbox_max", "ledger", "allow_eviction"), ())
    ]
