"""Guarded calls per second on SQLite, against durable transactions of a single row with the same settings."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import apsw
from figures import Figure, Sizes, at_least, fresh_folder, median, progress
from workload import AGENTS, TWELVE_LIMITS, guard_of, guarded_call

import budgetguard as bg
from budgetguard.stores.sqlite import schema

CALLERS = 256
SLOW_S = 0.002
WARM_UP = 0.15
"""The share of a measurement's time that passes before it counts."""


@dataclass(frozen=True)
class Guarded:
    """What many callers at once achieved."""

    per_s: float
    ops_per_transaction: float
    slowest_share: float
    """The calls of the slowest caller over the mean."""


class SlowFile(apsw.VFSFile):
    """A file whose syncs take two milliseconds more."""

    def xSync(self, flags: int) -> None:
        time.sleep(SLOW_S)
        super().xSync(flags)


class SlowDisk(apsw.VFS):
    """The default VFS with such files, and the default in its place until `unregister`."""

    def __init__(self) -> None:
        self._base = apsw.vfs_names()[0]
        super().__init__("budgetguard-slow", self._base, makedefault=True)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> SlowFile:
        return SlowFile(self._base, name, flags)


def figures(sizes: Sizes) -> list[Figure]:
    """On the disk as it is, and on one whose syncs take 2 ms more."""
    floors, subjects = _in_turn(sizes, "disk as it is")
    ops, share = median([s.ops_per_transaction for s in subjects]), min(s.slowest_share for s in subjects)
    slow_disk = SlowDisk()
    try:
        slow_floors, slow_subjects = _in_turn(sizes, "syncs take 2 ms more")
    finally:
        slow_disk.unregister()
    share = min(share, *(s.slowest_share for s in slow_subjects))
    return [
        _ratio(f"SQLite, {CALLERS} callers, 12 limits: calls per single-row transaction", 0.35, floors, subjects),
        at_least("   operations in a transaction", ops, 50, "reserves and settles by commits", "{:.0f}"),
        _ratio("   the same, syncs take 2 ms more", 10, slow_floors, slow_subjects),
        at_least("   the slowest caller's share of the mean", share, 0.5, "the worst of all rounds"),
    ]


def _ratio(what: str, bound: float, floors: list[float], subjects: list[Guarded]) -> Figure:
    ratio = median([subject.per_s / floor for floor, subject in zip(floors, subjects, strict=True)])
    made_of = f"{median([s.per_s for s in subjects]):.0f}/s by {median(floors):.0f}/s"
    return at_least(what, ratio, bound, made_of)


def _in_turn(sizes: Sizes, where: str) -> tuple[list[float], list[Guarded]]:
    floors, subjects = [], []
    for number in range(sizes.rounds):
        progress(f"SQLite, {where}: {number + 1} of {sizes.rounds}")
        with fresh_folder(sizes) as folder:
            floors.append(single_rows_per_s(folder / "floor.db", sizes.seconds))
            with counted_commits() as commits:
                subjects.append(asyncio.run(_callers_at_once(folder / "budgets.db", sizes.seconds, commits)))
    return floors, subjects


def single_rows_per_s(path: Path, seconds: float) -> float:
    """Durable transactions of one row per second: opened as the store opens its file, one INSERT after the other."""
    db = schema.connect(str(path), 1000)
    db.execute("CREATE TABLE floor (id INTEGER PRIMARY KEY, body TEXT NOT NULL)")
    count, started = 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds:
        db.execute("INSERT INTO floor (body) VALUES (?)", ("x" * 200,))
        count += 1
    db.close()
    return count / passed


@contextmanager
def counted_commits() -> Iterator[list[int]]:
    """A list with one number: the transactions that connections opened meanwhile have written."""
    count = [0]

    def committed() -> bool:
        count[0] += 1
        return False

    def watch(db: apsw.Connection) -> None:
        db.set_commit_hook(committed)

    apsw.connection_hooks.append(watch)
    try:
        yield count
    finally:
        apsw.connection_hooks.remove(watch)


async def _callers_at_once(path: Path, seconds: float, commits: list[int]) -> Guarded:
    """Callers that call again and again; what happens in the middle of it counts."""
    done = [0] * CALLERS
    ended = asyncio.Event()

    async def caller(number: int, guard: bg.Guard) -> None:
        while not ended.is_set():
            await guarded_call(guard, number % AGENTS, f"session-{number}")
            done[number] += 1

    async with guard_of(TWELVE_LIMITS, path) as guard:
        tasks = [asyncio.create_task(caller(number, guard)) for number in range(CALLERS)]
        await asyncio.sleep(seconds * WARM_UP)
        before, commits_before, started = list(done), commits[0], time.perf_counter()
        await asyncio.sleep(seconds)
        passed = time.perf_counter() - started
        shares = [now - then for now, then in zip(done, before, strict=True)]
        transactions = commits[0] - commits_before
        ended.set()
        await asyncio.gather(*tasks)
    return Guarded(sum(shares) / passed, 2 * sum(shares) / max(transactions, 1), min(shares) / max(mean(shares), 1e-9))
