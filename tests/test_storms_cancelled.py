"""A storm of cancellations in one process: whatever is cancelled, however often, nothing is held and nothing lost."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from storm_books import Books, books_of, check_balance, check_bill
from storm_kit import SEED
from storm_world import MODEL, PRICES, BillingProvider, Task, tasks_of

import budgetguard as bg
from budgetguard.core.verbs import Release, Reserve, Settlement, Verdict
from budgetguard.reserving import open_holds
from budgetguard.store import Store
from budgetguard.stores import open_store
from budgetguard.testing import read_bill

TASKS, STORMS, LONG_STORMS = 200, 4, 100
CANCEL_SHARE = 0.3
BUDGETS = [
    bg.Budget("all", ["60k tokens/hour", "$0.20/day"]),
    bg.Budget("each-agent", ["12k tokens/rolling 60 minutes"], per=["agent"]),
    bg.Budget("at-once", ["8 concurrent"], on_exceed="delay", max_delay="60s"),
]


class Storm:
    """Two hundred calls in three forms; at each step of any of them the seed may cancel one, and again."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.struck: Counter[str] = Counter()
        self._chance = random.Random(f"cancel {seed}")
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._where: dict[int, str] = {}
        self._calls = tasks_of(seed, 0, TASKS)
        self._provider = BillingProvider(folder / "bill.jsonl", lambda task, _: self._step(task, "calling"))
        store = bg.StoreSettings(f"sqlite:///{folder / 'budgets.db'}", spool=str(folder / "spool.db"))
        self._guard = bg.Guard(budgets=BUDGETS, prices=PRICES, store=store, observers=[self])

    def on_event(self, event: bg.Event) -> None:
        """Settles, refusals and delays are told in the midst of the guard's own work: a good moment to cancel."""
        self._strike()

    async def run(self) -> int:
        """What the guard says remains in the spool."""
        forms = (self._in_block, self._by_hand, self._decorated)
        async with asyncio.timeout(60):
            for call in self._calls:
                self._where[call.number] = "reserving"
                self._tasks[call.number] = asyncio.create_task(self._one(self._chance.choice(forms), call))
            await asyncio.wait(self._tasks.values())
            return await self._guard.aclose()

    async def _one(self, form: Callable[[Task], Awaitable[None]], call: Task) -> None:
        try:
            with contextlib.suppress(bg.BudgetExceeded):
                await form(call)
        finally:
            del self._tasks[call.number]

    async def _in_block(self, call: Task) -> None:
        async with self._guard.reserve(agent=call.agent, model=MODEL, estimate=call.estimate) as hold:
            self._step(call, "admitted")
            hold.record(await self._provider.answer(call, hold.id))
            self._step(call, "settling")

    async def _by_hand(self, call: Task) -> None:
        hold = await self._guard.reserve(agent=call.agent, model=MODEL, estimate=bg.Usage(call.input_tokens, 0))
        try:
            self._step(call, "growing")
            await hold.grow(call.estimate)
            usage = await self._provider.answer(call, hold.id)
        except BaseException:
            # Only the caller knows whether anything was sent; here that is whether the bill has it.
            billed = self._where[call.number] == "calling"
            self._step(call, "settling")
            await (hold.settle() if billed else hold.release())
            raise
        self._step(call, "settling")
        await hold.settle(usage)

    async def _decorated(self, call: Task) -> None:
        @self._guard.budgeted(agent=call.agent, model=MODEL, estimate=call.estimate)
        async def answer() -> bg.Usage:
            (hold,) = open_holds()
            self._step(call, "admitted")
            usage = await self._provider.answer(call, hold.id)
            self._step(call, "settling")
            return usage

        await answer()

    def _step(self, call: Task, where: str) -> None:
        self._where[call.number] = where
        self._strike()

    def _strike(self) -> None:
        if self._tasks and self._chance.random() < CANCEL_SHARE:
            where = self._chance.choice(sorted({self._where[number] for number in self._tasks}))
            number = self._chance.choice([number for number in self._tasks if self._where[number] == where])
            self.struck[where] += 1
            self._tasks[number].cancel()


def run_storm(folder: Path, seed: int) -> tuple[Storm, Books, int]:
    """A storm, its books, and how many calls were billed in it."""

    async def scenario() -> Books:
        assert await storm.run() == 0, "something remains in the spool"
        return await books_of(folder / "budgets.db")

    storm = Storm(folder, seed)
    books = asyncio.run(scenario())
    bill = read_bill(folder / "bill.jsonl")
    print(f"\nstorm of cancellations {seed}: {dict(storm.struck)}, {len(bill)} billed, ledger {dict(books.statuses)}")
    assert books.holds == ()
    check_balance(books, BUDGETS)
    check_bill(books, bill, BUDGETS)
    assert "expired" not in books.statuses
    return storm, books, len(bill)


def test_cancelled_calls_hold_nothing_and_lose_nothing(tmp_path: Path) -> None:
    struck: Counter[str] = Counter()
    statuses: Counter[str] = Counter()
    for number in range(STORMS):
        folder = tmp_path / str(number)
        folder.mkdir()
        storm, books, billed = run_storm(folder, SEED + number)
        assert billed > 20
        struck += storm.struck
        statuses += books.statuses
    assert min(struck[where] for where in ("reserving", "growing", "calling", "settling")) > 5, struck
    assert {"settled", "assumed"} <= set(statuses), statuses


class GatedStore:
    """A real store whose answers to reserves never come, and which does releases only once the gate is open."""

    def __init__(self) -> None:
        self.gate, self.reserved, self.releasing = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._store = open_store("sqlite:///:memory:", "default", 1_000)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def reserve(self, ops: Sequence[Reserve]) -> list[Verdict]:
        await self._store.reserve(ops)
        self.reserved.set()
        return await asyncio.get_running_loop().create_future()

    async def release(self, ops: Sequence[Release]) -> list[Settlement]:
        self.releasing.set()
        await self.gate.wait()
        return await self._store.release(ops)


def test_what_is_returned_while_the_courier_is_on_its_way_goes_with_the_next_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second reserve is cancelled while the release of a first is under way, and then the guard is closed."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    async def scenario() -> None:
        store = GatedStore()
        guard = bg.Guard("10 concurrent", store=cast("Store", store))
        for _ in range(2):
            store.reserved.clear()
            reserving = asyncio.create_task(_reserved(guard))
            await store.reserved.wait()
            reserving.cancel()
            await asyncio.wait([reserving])
            await store.releasing.wait()
        assert [row.reserved for row in await guard.status()] == [2]
        closing = asyncio.create_task(guard.aclose())
        store.gate.set()
        assert await closing == 0

    asyncio.run(asyncio.wait_for(scenario(), 30))


async def _reserved(guard: bg.Guard) -> bg.Hold:
    return await guard.reserve()


@pytest.mark.long
def test_cancelled_calls_hold_nothing_and_lose_nothing_in_many_storms(tmp_path: Path) -> None:
    for number in range(LONG_STORMS):
        folder = tmp_path / str(number)
        folder.mkdir()
        run_storm(folder, SEED + number)
