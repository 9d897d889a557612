"""A ledger in a SQLite file, for the rows of stores that keep theirs in an outbox.

The file holds `token_usage` and `refusals` and nothing else, or is a budgetguard SQLite store: then rows from the
outbox stand beside those of its own calls, apart by id and namespace. A store does not take a ledger's file for one of
its own, because the schema numbers of the two never meet.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import apsw

from budgetguard.core.verbs import Row
from budgetguard.errors import StoreUnusable
from budgetguard.ledger import refusals, rollups
from budgetguard.ledger.closing import Billing, close
from budgetguard.ledger.closing_schema import SQLITE as CLOSINGS
from budgetguard.ledger.migrations import SECOND_USAGE_TABLE, steps_between
from budgetguard.ledger.refusals import Flush, parted
from budgetguard.ledger.sums import SQLITE
from budgetguard.ledger.table import COLUMNS, PRUNE_ROWS, TABLE, WRITE_ROW, timestamp
from budgetguard.stores.sqlite import schema as store_schema
from budgetguard.stores.sqlite.errors import translated

T = TypeVar("T")
SCHEMA = 1_002
"""SQLite's `user_version` of a file that is only a ledger; a store's are below `LEAST_OF_LEDGERS`."""
LEAST_OF_LEDGERS = 1_000
MIGRATIONS = {1_001: SECOND_USAGE_TABLE}
BUSY_MS = 5_000
# What is wrong with one row, and nothing with the file: whoever asked for the write finds out which.
OF_A_ROW = (apsw.ConstraintError, apsw.MismatchError, apsw.TooBigError)


class SQLiteLedger:
    """The ledger in the file at `path`, which is made with its folder at the first write. Safe from any thread.

    `timeout_ms` is how long to wait for other processes' transactions.

    Raises:
        StoreAway: from `write`, if another process's transaction holds the file.
        StoreUnusable: from `write`, if the file holds something else or another schema, is corrupt, read-only or
            gone, or its disk is full.
    """

    def __init__(self, path: str, timeout_ms: int = BUSY_MS) -> None:
        self._path = str(Path(path).resolve())
        self._timeout_ms = timeout_ms
        self._lock = threading.Lock()
        self._db: apsw.Connection | None = None
        self._inode = 0

    def __repr__(self) -> str:
        return f"SQLiteLedger({self._path!r})"

    def write(self, rows: Sequence[tuple[str, Row | Flush]]) -> None:
        usage, refused = parted(rows)
        with self._lock:
            self._translated(lambda: self._write(usage, refused))

    def prune(self, namespace: str, before_ms: int, most: int) -> int:
        with self._lock:
            return self._translated(lambda: self._prune(namespace, before_ms, most))

    def close_month(
        self, namespace: str, month: str, zone: str, now_ms: int, facts: Callable[[Billing], str]
    ) -> tuple[Billing, bool]:
        def job() -> tuple[Billing, bool]:
            db = self._opened()
            return _in_one_transaction(db, lambda: close(db.execute, SQLITE, namespace, month, zone, now_ms, facts))

        with self._lock:
            return self._translated(job)

    def close(self) -> None:
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None

    def _write(self, usage: Sequence[tuple[object, ...]], refused: Sequence[tuple[object, ...]]) -> None:
        db = self._opened()

        def write() -> None:
            db.executemany(WRITE_ROW, usage)
            db.executemany(refusals.ADD_ROW, refused)

        _in_one_transaction(db, write)

    def _prune(self, namespace: str, before_ms: int, most: int) -> int:
        db = self._opened()

        def forget() -> int:
            db.execute(PRUNE_ROWS, (namespace, timestamp(before_ms), most))
            forgotten = db.changes()
            if forgotten == most:
                return forgotten
            db.execute(rollups.PRUNE_SUMS, (namespace, before_ms))
            db.execute(rollups.PRUNE_STRETCHES, (namespace, before_ms))
            db.execute(rollups.PRUNE_GROUPS, (namespace,))
            db.execute(refusals.PRUNE_ROWS, (namespace, timestamp(before_ms), most - forgotten))
            return forgotten + db.changes()

        return _in_one_transaction(db, forget)

    def _translated(self, job: Callable[[], T]) -> T:
        return translated(job, f"the ledger {self._path}", OF_A_ROW)

    def _opened(self) -> apsw.Connection:
        if self._db is None:
            Path(self._path).parent.mkdir(parents=True, exist_ok=True)
            self._db = self._connect()
            self._inode = self._current_inode()
        elif self._inode != self._current_inode():
            # SQLite would go on writing to where nobody looks.
            raise StoreUnusable(f"the ledger {self._path} was moved or deleted while it was open: start the drain anew")
        return self._db

    def _current_inode(self) -> int:
        """Which file stands at the path now; 0 if there is none."""
        try:
            return os.stat(self._path).st_ino
        except FileNotFoundError:
            return 0

    def _connect(self) -> apsw.Connection:
        db = apsw.Connection(self._path)
        try:
            waiting = store_schema.patience(self._timeout_ms)
            db.set_busy_handler(waiting)
            # First of all, because a file that is refused stays as it is.
            _in_one_transaction(db, lambda: self._prepare(db))
            store_schema.use_wal(db, waiting)
            db.execute("PRAGMA synchronous = FULL")
        except BaseException:
            db.close()
            raise
        return db

    def _prepare(self, db: apsw.Connection) -> None:
        """Make the table in an empty file; of others, see that they have it, as this version writes it."""
        version = int(str(db.execute("PRAGMA user_version").fetchall()[0][0]))
        ((objects,),) = db.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        if version == 0 and objects == 0:
            db.execute(TABLE + refusals.TABLE + CLOSINGS)
            db.execute(f"PRAGMA user_version = {SCHEMA}")
            return
        if not _columns(db):
            raise StoreUnusable(f"{self._path} is another program's database and no ledger: name another file")
        if version < LEAST_OF_LEDGERS:
            store_schema.migrate(db, version)
        else:
            for step, made in steps_between(f"the ledger {self._path}", version, SCHEMA, MIGRATIONS):
                db.execute(f"{step};\nPRAGMA user_version = {made}")
        if _columns(db) != COLUMNS:
            raise StoreUnusable(f"the ledger {self._path} has other columns than its schema says: name another file")


def _columns(db: apsw.Connection) -> tuple[object, ...]:
    return tuple(name for (name,) in db.execute("SELECT name FROM pragma_table_info('token_usage')"))


def _in_one_transaction(db: apsw.Connection, job: Callable[[], T]) -> T:
    db.execute("BEGIN IMMEDIATE")
    try:
        result = job()
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    return result
