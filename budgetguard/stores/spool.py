"""The spool: settles and releases that could not be delivered, kept on disk until they can be.

One SQLite file per store and namespace, shared by the processes of a machine. Whoever reads an entry may deliver it:
every verb can be repeated, so an entry that two processes deliver counts once.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from budgetguard.core.amounts import Amounts
from budgetguard.core.model import CallInfo, UsageRow, plan_from_text
from budgetguard.core.verbs import Release, Settle
from budgetguard.errors import StoreUnusable

TABLE = """
CREATE TABLE IF NOT EXISTS spool (number INTEGER PRIMARY KEY AUTOINCREMENT, verb TEXT NOT NULL, body TEXT NOT NULL)"""
PUT = "INSERT INTO spool (verb, body) VALUES (?, ?)"
TAKE = "SELECT number, verb, body FROM spool WHERE number > ? ORDER BY number LIMIT ?"
DROP = "DELETE FROM spool WHERE number = ?"
COUNT = "SELECT count(*) FROM spool"
BUSY_MS = 5_000
MEMORY = ":memory:"
"""The path of a spool that ends with the process, as the store does whose operations it keeps."""


class Entry(NamedTuple):
    """One operation in the spool, and its number there; an error in the place of one that cannot be read."""

    number: int
    op: Settle | Release | StoreUnusable


class Spool:
    """The spool of one store and namespace. Blocking, short, and safe from any thread.

    Raises:
        StoreUnusable: from every method, if the file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()  # a hold that is collected meanwhile, in the same thread, puts what it recorded
        self._db: apsw.Connection | None = None

    def put(self, ops: Sequence[Settle | Release]) -> None:
        """Keep the operations, durably, in one step."""
        self._run(lambda db: db.executemany(PUT, [_encoded(op) for op in ops]))

    def take(self, most: int, after: int = 0) -> list[Entry]:
        """The oldest entries with numbers above `after`; they stay until they are dropped."""
        if self._db is None and not self.path.exists():
            return []
        found = self._run(lambda db: db.execute(TAKE, (after, most)).fetchall())
        return [self._entry(*row) for row in found]

    def drop(self, numbers: Sequence[int]) -> None:
        """Forget entries that were delivered."""
        self._run(lambda db: db.executemany(DROP, [(number,) for number in numbers]))

    def __len__(self) -> int:
        if self._db is None and not self.path.exists():
            return 0
        return int(self._run(lambda db: db.execute(COUNT).fetchall())[0][0])

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None

    def _entry(self, number: int, verb: str, body: str) -> Entry:
        try:
            return Entry(number, _decoded(verb, body))
        except (ValueError, TypeError, KeyError) as error:
            return Entry(number, StoreUnusable(f"entry {number} of the spool {self.path} cannot be read: {error!r}"))

    def _run(self, job: Any) -> Any:
        with self._lock:
            try:
                db = self._opened()
                with db:
                    return job(db)
            except (apsw.Error, OSError) as error:
                raise StoreUnusable(f"the spool {self.path} cannot be used: {error}; check the disk") from error

    def _opened(self) -> apsw.Connection:
        if self._db is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            db = apsw.Connection(str(self.path))
            db.set_busy_timeout(BUSY_MS)
            db.transaction_mode = "IMMEDIATE"
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute(TABLE)
            self._db = db
        return self._db


def _encoded(op: Settle | Release) -> tuple[str, str]:
    if isinstance(op, Release):
        return "release", json.dumps(op._asdict())
    info = op.info
    plain = op._asdict() | {
        "plan": op.plan.text,
        "info": [
            dict(info.labels), info.price_source, info.host, info.usage, info.operation_id, info.attempt,
            info.prompt_hash, info.process, info.library_version,
        ],
    }  # fmt: skip
    return "settle", json.dumps(plain)


def _decoded(verb: str, body: str) -> Settle | Release:
    plain = json.loads(body)
    if verb == "release":
        return Release(**plain)
    labels, price_source, host, usage, *more = plain["info"]
    plain |= {
        "plan": plan_from_text(plain["plan"]),
        "actual": Amounts(*plain["actual"]),
        "estimate": Amounts(*plain["estimate"]),
        "usage": UsageRow(*plain["usage"]),
        "info": CallInfo(labels, price_source, host, UsageRow(*usage), *more),
    }
    return Settle(**plain)
