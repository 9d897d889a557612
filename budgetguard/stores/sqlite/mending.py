"""A SQLite store's books: its accounts beside its own ledger, at one instant; and accounts set to what that tells."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import apsw

from budgetguard.core.amounts import Amounts
from budgetguard.core.model import Account, OnExpiry, plan_from_text
from budgetguard.core.periods import parse_period_text
from budgetguard.errors import StoreAway, StoreUnusable
from budgetguard.ledger.charges import charges, forgotten_ms
from budgetguard.ledger.tally import LONGEST_WINDOW_MS, OVERDUE_MS, Accounts, Difference, Held, Look, Tally
from budgetguard.store import Clock
from budgetguard.stores.sqlite import rows, schema

ACCOUNTS = """
SELECT budget, per, unit, period, window, window_start_ms, window_end_ms,
       spent, reserved, announced, announced_ms, keep_until_ms, slots
FROM accounts WHERE namespace = ? AND (keep_until_ms > ? OR reserved > 0)"""
HELD = """
SELECT r.id, r.body, r.slot_ms, r.lease_end_ms, p.body
FROM reservations AS r INDEXED BY reservations_open LEFT JOIN plans AS p ON p.digest = r.plan
WHERE r.namespace = ? AND r.state = 'held'"""
OUTLIVED = """
SELECT (SELECT count(*) FROM accounts WHERE namespace = ?1 AND keep_until_ms <= ?2 AND reserved = 0)
     + (SELECT count(*) FROM reservations WHERE namespace = ?1 AND state <> 'held' AND keep_until_ms <= ?2)
     + (SELECT count(*) FROM outputs WHERE namespace = ?1 AND until_ms <= ?2)"""
LARGE_BYTES = 1 << 29
"""A larger file is not looked through for damage: that would take minutes."""


class SQLiteBooks:
    """The store of a file and namespace, to be looked at and mended. Blocking.

    Raises:
        StoreAway, StoreUnusable: from every method, if the file cannot be read or written.
    """

    def __init__(
        self, path: str, namespace: str, timeout_ms: int = 5_000, clock: Clock | None = None,
        on_expiry: OnExpiry = "charge",
    ) -> None:  # fmt: skip
        self._path = path
        self._namespace = namespace
        self._timeout_ms = timeout_ms
        self._clock = clock
        self._on_expiry = on_expiry

    def look(self) -> Look:
        """The accounts and what the ledger tells, as both stand at one instant."""
        with self._opened(apsw.SQLITE_OPEN_READONLY) as db:
            db.execute("BEGIN")
            return self._look(db)

    def facts(self) -> dict[str, Any]:
        """Its schema and settings, what SQLite finds broken in it ("" for nothing), and how far the machine's clock
        stands behind the time it has told, in ms.
        """
        with self._opened(apsw.SQLITE_OPEN_READONLY) as db:
            ((journal_mode,),) = db.execute("PRAGMA journal_mode")
            ((size,),) = db.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
            damage = "ok" if int(size) > LARGE_BYTES else next(iter(db.execute("PRAGMA quick_check(1)")))[0]
            behind_ms = self._now_ms(db) - self._clock_ms()
            return {
                "schema": schema.SCHEMA, "journal_mode": journal_mode, "damage": "" if damage == "ok" else damage,
                "behind_ms": behind_ms,
            }  # fmt: skip

    def outlived(self) -> int:
        """How many accounts, resolved reservations and sets of outputs have outlived their time.

        The next sweep forgets them.
        """
        with self._opened(apsw.SQLITE_OPEN_READONLY) as db:
            ((count,),) = db.execute(OUTLIVED, (self._namespace, self._now_ms(db)))
            return int(count)

    def mend(self) -> list[Difference]:
        """Set every account that differs to what the ledger and the open reservations tell, in one transaction.

        Returns what differed; of an account whose rows may be forgotten nothing was taken.
        """
        with self._opened(apsw.SQLITE_OPEN_READWRITE) as db:
            db.execute("BEGIN IMMEDIATE")
            differences, made = self._look(db).mended()
            written = [rows.account_row(self._namespace, *found) for found in made.values()]
            db.executemany(schema.WRITE_ACCOUNT, written)
            db.execute("COMMIT")
            return differences

    def _look(self, db: apsw.Connection) -> Look:
        now_ms = self._now_ms(db)
        tally = Tally(now_ms, forgotten_ms(db.execute, self._namespace))
        tally.add(charges(db.execute, self._namespace, now_ms - LONGEST_WINDOW_MS, self._on_expiry))
        held = [_held(*row) for row in db.execute(HELD, (self._namespace,))]
        tally.hold(held)
        accounts = self._accounts(db, now_ms)
        overdue = sum(one.lease_end_ms + OVERDUE_MS < now_ms for one in held)
        return Look(tally, accounts, accounts, len(held), overdue)

    def _accounts(self, db: apsw.Connection, now_ms: int) -> Accounts:
        made = {}
        for budget, per, unit, period, window, start_ms, end_ms, *balance in db.execute(
            ACCOUNTS, (self._namespace, now_ms)
        ):
            labels = tuple((name, value) for name, value in json.loads(per))
            account = Account(budget, labels, unit, parse_period_text(period), window, start_ms, end_ms)
            made[account.key] = account, rows.balance_from(*balance)
        return made

    def _now_ms(self, db: apsw.Connection) -> int:
        ((_, last_ms),) = db.execute(schema.READ_CLOCK, (self._namespace,))
        return max(self._clock_ms(), last_ms or 0)

    def _clock_ms(self) -> int:
        return time.time_ns() // 1_000_000 if self._clock is None else self._clock.now_ms()

    @contextmanager
    def _opened(self, flags: int) -> Iterator[apsw.Connection]:
        try:
            db = apsw.Connection(self._path, flags=flags)
            try:
                db.set_busy_handler(schema.patience(self._timeout_ms))
                ((version,),) = db.execute("PRAGMA user_version")
                if version != schema.SCHEMA:
                    raise StoreUnusable(
                        f"the store {self._path} has schema {version} and this budgetguard {schema.SCHEMA}: let a "
                        "guard open it, which migrates an older one, or use the version that wrote it"
                    )
                yield db
            finally:
                db.close()  # what was not committed is rolled back
        except (apsw.BusyError, apsw.LockedError) as error:
            raise StoreAway(f"the store {self._path} is held by another process's transaction: {error}") from error
        except apsw.Error as error:
            raise StoreUnusable(f"the store {self._path} cannot be used: {error}; check the file") from error
        except (ValueError, TypeError, LookupError) as error:
            raise StoreUnusable(f"a row of the store {self._path} cannot be read: {error!r}") from error


def versions() -> dict[str, str]:
    """Of SQLite, as apsw carries it."""
    return {"sqlite": apsw.sqlite_lib_version()}


def _held(id: str, body: str, slot_ms: int, lease_end_ms: int, plan: str) -> Held:
    estimate, *_ = json.loads(body)
    accounts = tuple(claim.account for claim in plan_from_text(plan).claims)
    return Held(id, accounts, Amounts(*estimate), slot_ms, lease_end_ms)
