"""`SQLiteStore`: one thread, one connection, one `BEGIN IMMEDIATE` per batch."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import apsw

from budgetguard.core.model import Account
from budgetguard.core.verbs import Expire, Extend, Grow, Release, Reserve, Settle, Settlement, Verdict
from budgetguard.errors import BudgetGuardError, StateLost, StoreAway
from budgetguard.ledger import refusals
from budgetguard.store import (
    AccountRow,
    Backlog,
    Cause,
    Clock,
    HoldRow,
    LostWrites,
    OutputCount,
    OutputSet,
    Page,
    RefusalCount,
)
from budgetguard.stores.batching import Batcher
from budgetguard.stores.outputs import summed
from budgetguard.stores.queries import Query
from budgetguard.stores.sqlite import outputs, reading, schema
from budgetguard.stores.sqlite.errors import translated
from budgetguard.stores.sqlite.transaction import Announce, Memory, Transaction
from budgetguard.stores.worker import WorkerThread

T = TypeVar("T")
MEMORY = ":memory:"
MOST_OPS = 512
CLOCK_TOLERANCE_MS = 60_000
HANGS_MS = 1_000
"""What one job may take beyond its wait for other processes; after that the store is away."""
FORGET_PLANS_EVERY_MS = 3_600_000


class WallClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


class SQLiteStore:
    """A `Store` in a SQLite file, or in memory (`:memory:`).

    Args:
        path: the file; it and its folder are created when the store is opened.
        namespace: keeps apart what shares a file.
        timeout_ms: how long to wait for other processes' transactions.
        clock: where the store's time comes from.
    """

    def __init__(
        self, path: str, namespace: str = "default", timeout_ms: int = 2_000, clock: Clock | None = None
    ) -> None:
        self._path = path if path == MEMORY else str(Path(path).resolve())
        self._namespace = namespace
        self._timeout_ms = timeout_ms
        self._clock = clock or WallClock()
        self._worker: WorkerThread | None = None
        self._starting = threading.Lock()
        self._db: apsw.Connection | None = None
        self._incarnation: str | None = None
        self._inode: int | None = None
        self._memory = Memory()
        self._plans_forgotten_ms = 0
        self._batchers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Batcher] = weakref.WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"SQLiteStore({self._path!r}, namespace={self._namespace!r})"

    async def open(self, accept_loss: bool = False) -> int:
        return await self._in_thread(lambda: self._open(accept_loss))

    async def reserve(self, ops: Sequence[Reserve]) -> list[Verdict]:
        return await self._ask(ops)

    async def settle(self, ops: Sequence[Settle]) -> list[Settlement]:
        return await self._ask(ops)

    async def release(self, ops: Sequence[Release]) -> list[Settlement]:
        return await self._ask(ops)

    async def grow(self, ops: Sequence[Grow]) -> list[Verdict]:
        return await self._ask(ops)

    async def extend(self, ops: Sequence[Extend]) -> list[Verdict]:
        return await self._ask(ops)

    async def expire(self, ops: Sequence[Expire]) -> list[Settlement]:
        return await self._ask(ops)

    async def announce(self, levels: Sequence[tuple[Account, int]]) -> list[bool]:
        return await self._ask([Announce(level) for level in levels])

    async def due(self, most: int) -> list[str]:
        return await self._in_thread(lambda: self._write(lambda db, now_ms, _: self._due(db, now_ms, most)))

    async def first_to_tell(self, causes: Sequence[Cause]) -> list[bool]:
        return await self._in_thread(lambda: self._write(lambda db, now_ms, _: self._tell(db, now_ms, causes)))

    async def note_refusals(self, flush_id: str, rows: Sequence[RefusalCount]) -> None:
        found = refusals.refusal_rows(self._namespace, flush_id, rows)
        await self._in_thread(lambda: self._write(lambda db, *_: db.executemany(refusals.ADD_ROW, found)))

    async def note_outputs(self, flush_id: str, slice_ms: int, rows: Sequence[OutputCount]) -> None:
        sums = summed(slice_ms, rows)
        await self._in_thread(
            lambda: self._write(
                lambda db, now_ms, _: outputs.note(db, self._namespace, now_ms, flush_id, slice_ms, sums)
            )
        )

    async def read_outputs(self, words: Sequence[str] | None = None, most: int = 1000) -> list[OutputSet]:
        return await self._in_thread(
            lambda: outputs.read(self._open_db(), self._namespace, words, most, self._now_ms())
        )

    async def read_balances(self, accounts: Sequence[Account]) -> list[AccountRow]:
        return await self._in_thread(
            lambda: reading.balances(self._open_db(), self._namespace, accounts, self._now_ms())
        )

    async def read_accounts(
        self, budget: str = "*", labels: Mapping[str, str] | None = None, cursor: str | None = None, most: int = 1000
    ) -> Page[AccountRow]:
        query = Query(self._namespace, budget, labels or {}, cursor, most)
        return await self._in_thread(lambda: reading.accounts(self._open_db(), query, self._now_ms()))

    async def read_holds(
        self, budget: str = "*", labels: Mapping[str, str] | None = None, cursor: str | None = None, most: int = 1000
    ) -> Page[HoldRow]:
        query = Query(self._namespace, budget, labels or {}, cursor, most)
        return await self._in_thread(lambda: reading.holds(self._open_db(), query, self._now_ms()))

    async def lost_writes(self) -> LostWrites | None:
        return None  # what is durable is not lost; a file that is another one is StateLost

    async def backlog(self) -> Backlog | None:
        return None

    async def leave(self) -> None:
        pass

    async def aclose(self) -> None:
        batcher = self._batchers.get(asyncio.get_running_loop())
        if batcher is not None:
            await batcher.idle()
        with self._starting:
            worker, self._worker = self._worker, None
            if worker is None:
                return
            closed = worker.submit(self._close)
            worker.stop()
        await closed

    def _ask(self, ops: Sequence[Any]) -> Awaitable[list[Any]]:
        loop = asyncio.get_running_loop()
        batcher = self._batchers.get(loop)
        if batcher is None:
            batcher = self._batchers[loop] = Batcher(lambda ops, _, done: done(self._batch(ops)), MOST_OPS)
        return batcher.ask(ops)

    async def _batch(self, ops: list[Any]) -> list[Any]:
        return await self._in_thread(lambda: self._transact(ops))

    def _transact(self, ops: list[Any]) -> list[Any]:
        """Do the operations in one transaction; each in its own, if one of them holds what no row can."""

        def run(db: apsw.Connection, now_ms: int, behind: bool) -> list[Any]:
            return Transaction(db, self._namespace, now_ms, behind, self._memory).run(ops)

        try:
            return self._write(run)
        except (apsw.Error, OSError, BudgetGuardError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, only the operation that has it is told
            return [error] if len(ops) == 1 else [answer for op in ops for answer in self._transact([op])]

    async def _in_thread(self, job: Callable[[], T]) -> T:
        with self._starting:  # the event loops of several threads may ask at once
            if self._worker is None:
                self._worker = WorkerThread("budgetguard-sqlite")
            worker = self._worker
            future = worker.submit(lambda: translated(job, f"the store {self._path}"))
        most_s = (self._timeout_ms + HANGS_MS) / 1000
        try:
            while not (await asyncio.wait([future], timeout=most_s))[0]:
                if worker.busy_s() >= most_s:
                    raise StoreAway(f"the store {self._path} did not answer for {most_s} s: its disk may hang")
            return future.result()
        finally:
            future.cancel()  # nobody waits for it any more

    def _write(self, job: Callable[[apsw.Connection, int, bool], T]) -> T:
        """Run the job in one durable transaction, in store time. Any error rolls everything back."""
        db = self._open_db()
        db.execute("BEGIN IMMEDIATE")
        try:
            last_ms = self._last_ms(db)
            clock_ms = self._clock.now_ms()
            now_ms = max(clock_ms, last_ms)
            result = job(db, now_ms, last_ms - clock_ms > CLOCK_TOLERANCE_MS)
            if now_ms != last_ms:
                db.execute(schema.WRITE_CLOCK, (self._namespace, now_ms))
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        return result

    def _due(self, db: apsw.Connection, now_ms: int, most: int) -> list[str]:
        db.execute(schema.FORGET_ACCOUNTS, (self._namespace, now_ms))
        db.execute(schema.FORGET_TOLD, (self._namespace, now_ms))
        db.execute(schema.FORGET_OUTPUTS, (self._namespace, now_ms))
        db.execute(schema.FORGET_RESERVATIONS, (self._namespace, now_ms))
        if now_ms - self._plans_forgotten_ms >= FORGET_PLANS_EVERY_MS:
            db.execute(schema.FORGET_PLANS)
            self._plans_forgotten_ms = now_ms
        return [id for (id,) in db.execute(schema.DUE, (self._namespace, now_ms, most))]

    def _tell(self, db: apsw.Connection, now_ms: int, causes: Sequence[Cause]) -> list[bool]:
        answers = []
        for cause, ttl_ms, id in causes:
            db.execute(schema.TELL, (self._namespace, cause, now_ms, now_ms + ttl_ms, id))
            answers.append(bool(db.execute(schema.TOLD_BY, (self._namespace, cause, id)).fetchall()))
        return answers

    def _open(self, accept_loss: bool) -> int:
        if accept_loss:
            self._incarnation = None
            if self._inode != self._current_inode():
                self._close()
        now_ms = self._now_ms()
        if accept_loss:
            self._open_db().execute(schema.ACCEPT_LOSS, (self._incarnation,))
        return now_ms

    def _open_db(self) -> apsw.Connection:
        if self._db is None:
            if self._incarnation is not None and self._path != MEMORY and not os.path.exists(self._path):
                raise self._lost()
            self._db = schema.connect(self._path, self._timeout_ms)
            self._inode = self._current_inode()
        elif self._inode != self._current_inode():
            if not self._current_inode() or not schema.loss_was_accepted(self._path):
                raise self._lost()
            self._close()
            return self._open_db()
        return self._db

    def _current_inode(self) -> int | None:
        """Which file stands at the path now; None for memory, 0 if there is none."""
        if self._path == MEMORY:
            return None
        try:
            return os.stat(self._path).st_ino
        except FileNotFoundError:
            return 0

    def _lost(self) -> StateLost:
        return StateLost(
            f"the store {self._path} is not the one that was opened: its state was lost. "
            "Restore the file, or run `budgetguard init --accept-loss` to start from nothing"
        )

    def _now_ms(self) -> int:
        return max(self._clock.now_ms(), self._last_ms(self._open_db()))

    def _last_ms(self, db: apsw.Connection) -> int:
        """The time last told. Raises StateLost if this is not the store that this object knows."""
        ((incarnation, last_ms),) = db.execute(schema.READ_CLOCK, (self._namespace,)).fetchall()
        if incarnation != self._incarnation:
            if self._incarnation is not None and not db.execute(schema.LOSS_ACCEPTED).fetchall():
                raise self._lost()
            self._incarnation = str(incarnation)
        return int(last_ms or 0)

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None
