"""The SQLite file: its tables, how it is opened, and every statement by name."""

from __future__ import annotations

import itertools
import random
import secrets
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import apsw

from budgetguard.ledger.closing_schema import SQLITE as CLOSINGS
from budgetguard.ledger.migrations import SECOND_USAGE_TABLE, steps_between
from budgetguard.ledger.refusals import TABLE as REFUSALS
from budgetguard.ledger.table import TABLE as TOKEN_USAGE

SCHEMA = 4
_NEW_RESERVATIONS = """
UPDATE reservations SET body = json_insert(
    body, '$[5][#]', json('false'), '$[5][#]', NULL, '$[#]', 1, '$[#]', '', '$[#]', '', '$[#]', '');
"""
_TOLD = """
CREATE TABLE told (
    namespace TEXT NOT NULL, cause TEXT NOT NULL, until_ms INTEGER NOT NULL, asked_by TEXT NOT NULL,
    PRIMARY KEY (namespace, cause)
) WITHOUT ROWID;
"""
_OUTPUTS = """
CREATE TABLE outputs (
    namespace TEXT NOT NULL, key BLOB NOT NULL, words TEXT NOT NULL, counts TEXT NOT NULL,
    written_ms INTEGER NOT NULL, until_ms INTEGER NOT NULL, PRIMARY KEY (namespace, key)
) WITHOUT ROWID;
CREATE INDEX outputs_by_time ON outputs (namespace, written_ms);
"""
MIGRATIONS = {2: SECOND_USAGE_TABLE + _NEW_RESERVATIONS + _TOLD, 3: _OUTPUTS}
"""By the schema that each leads from."""

TABLES = f"""
CREATE TABLE meta (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
CREATE TABLE clocks (namespace TEXT PRIMARY KEY, last_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE plans (digest BLOB PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE accounts (
    namespace TEXT NOT NULL, key TEXT NOT NULL, budget TEXT NOT NULL, per TEXT NOT NULL, unit TEXT NOT NULL,
    period TEXT NOT NULL, window TEXT NOT NULL, window_start_ms INTEGER, window_end_ms INTEGER,
    spent INTEGER NOT NULL, reserved INTEGER NOT NULL, announced INTEGER NOT NULL, announced_ms INTEGER NOT NULL,
    keep_until_ms INTEGER NOT NULL, slots TEXT NOT NULL,
    PRIMARY KEY (namespace, key)
) WITHOUT ROWID;
CREATE INDEX accounts_old ON accounts (namespace, keep_until_ms);
CREATE TABLE reservations (
    namespace TEXT NOT NULL, id TEXT NOT NULL, state TEXT NOT NULL, plan BLOB NOT NULL, body TEXT NOT NULL,
    admitted_ms INTEGER NOT NULL, slot_ms INTEGER NOT NULL, lease_end_ms INTEGER NOT NULL,
    keep_until_ms INTEGER NOT NULL, revision INTEGER NOT NULL,
    PRIMARY KEY (namespace, id)
) WITHOUT ROWID;
CREATE INDEX reservations_open ON reservations (namespace, lease_end_ms) WHERE state = 'held';
CREATE INDEX reservations_old ON reservations (namespace, keep_until_ms) WHERE state <> 'held';
{_TOLD}
{_OUTPUTS}
"""

WRITE_META = "INSERT INTO meta (name, value) VALUES (?, ?)"
READ_CLOCK = """
SELECT (SELECT value FROM meta WHERE name = 'incarnation'), (SELECT last_ms FROM clocks WHERE namespace = ?)"""
WRITE_CLOCK = "INSERT OR REPLACE INTO clocks (namespace, last_ms) VALUES (?, ?)"
ACCEPT_LOSS = "INSERT OR REPLACE INTO meta (name, value) VALUES ('loss_accepted', ?)"
LOSS_ACCEPTED = """
SELECT 1 FROM meta AS accepted JOIN meta AS found ON found.value = accepted.value
WHERE accepted.name = 'loss_accepted' AND found.name = 'incarnation'"""
ADD_PLAN = "INSERT INTO plans (digest, body) VALUES (?, ?) ON CONFLICT (digest) DO NOTHING"
READ_PLAN = "SELECT body FROM plans WHERE digest = ?"
# CROSS JOIN keeps SQLite to the written order: it may otherwise read the whole namespace for every batch.
READ_BALANCES = """
SELECT a.key, a.spent, a.reserved, a.announced, a.announced_ms, a.keep_until_ms, a.slots
FROM json_each(?2) AS asked CROSS JOIN accounts AS a ON a.namespace = ?1 AND a.key = asked.value
WHERE a.keep_until_ms > ?3 OR a.reserved > 0"""
WRITE_ACCOUNT = """
INSERT INTO accounts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (namespace, key) DO UPDATE SET spent = excluded.spent, reserved = excluded.reserved,
announced = excluded.announced, announced_ms = excluded.announced_ms, keep_until_ms = excluded.keep_until_ms,
slots = excluded.slots"""
# Two of them, because SQLite writes an index anew whenever its column is set, be it to what it was.
UPDATE_ACCOUNT = """
UPDATE accounts SET spent = ?3, reserved = ?4, announced = ?5, announced_ms = ?6, slots = ?8
WHERE namespace = ?1 AND key = ?2"""
PROLONG_ACCOUNT = """
UPDATE accounts SET spent = ?3, reserved = ?4, announced = ?5, announced_ms = ?6, keep_until_ms = ?7, slots = ?8
WHERE namespace = ?1 AND key = ?2"""
READ_RESERVATIONS = """
SELECT r.* FROM json_each(?2) AS asked CROSS JOIN reservations AS r ON r.namespace = ?1 AND r.id = asked.value
WHERE r.state = 'held' OR r.keep_until_ms > ?3"""
WRITE_RESERVATION = "INSERT OR REPLACE INTO reservations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
DUE = """
SELECT id FROM reservations
WHERE namespace = ? AND state = 'held' AND lease_end_ms <= ?
ORDER BY lease_end_ms LIMIT ?"""
FORGET_ACCOUNTS = "DELETE FROM accounts WHERE namespace = ? AND keep_until_ms <= ? AND reserved = 0"
FORGET_RESERVATIONS = "DELETE FROM reservations WHERE namespace = ? AND state <> 'held' AND keep_until_ms <= ?"
FORGET_TOLD = "DELETE FROM told WHERE namespace = ? AND until_ms <= ?"
TELL = """
INSERT INTO told VALUES (?1, ?2, ?4, ?5)
ON CONFLICT DO UPDATE SET until_ms = excluded.until_ms, asked_by = excluded.asked_by WHERE until_ms <= ?3"""
TOLD_BY = "SELECT 1 FROM told WHERE namespace = ? AND cause = ? AND asked_by = ?"
READ_OUTPUT = "SELECT counts FROM outputs WHERE namespace = ? AND key = ?"
READ_OUTPUTS = """
SELECT o.words, o.counts, o.written_ms
FROM json_each(?2) AS asked CROSS JOIN outputs AS o ON o.namespace = ?1 AND o.key = unhex(asked.value)
WHERE o.until_ms > ?3 ORDER BY o.written_ms DESC"""
READ_LAST_OUTPUTS = """
SELECT words, counts, written_ms FROM outputs WHERE namespace = ? AND until_ms > ? ORDER BY written_ms DESC LIMIT ?"""
WRITE_OUTPUT = """
INSERT INTO outputs VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (namespace, key) DO UPDATE SET
words = excluded.words, counts = excluded.counts, written_ms = excluded.written_ms, until_ms = excluded.until_ms"""
FORGET_MOST_OUTPUTS = """
DELETE FROM outputs WHERE namespace = ?1 AND key IN (
    SELECT key FROM outputs WHERE namespace = ?1 ORDER BY written_ms DESC LIMIT -1 OFFSET ?2)"""
FORGET_OUTPUTS = "DELETE FROM outputs WHERE namespace = ? AND until_ms <= ?"
FORGET_PLANS = "DELETE FROM plans WHERE digest NOT IN (SELECT plan FROM reservations)"
READ_ROW = """
SELECT revision, status, prompt_tokens, completion_tokens, cost_nanousd, would_refuse, expired_tokens,
       expired_cost_nanousd, slot_ms
FROM token_usage WHERE reservation_id = ? AND namespace = ?"""


def loss_was_accepted(path: str) -> bool:
    """Whether somebody said of the file that it may be started from although another was lost. Changes nothing."""
    with closing(apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)) as db:
        try:
            return bool(db.execute(LOSS_ACCEPTED).fetchall())
        except apsw.SQLError:
            return False  # no tables yet


def connect(path: str, timeout_ms: int) -> apsw.Connection:
    """A connection to the file, created if it is missing: WAL, durable, waiting for other writers at most `timeout_ms`.

    Raises:
        StoreUnusable: the schema is another one, or the file cannot be opened or written.
    """
    if path != ":memory:":
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    db = apsw.Connection(path)
    try:
        # One plan for a statement, whatever is bound to it: or SQLite plans those that read anew at every use.
        db.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
        waiting = patience(timeout_ms)
        db.set_busy_handler(waiting)
        use_wal(db, waiting)
        db.execute("PRAGMA synchronous = FULL")
        _prepare(db)
    except BaseException:
        db.close()
        raise
    return db


def use_wal(db: apsw.Connection, waiting: Callable[[int], bool]) -> None:
    """Switch to WAL. Where others make the file at the same time, SQLite gives up without asking the busy handler."""
    for tries in itertools.count():
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except apsw.BusyError:
            if not waiting(tries):
                raise
        else:
            return


def _prepare(db: apsw.Connection) -> None:
    db.execute("BEGIN IMMEDIATE")
    try:
        version = int(str(db.execute("PRAGMA user_version").fetchall()[0][0]))
        if version == 0:
            db.execute(TABLES + TOKEN_USAGE + REFUSALS + CLOSINGS)
            db.execute(WRITE_META, ("incarnation", secrets.token_hex(16)))
            db.execute(f"PRAGMA user_version = {SCHEMA}")
        else:
            migrate(db, version)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def migrate(db: apsw.Connection, version: int) -> None:
    """Make a store of an older schema one of this version's, in the caller's transaction.

    Raises:
        StoreUnusable: it is newer, or older than any that is known.
    """
    for step, made in steps_between("the store", version, SCHEMA, MIGRATIONS):
        db.execute(f"{step};\nPRAGMA user_version = {made}")


def patience(timeout_ms: int) -> Callable[[int], bool]:
    """A busy handler that waits for another process's transaction in short random steps, in all at most so long.

    SQLite's own steps grow and starve some.
    """
    started: list[float] = [0.0]

    def wait(tries: int) -> bool:
        now = time.monotonic()
        if tries == 0:
            started[0] = now
        if now - started[0] > timeout_ms / 1000:
            return False
        time.sleep(random.uniform(0.0003, 0.002))
        return True

    return wait
