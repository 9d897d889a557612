"""A ledger in PostgreSQL that is only read."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg

from budgetguard.core.model import OnExpiry
from budgetguard.errors import StoreAway, StoreUnusable
from budgetguard.ledger import postgres_schema as schema
from budgetguard.ledger.charges import Charge, Extent, charges, extent
from budgetguard.ledger.closing import Billing, Closing, billing, rows_of
from budgetguard.ledger.postgres import connect, read_version, shown
from budgetguard.ledger.reading import OF_ONE, RESOLVED, ROWS, Stretch, record
from budgetguard.ledger.refusal_sums import RefusalSum, refusal_sums
from budgetguard.ledger.repeats import Repeats, repeats
from budgetguard.ledger.sums import POSTGRES, Sum, sums
from budgetguard.ledger.table import timestamp
from budgetguard.ledger.totals import NOWHERE, Total, Where, totals

TIMEOUT_MS = 600_000
"""Of one question: an export reads as long as who takes the rows."""
AT_ONCE = 2_000
_TIMES = ("timestamp", "settled_at")


class PostgresBook:
    """A `Book` in the database of a URL."""

    def __init__(self, url: str) -> None:
        self._shown = shown(url)
        try:
            self._db = connect(url, TIMEOUT_MS)
            # All of an answer as it stands at one instant.
            self._db.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            version = read_version(self._db)
        except psycopg.Error as error:
            raise self._translated(error) from error
        if version != schema.SCHEMA:
            self._db.close()
            found = f"has schema {version}" if version else "has no tables yet"
            raise StoreUnusable(
                f"the ledger {self._shown} {found} and this budgetguard reads schema {schema.SCHEMA}: "
                "drain into it, or use the version that wrote it"
            )

    def totals(self, stretch: Stretch, group_by: Sequence[str] = (), where: Where = NOWHERE) -> list[Total]:
        with self.standing():
            return totals(self._ask, stretch, group_by, where)

    def sums(self, stretch: Stretch, by: Sequence[str] = (), where: Mapping[str, str] = NOWHERE) -> list[Sum]:
        with self.standing():
            return sums(self._ask, POSTGRES, stretch, by, where)

    def refusals(
        self, stretch: Stretch, by: Sequence[str] = (), where: Mapping[str, str] = NOWHERE, shadow: bool | None = None
    ) -> list[RefusalSum]:
        with self.standing():
            return refusal_sums(self._ask, POSTGRES, stretch, by, where, shadow)

    def billing(self, namespace: str, month: str, zone: str) -> Billing:
        with self.standing():
            return billing(self._ask, POSTGRES, namespace, month, zone)

    def billed_rows(self, namespace: str, closing: Closing) -> list[Sum]:
        with self.standing():
            return rows_of(self._ask, POSTGRES, namespace, closing)

    def repeats(self, stretch: Stretch, where: Mapping[str, str] = NOWHERE, most: int = 20) -> Repeats:
        with self.standing():
            return repeats(self._ask, POSTGRES, stretch, where, most)

    @contextmanager
    def standing(self) -> Iterator[None]:
        try:
            with self._db.transaction():
                yield
        except psycopg.Error as error:
            raise self._translated(error) from error

    def _ask(self, question: str, bindings: Sequence[Any]) -> Iterable[tuple[Any, ...]]:
        return self._db.execute(question.replace("%", "%%").replace("?", "%s"), bindings)

    def _streamed(self, question: str, bindings: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        with self._db.cursor(name="rows") as cursor:
            cursor.itersize = AT_ONCE
            cursor.execute(question.replace("%", "%%").replace("?", "%s"), bindings)
            yield from cursor

    def rows(self, stretch: Stretch) -> Iterator[dict[str, Any]]:
        with self.standing():
            yield from map(_record, self._streamed(ROWS, stretch.bindings))

    def charges(self, namespace: str, since_ms: int, on_expiry: OnExpiry = "charge") -> Iterator[Charge]:
        with self.standing():
            yield from charges(self._streamed, namespace, since_ms, on_expiry)

    def resolved(
        self, namespace: str, since_ms: int, expired_since_ms: int, ids: Collection[str] = ()
    ) -> Iterator[dict[str, Any]]:
        with self.standing():
            ended = (namespace, f"{timestamp(since_ms)}+00", f"{timestamp(expired_since_ms)}+00")
            yield from map(_record, self._streamed(RESOLVED, ended))
            for id in ids:
                yield from map(_record, self._ask(OF_ONE, (namespace, id)))

    def extent(self, namespace: str) -> Extent:
        with self.standing():
            return extent(self._ask, namespace, schema.SCHEMA)

    def close(self) -> None:
        self._db.close()

    def _translated(self, error: psycopg.Error) -> StoreAway | StoreUnusable:
        text = " ".join(str(error).split())
        if isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
            return StoreAway(f"the ledger {self._shown} cannot be reached: {text}")
        return StoreUnusable(f"the ledger {self._shown} cannot be read: {text}; let its user read token_usage")


def _record(row: Sequence[Any]) -> dict[str, Any]:
    made = record(row)
    for name in _TIMES:
        made[name] = made[name].strftime("%Y-%m-%d %H:%M:%S.%f")
    return made
