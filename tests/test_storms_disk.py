"""A disk that is full, or whose writes and syncs fail: calls are refused by name, and no settle is lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from storm_again import spooled
from storm_books import Books, books_of, check_balance, check_bill
from storm_disk import Fault, FaultyDisk
from storm_fleet import until
from storm_world import MODEL, PRICES, BillingProvider, Task, tasks_of

import budgetguard as bg
from budgetguard.testing import read_bill

OPEN = 10
MOST_CALLS = 2_000
BUDGETS = [bg.Budget("all", ["2M tokens/hour", "$50/day"]), bg.Budget("each-agent", ["1M tokens/total"], per=["agent"])]


class Disturbed:
    """One process whose store and spool are on a disk that will fail; it makes calls and keeps what it is told."""

    def __init__(self, folder: Path, store: Path) -> None:
        self.events: list[str] = []
        self.store = store
        self.provider = BillingProvider(folder / "bill.jsonl")
        self.tasks = iter(tasks_of(1, 0, MOST_CALLS))
        self._folder = folder

    def on_event(self, event: bg.Event) -> None:
        self.events.append(event.name)

    def guard(self) -> bg.Guard:
        settings = bg.StoreSettings(f"sqlite:///{self.store}", spool=str(self._folder / "spool.db"))
        return bg.Guard(budgets=BUDGETS, prices=PRICES, store=settings, observers=[self])

    async def reserve(self, guard: bg.Guard) -> tuple[bg.Hold, Task]:
        task = next(self.tasks)._replace(latency_s=0.0)
        return await guard.reserve(agent=task.agent, model=MODEL, estimate=task.estimate), task

    async def call(self, guard: bg.Guard) -> None:
        hold, task = await self.reserve(guard)
        await hold.settle(await self.provider.answer(task, hold.id))

    async def told(self, name: str) -> None:
        async def was_told() -> bool:
            return name in self.events

        await until(was_told, name)

    async def check(self) -> Books:
        """After the next start has replayed the spool: every billed call at its true cost, and nothing else."""

        async def spool_is_empty() -> bool:
            return spooled(self._folder) == 0

        async with self.guard() as guard:
            await self.call(guard)
            await until(spool_is_empty, "the spool to be replayed")
        books = await books_of(self.store)
        bill = read_bill(self._folder / "bill.jsonl")
        check_balance(books, BUDGETS)
        check_bill(books, bill, BUDGETS)
        assert books.holds == ()
        assert set(books.statuses) == {"settled"} and len(books.ledger) == len(bill)
        return books


async def reserve_until_refused(calls: Disturbed, guard: bg.Guard) -> None:
    """The write-ahead log may have some room left in pages of its own."""
    for _ in range(MOST_CALLS // 2):
        hold, _ = await calls.reserve(guard)
        await hold.release()


async def outlive_a_full_disk(calls: Disturbed, fill: Callable[[], None], make_room: Callable[[], None]) -> None:
    """Calls are under way when the store's disk fills up; the spool lies elsewhere."""
    guard = calls.guard()
    under_way = [await calls.reserve(guard) for _ in range(OPEN)]
    answers = [(hold, await calls.provider.answer(task, hold.id)) for hold, task in under_way]
    fill()
    with pytest.raises(bg.StoreUnusable, match=r"cannot be used: .*full.*; check the file, its folder and the disk"):
        await reserve_until_refused(calls, guard)
    for hold, usage in answers:
        await hold.settle(usage)
    await calls.told("budget.spooled")
    make_room()
    await calls.call(guard)
    await guard.aclose()
    await calls.check()


@pytest.fixture
def disk() -> Iterator[FaultyDisk]:
    with FaultyDisk() as made:
        yield made


def test_a_full_disk_refuses_calls_by_name_and_the_spool_keeps_their_settles(tmp_path: Path, disk: FaultyDisk) -> None:
    calls = Disturbed(tmp_path, tmp_path / "budgets.db")
    asyncio.run(outlive_a_full_disk(calls, lambda: disk.fill("budgets.db"), disk.make_room))
    assert disk.hits > 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of a megabyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("needs the right to mount a small file system (root)")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_real_disk_that_fills_up_ends_the_same(tmp_path: Path, small_disk: Path) -> None:
    ballast = small_disk / "ballast"

    def fill() -> None:
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while file.write(bytes(512)):
                pass
        status = os.statvfs(small_disk)
        assert status.f_bavail == 0

    calls = Disturbed(tmp_path, small_disk / "budgets.db")
    asyncio.run(outlive_a_full_disk(calls, fill, ballast.unlink))


def test_with_the_spool_on_the_full_disk_too_settles_wait_in_the_process(tmp_path: Path, disk: FaultyDisk) -> None:
    async def scenario() -> None:
        calls = Disturbed(tmp_path, tmp_path / "budgets.db")
        guard = calls.guard()
        hold, task = await calls.reserve(guard)
        disk.fill("budgets.db", "spool.db")
        await hold.settle(await calls.provider.answer(task, hold.id))
        await calls.told("budget.store_away")
        with pytest.raises(bg.StoreUnusable, match="1 settles and releases could be neither delivered nor spooled"):
            await guard.aclose()
        disk.make_room()
        assert await guard.aclose() == 0
        await calls.check()

    asyncio.run(scenario())


def test_settles_that_wait_in_the_process_are_delivered_once_there_is_room(tmp_path: Path, disk: FaultyDisk) -> None:
    async def scenario() -> None:
        calls = Disturbed(tmp_path, tmp_path / "budgets.db")
        guard = calls.guard()
        hold, task = await calls.reserve(guard)
        disk.fill("budgets.db", "spool.db")
        await hold.settle(await calls.provider.answer(task, hold.id))
        hits = disk.hits

        async def tried_the_spool() -> bool:
            return disk.hits > hits and (tmp_path / "spool.db").exists()

        await until(tried_the_spool, "the courier to try the spool")
        disk.make_room()
        await calls.told("budget.settled")
        assert await guard.aclose() == 0
        await calls.check()

    asyncio.run(scenario())


@pytest.mark.parametrize("fault", ["full", "sync"])
def test_wherever_one_write_or_sync_of_a_call_fails_the_books_are_whole(
    tmp_path: Path, disk: FaultyDisk, fault: Fault
) -> None:
    """The k-th write (or sync) fails, for every k until a whole call passes without meeting it."""

    async def scenario() -> None:
        calls = Disturbed(tmp_path, tmp_path / "budgets.db")
        guard = calls.guard()
        await calls.call(guard)
        refused, steps = 0, 0
        while True:
            hits = disk.hits
            disk.fail_once(fault, steps)
            try:
                await calls.call(guard)
            except bg.StoreUnusable:
                refused += 1
            if disk.hits == hits:
                break
            steps += 1
        print(f"{fault}: a call has {steps} such steps, {refused} of them refused it")
        assert 0 < refused < steps
        disk.make_room()
        await guard.aclose()
        books = await calls.check()
        assert len(books.ledger) == 1 + (steps - refused) + 1 + 1

    asyncio.run(scenario())
