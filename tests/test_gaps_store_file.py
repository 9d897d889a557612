"""The store's file: several stores on it, a disk that fails between two writes, rows and files that others changed.

Written where the bugs of `test_mutants` were found by no other test, or only by a long one.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import apsw
import pytest
from store_kit import NOON_MS, amounts, ask, ask_one, claims, dump, grow, ledger, plan, reserve, settle, stands

from budgetguard.core.model import Plan
from budgetguard.errors import StateLost, StoreUnusable
from budgetguard.stores.sqlite import SQLiteStore
from budgetguard.testing.clock import ManualClock


def test_a_refused_reserve_leaves_every_row_identical(tmp_path: Path) -> None:
    """Neither a new account nor a changed one, whatever the period and whichever limit refuses."""

    async def run() -> None:
        path = tmp_path / "store.db"
        store = SQLiteStore(str(path), clock=ManualClock(NOON_MS))
        known = plan("100 tokens/hour", "$1/day", "100 tokens/rolling 10 minutes", "$1/total", "9 concurrent")
        await ask(store, reserve("a", known, amounts(60, 0, 500)), reserve("b", known, amounts(5, 0, 500)))
        await ask_one(store, settle("a", known, amounts(70)))
        before = dump(path)
        unseen = claims("unseen", ["1000 tokens/day", "5 requests/rolling 1 hour", "1 tokens/total"], NOON_MS)
        for refusing in (known, Plan(unseen), Plan(unseen + known.claims), Plan(known.claims + unseen)):
            assert (await ask_one(store, reserve("c", refusing, amounts(60)))).word == "refused"
            assert dump(path) == before
        assert (await ask_one(store, grow("b", known, amounts(60)))).word == "refused"
        assert dump(path) == before
        await store.aclose()

    asyncio.run(run())


def test_several_stores_on_one_file_wait_for_each_other_and_lose_nothing(tmp_path: Path) -> None:
    """Four threads, one connection each: what one reads before it writes, no other changes meanwhile."""

    async def run() -> None:
        path = str(tmp_path / "store.db")
        stores = [SQLiteStore(path, timeout_ms=30_000, clock=ManualClock(NOON_MS)) for _ in range(4)]
        known = plan("150 tokens/hour")

        async def calls(number: int) -> list[str]:
            ops = (reserve(f"{number}-{n}", known, amounts(1)) for n in range(50))
            return [(await ask_one(stores[number], op)).word for op in ops]

        words = [word for told in await asyncio.gather(*map(calls, range(4))) for word in told]
        assert (words.count("granted"), words.count("refused")) == (150, 50)
        assert await stands(stores[0]) == {"all tokens/hour@UTC": (0, 150)}
        for store in stores:
            await store.aclose()

    asyncio.run(run())


def sabotage(path: Path, statement: str) -> None:
    """Change the file behind the store's back, as a broken disk or another program would."""
    db = apsw.Connection(str(path))
    db.set_busy_timeout(5_000)
    db.execute(statement)
    db.close()


@pytest.mark.parametrize("table", ["token_usage", "accounts", "reservations"])
def test_a_settle_is_recorded_whole_or_not_at_all(tmp_path: Path, table: str) -> None:
    """The disk fails at one of the three writes: account, reservation and ledger row stay as they were."""

    async def run() -> None:
        path = tmp_path / "store.db"
        store = SQLiteStore(str(path), clock=ManualClock(NOON_MS))
        known = plan("1000 tokens/hour")
        await ask_one(store, reserve("r", known, amounts(50)))
        before = dump(path)
        for verb in ("INSERT", "UPDATE"):
            fails = "BEGIN SELECT RAISE(ABORT, 'disk'); END"
            sabotage(path, f"CREATE TRIGGER broken_{verb} BEFORE {verb} ON {table} {fails}")
        with pytest.raises(StoreUnusable, match="disk"):
            await ask_one(store, settle("r", known, amounts(70), amounts(50)))
        assert dump(path) == before
        for verb in ("INSERT", "UPDATE"):
            sabotage(path, f"DROP TRIGGER broken_{verb}")
        assert (await ask_one(store, settle("r", known, amounts(70), amounts(50)))).word == "settled"
        assert await stands(store) == {"all tokens/hour@UTC": (70, 0)}
        row = ledger(path, "r")
        assert row is not None and row["total_tokens"] == 70
        await store.aclose()

    asyncio.run(run())


def test_a_row_that_cannot_be_read_spoils_only_the_operations_that_need_it(tmp_path: Path) -> None:
    async def run() -> None:
        path = tmp_path / "store.db"
        store = SQLiteStore(str(path), clock=ManualClock(NOON_MS))
        broken, sound = plan("9 tokens/day", name="broken"), plan("9 tokens/day", name="sound")
        await ask(store, reserve("a", broken, amounts(1)), reserve("b", sound, amounts(1)))
        sabotage(path, "UPDATE accounts SET spent = 'many' WHERE budget = 'broken'")
        before = dump(path)
        told: list[Any] = await asyncio.gather(
            store.reserve([reserve("c", broken, amounts(1))]),
            store.reserve([reserve("d", Plan(broken.claims + sound.claims), amounts(1))]),
            store.reserve([reserve("e", sound, amounts(1))]),
            return_exceptions=True,
        )
        assert [type(answer) for answer in told] == [StoreUnusable, StoreUnusable, list]
        assert told[2][0].word == "granted"
        after = dump(path)
        assert [row for row in after["accounts"] if row[2] == "broken"] == [
            row for row in before["accounts"] if row[2] == "broken"
        ]
        await store.aclose()

    asyncio.run(run())


def test_a_file_that_was_replaced_admits_nothing_until_the_loss_is_accepted(tmp_path: Path) -> None:
    async def run() -> None:
        path, clock = tmp_path / "store.db", ManualClock(NOON_MS)
        store = SQLiteStore(str(path), clock=clock)
        known = plan("1000 tokens/hour")
        await ask_one(store, reserve("a", known, amounts(50)))
        await store.aclose()
        for left in tmp_path.iterdir():
            left.unlink()
        other = SQLiteStore(str(path), clock=clock)
        await other.open()
        with pytest.raises(StateLost, match="--accept-loss"):
            await ask_one(store, reserve("b", known, amounts(50)))
        with pytest.raises(StateLost):
            await store.open()
        assert await stands(other) == {}
        await store.open(accept_loss=True)
        assert (await ask_one(store, reserve("b", known, amounts(50)))).word == "granted"
        await store.aclose()
        await other.aclose()

    asyncio.run(run())
