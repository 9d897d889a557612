"""What a guard asks of a store beside the verbs: it takes leave, looks at the backlog, collects pages, hears "full"."""

from __future__ import annotations

import asyncio
import types
from collections import Counter
from pathlib import Path
from typing import Any, cast

import pytest
from guard_kit import ESTIMATE, USAGE, LossyStore, World, until

import budgetguard as bg
from budgetguard.cli.sources import opened
from budgetguard.events import OutboxFilling, StoreProblem
from budgetguard.logs import LogObserver
from budgetguard.status import every
from budgetguard.store import Backlog, Page


async def settle_beside(guard: bg.Guard) -> None:
    """A call whose settle has not begun when the event loop ends."""
    hold = await guard.reserve(estimate=ESTIMATE)
    task = asyncio.get_running_loop().create_task(hold.settle(USAGE))
    task.add_done_callback(lambda _: None)


def test_each_event_loop_takes_leave_of_the_store_once_everything_is_delivered(world: World) -> None:
    store = LossyStore(world.store())
    guard = world.guard("9k tokens/day", store=store)
    for number in range(1, 3):
        asyncio.run(settle_beside(guard))
        assert (store.asked[-2:], store.asked.count("leave")) == (["settle", "leave"], number)
        assert (world.spent(), world.reserved()) == (600 * number, 0)

    async def main() -> None:
        async with guard.reserve(estimate=ESTIMATE):
            pass
        await guard.aclose()

    asyncio.run(main())
    assert (store.asked[-2:], store.asked.count("leave")) == (["leave", "aclose"], 3)


class Cancelled(LossyStore):
    """A store that cancels a settle, as one does whose own tasks end with the event loop."""

    async def settle(self, ops: Any) -> Any:
        raise asyncio.CancelledError


def test_it_takes_leave_though_the_end_fails(world: World) -> None:
    store = Cancelled(world.store())
    guard = world.guard("9k tokens/day", store=store)
    asyncio.run(settle_beside(guard))
    assert (store.asked[-1], world.reserved()) == ("leave", 800)
    assert asyncio.run(guard.aclose()) == 1, "it is in the spool"


def test_it_takes_leave_though_a_settle_is_neither_delivered_nor_spooled(world: World, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where a folder should be")
    store = LossyStore(world.store())
    guard = world.guard("9k tokens/day", store=store)

    async def main() -> None:
        hold = await guard.reserve(estimate=ESTIMATE)
        hold.record(USAGE)
        store.refused = {"settle"}
        with pytest.raises(bg.StoreUnusable, match="1 settles and releases could be neither delivered nor spooled"):
            await guard.aclose()

    asyncio.run(main())
    assert store.asked[-2:] == ["settle", "leave"]
    store.refused = set()
    assert asyncio.run(guard.aclose()) == 0
    assert (world.spent(), store.asked[-1]) == (600, "aclose")


class Filling(LossyStore):
    """A store with so many rows in its outbox."""

    rows: int | None = None
    looks = 0

    async def backlog(self) -> Backlog | None:
        self.looks += 1
        if "backlog" in self.refused:
            raise bg.StoreAway("nobody answers")
        return None if self.rows is None else Backlog(self.rows, 1_000)


def test_the_sweep_tells_when_the_outbox_is_four_fifths_full(world: World) -> None:
    async def main() -> None:
        store = Filling(world.store())
        guard = world.guard("9k tokens/day", store=store, settings=bg.GuardSettings(lease_ms=100))
        async with guard:
            await guard.status()
            for rows in (None, 799):
                store.rows, store.looks = rows, 0
                await until(lambda: store.looks >= 2, "it is looked at")
                assert not world.heard.of(OutboxFilling)
            store.refused = {"backlog"}
            await until(lambda: world.heard.of(StoreProblem), "a fault is told")
            assert world.heard.of(StoreProblem)[0].verb == "backlog"
            store.refused, store.rows = set(), 800
            await until(lambda: world.heard.of(OutboxFilling), "it is told")
        event = world.heard.of(OutboxFilling)[0]
        assert (event.rows, event.most, event.level) == (800, 1_000, "warning")
        assert "`budgetguard ledger drain`" in event.advice

    asyncio.run(main())


def test_of_an_outbox_that_fills_the_log_tells_each_tenth_once_an_hour(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 1_000_000.0
    monkeypatch.setattr("limits.storage.memory.time", types.SimpleNamespace(time=lambda: now_s))
    log = LogObserver()
    for rows, passes_s in ((800, 0), (820, 3_590), (899, 0), (900, 20), (910, 0), (880, 0), (1_003, 0)):
        log.on_event(OutboxFilling(rows, 1_000))
        now_s += passes_s
    advice = 'advice="run `budgetguard ledger drain`: calls are refused once the outbox is full"'
    assert [record.getMessage() for record in caplog.records] == [
        f"budget.outbox_filling rows={rows} most=1000 {advice}" for rows in (800, 900, 880, 1_003)
    ]


@pytest.mark.parametrize("ledger", ["outbox", "none"])
def test_the_settings_of_the_file_reach_a_redis(redis_url: str, namespace: str, tmp_path: Path, ledger: str) -> None:
    """Of a guard and of a command alike: after one row the outbox is full, or its oldest row goes."""
    file = tmp_path / "budgetguard.toml"
    file.write_text(
        f'[store]\nurl = "{redis_url}"\nnamespace = "{namespace}"\nspool = "spool.db"\noutbox_max = 1\n'
        f'ledger = "{ledger}"\n[[budget]]\nname = "all"\nlimits = ["9k tokens/day"]\n'
    )

    async def main() -> None:
        async with bg.Guard.from_toml(file) as guard:
            async with guard.reserve(estimate=ESTIMATE) as hold:
                hold.record(USAGE)
            async with opened(guard.policy.store) as store:
                assert await store.backlog() == (Backlog(1, 1) if ledger == "outbox" else None)
            if ledger == "outbox":
                with pytest.raises(bg.OutboxFull, match="budgetguard ledger drain"):
                    await guard.reserve(estimate=ESTIMATE)
            else:
                await (await guard.reserve(estimate=ESTIMATE)).release()

    asyncio.run(main())


class Repeating(LossyStore):
    """A store whose pages are short, and begin with the last row of the page before, as Redis' may."""

    def __init__(self, world: World) -> None:
        super().__init__(world.store())
        self.told: Counter[str] = Counter()

    async def read_accounts(self, *asked: Any, **named: Any) -> Page[Any]:
        return await self._page("accounts", self._store.read_accounts, *asked, **named)

    async def read_holds(self, *asked: Any, **named: Any) -> Page[Any]:
        return await self._page("holds", self._store.read_holds, *asked, **named)

    async def _page(self, what: str, read: Any, *asked: Any, cursor: str | None = None, **named: Any) -> Page[Any]:
        page = await read(*asked, cursor=cursor, most=2, **named)
        rows = (*getattr(self, what, ()), *page.rows) if cursor else page.rows
        setattr(self, what, page.rows[-1:])
        self.told[what] += len(rows)
        return Page(rows, page.cursor)


def test_what_comes_again_on_a_later_page_is_counted_once(world: World) -> None:
    async def main() -> None:
        store = Repeating(world)
        budgets = [bg.Budget("each", ["9k tokens/day"], per=["agent"])]
        async with world.guard(budgets=budgets, store=store) as guard:
            holds = [await guard.reserve(agent=f"a{number}", estimate=ESTIMATE) for number in range(7)]
            assert [row.subject["agent"] for row in await guard.status()] == [f"a{number}" for number in range(7)]
            found = [row.id async for row in every(store.read_holds)]
            assert sorted(found) == sorted(hold.id for hold in holds)
            assert store.told == {"accounts": 10, "holds": 10}
            for hold in holds:
                await hold.release()

    asyncio.run(main())


class Full(LossyStore):
    """A store whose outbox is full: it admits nothing, and settles what was admitted."""

    full = True

    async def reserve(self, ops: Any) -> Any:
        if self.full:
            raise bg.OutboxFull("the outbox is full: run `budgetguard ledger drain`")
        return await self._store.reserve(ops)


@pytest.mark.parametrize("on_store_away", ["refuse", "allow"])
def test_a_full_outbox_decides_nothing_as_a_store_that_is_away(
    world: World, tmp_path: Path, on_store_away: str
) -> None:
    file = tmp_path / "budgetguard.toml"
    file.write_text(
        f'[store]\non_store_away = "{on_store_away}"\n[[budget]]\nname = "all"\nlimits = ["9k tokens/day"]\n'
    )

    async def main() -> None:
        store = Full(world.store())
        async with bg.Guard.from_toml(file, store=cast(Any, store), observers=[world.heard]) as guard:
            if on_store_away == "refuse":
                with pytest.raises(bg.OutboxFull, match="budgetguard ledger drain") as caught:
                    await guard.reserve(estimate=ESTIMATE)
                assert caught.value.retryable
                store.full = False
            async with guard.reserve(estimate=ESTIMATE) as hold:
                hold.record(USAGE)
        told = [(event.verb, event.let_through) for event in world.heard.of(StoreProblem)]
        assert told == [("reserve", on_store_away == "allow")]
        assert "release" not in store.asked, "it was not in doubt"
        assert (world.spent(), world.statuses()) == (600, ["late" if on_store_away == "allow" else "settled"])

    asyncio.run(main())
