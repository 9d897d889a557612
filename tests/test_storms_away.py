"""Another process holds the store again and again, longer than anybody waits for it: calls are refused, or let through
where the policy says so, and every one that was billed ends in the ledger at its true cost.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import apsw
import pytest
from storm_again import spooled
from storm_books import books_of, check_balance, check_bill
from storm_fleet import until
from storm_world import MODEL, PRICES, BillingProvider, Task, tasks_of

import budgetguard as bg
from budgetguard.events import StoreProblem
from budgetguard.testing import read_bill

ROUNDS, UNDER_WAY, ARRIVING = 3, 25, 15
TIMEOUT_MS = 50
BUDGETS = [bg.Budget("all", ["500k tokens/hour", "$2/day"]), bg.Budget("each-agent", ["$1/total"], per=["agent"])]
LOCKER = """
import sys, apsw
db = apsw.Connection(sys.argv[1])
db.set_busy_timeout(30_000)
for line in sys.stdin:
    db.execute("BEGIN EXCLUSIVE" if line == "hold\\n" else "ROLLBACK")
    print("done", flush=True)
"""


class Locker:
    """The other process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    @contextlib.asynccontextmanager
    async def on(cls, path: Path) -> AsyncIterator[Locker]:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", LOCKER, str(path), stdin=pipe, stdout=pipe)
        try:
            yield cls(process)
        finally:
            process.kill()
            await process.wait()

    async def do(self, what: Literal["hold", "let go"]) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{what}\n".encode())
        assert await self._process.stdout.readline() == b"done\n"


class Storm:
    """In each round calls are under way when the store goes away, and others arrive while it is."""

    def __init__(self, folder: Path, on_store_away: Literal["refuse", "allow"]) -> None:
        self.refused = 0
        self.told: Counter[str] = Counter()
        self.problems: list[str] = []
        self._folder = folder
        self._settings = bg.StoreSettings(
            f"sqlite:///{folder / 'budgets.db'}",
            timeout_ms=TIMEOUT_MS,
            on_store_away=on_store_away,
            spool=str(folder / "spool.db"),
        )
        self._tasks = iter(tasks_of(1, 0, ROUNDS * (UNDER_WAY + ARRIVING) + 1))
        self._billed = 0
        self._answering = asyncio.Event()
        self._provider = BillingProvider(folder / "bill.jsonl", self._count)

    def on_event(self, event: bg.Event) -> None:
        self.told[event.name] += 1
        if isinstance(event, StoreProblem):
            self.problems.append(event.error)

    def guard(self) -> bg.Guard:
        return bg.Guard(budgets=BUDGETS, prices=PRICES, store=self._settings, observers=[self])

    def _count(self, task: Task, reservation_id: str) -> None:
        self._billed += 1

    async def round(self, guard: bg.Guard, locker: Locker) -> None:
        self._answering.clear()
        billed, spools = self._billed + UNDER_WAY, self.told["budget.spooled"]
        async with asyncio.TaskGroup() as group:
            for _ in range(UNDER_WAY):
                group.create_task(self._call(guard))

            async def all_under_way() -> bool:
                return self._billed >= billed

            await until(all_under_way, "the calls to be under way")
            await locker.do("hold")
            for _ in range(ARRIVING):
                group.create_task(self._call(guard))
            self._answering.set()

        async def given_up() -> bool:
            return self.told["budget.spooled"] > spools

        await until(given_up, "the courier to give up on the store")
        await locker.do("let go")

    async def _call(self, guard: bg.Guard) -> None:
        task = next(self._tasks)
        try:
            async with guard.reserve(agent=task.agent, model=MODEL, estimate=task.estimate) as hold:
                usage = await self._provider.answer(task, hold.id)
                await self._answering.wait()
                hold.record(usage)
        except bg.StoreAway:
            self.refused += 1

    async def run(self) -> None:
        guard = self.guard()
        await self._call_once(guard)
        async with Locker.on(self._folder / "budgets.db") as locker:
            for _ in range(ROUNDS):
                await self.round(guard, locker)
        self.left = await guard.aclose()
        assert self.left == spooled(self._folder)
        async with self.guard():
            await until(self._spool_is_empty, "the next guard to replay the spool")

    async def _call_once(self, guard: bg.Guard) -> None:
        self._answering.set()
        await self._call(guard)

    async def _spool_is_empty(self) -> bool:
        return spooled(self._folder) == 0


def test_an_entry_of_the_spool_that_cannot_be_read_holds_up_no_other(tmp_path: Path) -> None:
    async def scenario() -> None:
        storm = Storm(tmp_path, "refuse")
        guard = storm.guard()
        async with Locker.on(tmp_path / "budgets.db") as locker:
            await storm.round(guard, locker)
        left = await guard.aclose()
        db = apsw.Connection(str(tmp_path / "spool.db"))
        db.execute("UPDATE spool SET body = '{}' WHERE number = (SELECT min(number) FROM spool)")
        db.close()
        async with storm.guard():

            async def one_is_left() -> bool:
                return spooled(tmp_path) == 1

            await until(one_is_left, "the next guard to replay what it can read")
        assert left > 1
        assert storm.problems[-1].startswith("entry 1 of the spool")

    asyncio.run(scenario())


@pytest.mark.parametrize("on_store_away", ["refuse", "allow"])
def test_every_billed_call_ends_in_the_ledger_however_often_the_store_is_held(
    tmp_path: Path, on_store_away: Literal["refuse", "allow"]
) -> None:
    async def scenario() -> None:
        storm = Storm(tmp_path, on_store_away)
        await storm.run()
        books = await books_of(tmp_path / "budgets.db")
        bill = read_bill(tmp_path / "bill.jsonl")
        print(f"{on_store_away}: {len(bill)} billed, {storm.refused} refused, {storm.left} left, {dict(storm.told)}")
        assert books.holds == ()
        check_balance(books, BUDGETS)
        check_bill(books, bill, BUDGETS)
        assert set(books.statuses) <= {"settled", "late"}, "the truth of every call was known"
        let_through = ROUNDS * ARRIVING if on_store_away == "allow" else 0
        assert len(bill) == 1 + ROUNDS * UNDER_WAY + let_through
        assert storm.refused == ROUNDS * ARRIVING - let_through
        assert books.statuses["late"] == let_through

    asyncio.run(scenario())
