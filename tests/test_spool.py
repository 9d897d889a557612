"""What the store cannot take now is not lost: tried again, then spooled, then delivered with one effect."""

from __future__ import annotations

import asyncio
from pathlib import Path

import apsw
import pytest
from guard_kit import BOTH, ESTIMATE, USAGE, LossyStore, World, only_on_sqlite, until

import budgetguard as bg
from budgetguard.events import Spooled, SpoolReplayed, StoreProblem
from budgetguard.stores.sqlite import SQLiteStore

STORES = BOTH
TIMEOUT_MS = 20


async def call(guard: bg.Guard, **labels: str) -> bg.Hold:
    async with guard.reserve(estimate=ESTIMATE, **labels) as hold:
        hold.record(USAGE)
    return hold


async def spooled(world: World, calls: int = 1) -> int:
    """Make calls whose settles find the store away, and close the guard; how many it says remain in the spool."""
    guard = world.guard("90k tokens/day", store=world.store(TIMEOUT_MS))
    holds = [await guard.reserve(estimate=ESTIMATE) for _ in range(calls)]
    with world.away():
        await asyncio.gather(*(hold.settle(USAGE) for hold in holds))
        return await guard.aclose()


def test_a_settle_that_finds_the_store_away_is_tried_again_and_the_caller_is_not_bothered(world: World) -> None:
    async def main() -> None:
        guard = world.guard("90k tokens/day", store=world.store(TIMEOUT_MS))
        async with guard:
            hold = await guard.reserve(estimate=ESTIMATE)
            with world.away():
                await hold.settle(USAGE)
                assert not hold.open
                assert (world.spent(), world.reserved()) == (0, 800)
            await until(lambda: world.spent() == 600, "it is tried again")
        assert (world.statuses(), world.reserved(), world.heard.of(Spooled)) == (["settled"], 0, [])
        assert world.heard.of(StoreProblem)[0].verb == "settle"

    asyncio.run(main())


def test_closing_says_how_many_remain_in_the_spool_and_the_next_guard_delivers_them(world: World) -> None:
    async def main() -> None:
        assert await spooled(world, 3) == 3
        assert [event.count for event in world.heard.of(Spooled)] == [3]
        assert (world.spent(), world.statuses()) == (0, [])
        async with world.guard("90k tokens/day"):
            await until(lambda: world.spent() == 1_800, "the next guard delivers at its start")
            await until(lambda: world.heard.of(SpoolReplayed), "it tells so")
        assert (world.statuses(), world.reserved()) == (["settled"] * 3, 0)
        assert [event.count for event in world.heard.of(SpoolReplayed)] == [3]
        assert await world.guard("90k tokens/day").aclose() == 0

    asyncio.run(main())


def test_the_guard_that_spooled_delivers_as_soon_as_the_store_is_back(world: World) -> None:
    async def main() -> None:
        guard = world.guard("90k tokens/day", store=world.store(TIMEOUT_MS))
        async with guard:
            hold = await guard.reserve(estimate=ESTIMATE)
            with world.away():
                await hold.settle(USAGE)
                await until(lambda: world.heard.of(Spooled), "it is spooled")
            await until(lambda: world.spent() == 600, "it is replayed")

    asyncio.run(main())


def test_two_guards_that_deliver_the_same_spool_have_one_effect(world: World) -> None:
    async def main() -> None:
        await spooled(world, 20)
        async with world.guard("90k tokens/day"), world.guard("90k tokens/day"):
            await until(lambda: world.spent() == 20 * 600, "they deliver")
        assert (len(world.statuses()), world.reserved()) == (20, 0)
        assert await world.guard("90k tokens/day").aclose() == 0

    asyncio.run(main())


def test_a_settle_whose_answer_was_lost_is_charged_once(world: World) -> None:
    async def main() -> None:
        store = LossyStore(world.store())
        guard = world.guard("90k tokens/day", store=store)
        store.lost = {"settle"}
        await call(guard)
        assert await guard.aclose() == 1
        async with world.guard("90k tokens/day") as again:
            await until(lambda: world.heard.of(SpoolReplayed), "it is delivered again")
            assert await again.available() == {"tokens": 90_000 - 600}
        assert world.statuses() == ["settled"]

    asyncio.run(main())


@only_on_sqlite
def test_what_cannot_be_delivered_holds_up_nothing_else(world: World, tmp_path: Path) -> None:
    def spoil(spent: object) -> None:
        db = apsw.Connection(str(world.path))
        db.execute("UPDATE accounts SET spent = ? WHERE per LIKE '%bad%'", (spent,))
        db.close()

    async def main() -> None:
        guard = world.guard(budgets=[bg.Budget("each-agent", ["90k tokens/day"], per=["agent"])])
        holds = [await guard.reserve(agent=agent, estimate=ESTIMATE) for agent in ("bad", "good", "good")]
        spoil("x")
        await asyncio.gather(*(hold.settle(USAGE) for hold in holds))
        assert world.spent() == 1_200
        assert await guard.aclose() == 1
        assert world.statuses() == ["settled", "settled"]
        spoil(0)
        async with world.guard("90k tokens/day"):
            await until(lambda: len(world.statuses()) == 3, "it is delivered once it can be")

    asyncio.run(main())


def test_without_a_store_and_without_a_spool_nothing_is_lost_and_it_is_told_aloud(world: World, tmp_path: Path) -> None:
    in_the_way = tmp_path / "state" / "budgetguard"

    async def main() -> None:
        guard = world.guard("90k tokens/day", store=world.store(TIMEOUT_MS))
        in_the_way.parent.mkdir()
        in_the_way.write_text("a file where a folder should be")
        hold = await guard.reserve(estimate=ESTIMATE)
        with world.away():
            await hold.settle(USAGE)
            await until(lambda: [e for e in world.heard.of(StoreProblem) if e.verb == "spool"], "it is told")
            with pytest.raises(bg.StoreUnusable, match="1 settles and releases could be neither delivered nor spooled"):
                await guard.aclose()
        assert world.spent() == 0
        assert await guard.aclose() == 0
        assert (world.spent(), world.statuses()) == (600, ["settled"])
        assert {event.level for event in world.heard.of(StoreProblem)} == {"error"}

    asyncio.run(main())


def test_without_a_spool_a_guard_goes_on_trying_until_the_store_is_back(world: World, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where a folder should be")

    async def main() -> None:
        guard = world.guard("90k tokens/day", store=world.store(TIMEOUT_MS))
        async with guard:
            hold = await guard.reserve(estimate=ESTIMATE)
            with world.away():
                await hold.settle(USAGE)
                await until(lambda: [e for e in world.heard.of(StoreProblem) if e.verb == "spool"], "it is told")
            await until(lambda: world.spent() == 600, "it is delivered")

    asyncio.run(main())


def test_a_file_that_was_replaced_admits_nothing_and_what_was_used_is_kept(world: World) -> None:
    async def main() -> None:
        guard = world.guard("90k tokens/day")
        hold = await guard.reserve(estimate=ESTIMATE)
        world.lose()
        with pytest.raises(bg.StateLost, match="budgetguard init --accept-loss"):
            await guard.reserve(estimate=ESTIMATE)
        await hold.settle(USAGE)
        assert await guard.aclose() == 1

    asyncio.run(main())


@pytest.mark.parametrize("fault", ["lost", "refused"])
def test_a_reserve_of_unknown_outcome_is_followed_by_a_release(world: World, fault: str) -> None:
    async def main() -> None:
        store = LossyStore(world.store())
        guard = world.guard("90k tokens/day", store=store)
        async with guard:
            setattr(store, fault, {"reserve"})
            with pytest.raises(bg.StoreAway):
                await guard.reserve(estimate=ESTIMATE)
            await until(lambda: "release" in store.asked, "the release is sent")
        assert world.states() == ["released" if fault == "lost" else "tombstone"]
        assert (world.reserved(), world.statuses()) == (0, [])

    asyncio.run(main())


def test_a_release_that_cannot_be_delivered_is_spooled_too(world: World) -> None:
    async def main() -> None:
        store = LossyStore(world.store())
        guard = world.guard("90k tokens/day", store=store)
        store.lost, store.refused = {"reserve"}, {"release"}
        with pytest.raises(bg.StoreAway):
            await guard.reserve(estimate=ESTIMATE)
        assert await guard.aclose() == 1
        assert world.reserved() == 800
        async with world.guard("90k tokens/day"):
            await until(lambda: world.reserved() == 0, "the next guard releases it")

    asyncio.run(main())


@pytest.mark.parametrize(("fault", "status"), [("lost", "settled"), ("refused", "late")])
def test_where_calls_go_on_without_the_store_they_keep_their_id_and_are_settled(
    world: World, tmp_path: Path, fault: str, status: str
) -> None:
    file = tmp_path / "budgetguard.toml"
    file.write_text('[store]\non_store_away = "allow"\n[[budget]]\nname = "all"\nlimits = ["700 tokens/day"]\n')

    async def main() -> None:
        store = LossyStore(world.store())
        async with bg.Guard.from_toml(file, store=store, observers=[world.heard]) as guard:
            setattr(store, fault, {"reserve", "grow"})
            async with guard.reserve(estimate=bg.Usage(500, 0)) as hold:
                await hold.grow(bg.Usage(600, 0))
                hold.record(USAGE)
            assert [event.let_through for event in world.heard.of(StoreProblem)] == [True, True]
            assert (world.row(hold.id)["status"], world.spent(), world.reserved()) == (status, 600, 0)
            setattr(store, fault, set())
            with pytest.raises(bg.BudgetExceeded):
                await guard.reserve(estimate=bg.Usage(101, 0))

    asyncio.run(main())


def test_lost_state_refuses_even_where_calls_go_on_without_the_store(world: World, tmp_path: Path) -> None:
    file = tmp_path / "budgetguard.toml"
    file.write_text('[store]\non_store_away = "allow"\n[[budget]]\nname = "all"\nlimits = ["700 tokens/day"]\n')

    async def main() -> None:
        async with bg.Guard.from_toml(file, store=world.store()) as guard:
            await (await guard.reserve(estimate=USAGE)).release()
            world.lose()
            with pytest.raises(bg.StateLost):
                await guard.reserve(estimate=bg.Usage(1, 0))

    asyncio.run(main())


def test_a_store_in_memory_has_its_spool_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    async def main() -> None:
        store = LossyStore(SQLiteStore(":memory:"))
        store.refused = {"settle"}
        guard = bg.Guard("90k tokens/day", store=store)  # type: ignore[arg-type]
        await call(guard)
        assert await guard.aclose() == 1
        assert list(tmp_path.iterdir()) == []

    asyncio.run(main())
