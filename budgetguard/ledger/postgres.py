"""A ledger in PostgreSQL: the extra `postgres`, psycopg 3."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict

from budgetguard.core.verbs import Row
from budgetguard.errors import BudgetGuardError, ConfigError, StoreAway, StoreUnusable
from budgetguard.ledger import postgres_schema as schema
from budgetguard.ledger import refusals
from budgetguard.ledger.closing import Billing, close
from budgetguard.ledger.migrations import steps_between
from budgetguard.ledger.refusals import Flush, parted
from budgetguard.ledger.sums import POSTGRES
from budgetguard.ledger.table import COLUMNS, timestamp

T = TypeVar("T")
TIMEOUT_MS = 30_000
# What is wrong with one row, and nothing with the database: whoever asked for the write finds out which.
OF_A_ROW = (psycopg.DataError, psycopg.IntegrityError)
_TIMES = frozenset(("timestamp", "settled_at"))
_JSONS = frozenset(("labels", "accounts", "would_refuse", "limits"))
_NUL, _NUL_IN_JSON, _INSTEAD = "\0", "\\u0000", "\ufffd"
"""PostgreSQL holds no NUL in a text, though a label may have one."""


class PostgresLedger:
    """The ledger in the database of a URL, in the first schema of its search path. Safe from any thread.

    Rows are copied into a temporary table and merged from there: a database is asked three times for a batch.

    Args:
        url: as libpq takes it: `postgresql://user:password@host:port/database?sslmode=require`.
        timeout_ms: of a batch; a connection is waited for at most as long.

    Raises:
        StoreAway: from `write`, if the database cannot be reached, is stopping, or does not answer in time.
        StoreUnusable: from `write`, if the ledger has another schema, or may not be made or written.
    """

    def __init__(self, url: str, timeout_ms: int = TIMEOUT_MS) -> None:
        self._url = url
        self._timeout_ms = timeout_ms
        self._lock = threading.Lock()
        self._db: psycopg.Connection[Any] | None = None

    def __repr__(self) -> str:
        return f"PostgresLedger({shown(self._url)!r})"

    def write(self, rows: Sequence[tuple[str, Row | Flush]]) -> None:
        usage, refused = parted(rows)
        batches = [sent(COLUMNS, row) for row in usage], [sent(refusals.COLUMNS, row) for row in refused]
        with self._lock:
            self._translated(lambda: self._write(*batches))

    def prune(self, namespace: str, before_ms: int, most: int) -> int:
        with self._lock:
            return self._translated(lambda: self._prune(namespace, before_ms, most))

    def close_month(
        self, namespace: str, month: str, zone: str, now_ms: int, facts: Callable[[Billing], str]
    ) -> tuple[Billing, bool]:
        def job() -> tuple[Billing, bool]:
            db = self._opened()

            def ask(question: str, bindings: Sequence[Any]) -> psycopg.Cursor[Any]:
                return db.execute(question.replace("?", "%s"), bindings)

            with db.transaction():
                db.execute(schema.ONE_AT_A_TIME)
                return close(ask, POSTGRES, namespace, month, zone, now_ms, facts)

        with self._lock:
            return self._translated(job)

    def close(self) -> None:
        with self._lock:
            self._drop()

    def _write(self, rows: Sequence[Sequence[Any]], refused: Sequence[Sequence[Any]]) -> None:
        db = self._opened()
        if not rows and not refused:
            return
        with db.transaction(), db.cursor() as cursor:
            cursor.execute(schema.ONE_AT_A_TIME)
            if refused:
                cursor.executemany(schema.ADD_REFUSALS, refused)
            cursor.execute(schema.INCOMING)
            with cursor.copy(schema.COPY_ROWS) as copy:
                for row in rows:
                    copy.write_row(row)
            cursor.execute(schema.WRITE_ROWS)

    def _prune(self, namespace: str, before_ms: int, most: int) -> int:
        db = self._opened()
        with db.transaction():
            db.execute(schema.ONE_AT_A_TIME)
            before = f"{timestamp(before_ms)}+00"
            forgotten = db.execute(schema.PRUNE_ROWS, (namespace, before, most)).rowcount
            if forgotten == most:
                return forgotten
            db.execute(schema.PRUNE_SUMS, (namespace, before_ms))
            db.execute(schema.PRUNE_STRETCHES, (namespace, before_ms))
            db.execute(schema.PRUNE_GROUPS, (namespace,))
            return forgotten + db.execute(schema.PRUNE_REFUSALS, (namespace, before, most - forgotten)).rowcount

    def _translated(self, job: Callable[[], T]) -> T:
        try:
            return job()
        except (BudgetGuardError, *OF_A_ROW):
            raise
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            self._drop()
            raise StoreAway(f"the ledger {shown(self._url)} cannot be reached: {_text(error)}") from error
        except psycopg.Error as error:
            self._drop()
            raise StoreUnusable(
                f"the ledger {shown(self._url)} cannot be written: {_text(error)}; "
                "let its user make and write tables there, or name another database"
            ) from error

    def _opened(self) -> psycopg.Connection[Any]:
        if self._db is None or self._db.closed:
            db = connect(self._url, self._timeout_ms)
            try:
                db.execute(schema.DURABLE)
                with db.transaction():
                    self._prepare(db)
            except BaseException:
                db.close()
                raise
            self._db = db
        return self._db

    def _prepare(self, db: psycopg.Connection[Any]) -> None:
        """Make the tables where there are none; see that they are as this version writes them."""
        db.execute(schema.ONE_AT_A_TIME)
        version = read_version(db)
        steps = steps_between(f"the ledger {shown(self._url)}", version, schema.SCHEMA, schema.MIGRATIONS)
        for step, _ in steps:
            db.execute(step)
        if steps:
            db.execute(schema.MAKE_VERSION)
            db.execute(schema.FORGET_VERSION)
            db.execute(schema.WRITE_VERSION, (schema.SCHEMA,))

    def _drop(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None


def connect(url: str, timeout_ms: int) -> psycopg.Connection[Any]:
    """A connection in UTC, whose statements end after so long, and that is given up when the network is silent."""
    seconds = max(2, timeout_ms // 1000)
    return psycopg.connect(
        url, autocommit=True, connect_timeout=seconds, tcp_user_timeout=timeout_ms, keepalives_idle=seconds,
        application_name="budgetguard", prepare_threshold=None,
        options=f"-c timezone=UTC -c statement_timeout={timeout_ms} {_options(url)}",
    )  # fmt: skip


def read_version(db: psycopg.Connection[Any]) -> int:
    """The schema of the ledger that stands there; 0 for none."""
    ((exists,),) = db.execute(schema.HAS_VERSION).fetchall()
    return max((version for (version,) in db.execute(schema.READ_VERSION)), default=0) if exists else 0


def shown(url: str) -> str:
    """The host and database of a URL, and nothing that may be a password.

    Raises:
        ConfigError: it is none that libpq can read.
    """
    try:
        said = conninfo_to_dict(url)
    except psycopg.ProgrammingError:  # its text may quote a part of the password
        said = {"port": "?"}
    host, port, name = (str(said.get(part) or "") for part in ("host", "port", "dbname"))
    if "@" in host + name or not f"0{port}".replace(",", "0").isdecimal():
        raise ConfigError(
            "ledger", ["libpq cannot read this URL; in a password write %40 for @, %2F for /, %3A for :, %3F for ?"]
        )
    return f"postgresql://{host}{port and ':'}{port}/{name}"


def sent(columns: Sequence[str], row: Sequence[Any]) -> list[Any]:
    """The values of a row of these columns, as COPY takes them."""
    return [_value(name, value) for name, value in zip(columns, row, strict=True)]


def _value(name: str, value: Any) -> Any:
    if name in _TIMES:
        return f"{value}+00"
    if name in _JSONS:
        return json.dumps(_replaced(json.loads(value)), ensure_ascii=False) if _NUL_IN_JSON in value else value
    return _replaced(value)


def _replaced(value: Any) -> Any:
    if isinstance(value, dict):
        return {_replaced(name): _replaced(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item) for item in value]
    return value.replace(_NUL, _INSTEAD) if isinstance(value, str) else value


def _options(url: str) -> str:
    """What the URL itself asks of the session."""
    return str(conninfo_to_dict(url).get("options") or "")


def _text(error: psycopg.Error) -> str:
    """What it says, in one line."""
    return " ".join(str(error).split())
