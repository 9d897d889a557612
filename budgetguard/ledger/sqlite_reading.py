"""A ledger in a SQLite file that is only read."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw

from budgetguard.core.model import OnExpiry
from budgetguard.errors import StoreAway, StoreUnusable
from budgetguard.ledger.charges import Charge, Extent, charges, extent
from budgetguard.ledger.closing import Billing, Closing, billing, rows_of
from budgetguard.ledger.reading import OF_ONE, RESOLVED, ROWS, Stretch, record
from budgetguard.ledger.refusal_sums import RefusalSum, refusal_sums
from budgetguard.ledger.repeats import Repeats, repeats
from budgetguard.ledger.sqlite import BUSY_MS, SCHEMA
from budgetguard.ledger.sums import SQLITE, Sum, sums
from budgetguard.ledger.table import timestamp
from budgetguard.ledger.totals import NOWHERE, Total, Where, totals
from budgetguard.stores.sqlite import schema as store_schema

CACHE_KIB = 65_536
"""In which it sorts, too: with SQLite's own 2 MiB it would do so in files."""


class SQLiteBook:
    """A `Book` in a SQLite file: a ledger's, or a store's."""

    def __init__(self, path: str) -> None:
        if not Path(path).exists():
            raise StoreUnusable(f"there is no ledger {path}: name the file that a store or `ledger drain` writes")
        self._path = path
        try:
            self._db = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)
            self._db.set_busy_timeout(BUSY_MS)
            self._db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            ((version,),) = self._db.execute("PRAGMA user_version").fetchall()
        except apsw.Error as error:
            raise self._translated(error) from error
        if version not in (SCHEMA, store_schema.SCHEMA):
            self._db.close()
            raise StoreUnusable(
                f"the ledger {path} has schema {version} and this budgetguard reads {SCHEMA}, or "
                f"{store_schema.SCHEMA} of a store: let the version that is newer read it, or write to it once"
            )
        self._schema = SCHEMA if version == SCHEMA else store_schema.SCHEMA

    def totals(self, stretch: Stretch, group_by: Sequence[str] = (), where: Where = NOWHERE) -> list[Total]:
        with self.standing():
            return totals(self._ask, stretch, group_by, where)

    def sums(self, stretch: Stretch, by: Sequence[str] = (), where: Mapping[str, str] = NOWHERE) -> list[Sum]:
        with self.standing():
            return sums(self._ask, SQLITE, stretch, by, where)

    def refusals(
        self, stretch: Stretch, by: Sequence[str] = (), where: Mapping[str, str] = NOWHERE, shadow: bool | None = None
    ) -> list[RefusalSum]:
        with self.standing():
            return refusal_sums(self._ask, SQLITE, stretch, by, where, shadow)

    def billing(self, namespace: str, month: str, zone: str) -> Billing:
        with self.standing():
            return billing(self._ask, SQLITE, namespace, month, zone)

    def billed_rows(self, namespace: str, closing: Closing) -> list[Sum]:
        with self.standing():
            return rows_of(self._ask, SQLITE, namespace, closing)

    def repeats(self, stretch: Stretch, where: Mapping[str, str] = NOWHERE, most: int = 20) -> Repeats:
        with self.standing():
            return repeats(self._ask, SQLITE, stretch, where, most)

    @contextmanager
    def standing(self) -> Iterator[None]:
        try:
            with self._db:  # a savepoint, so that one may stand inside another
                yield
        except apsw.Error as error:
            raise self._translated(error) from error

    def _ask(self, question: str, bindings: Sequence[Any]) -> Iterable[tuple[Any, ...]]:
        return self._db.execute(question, bindings)

    def rows(self, stretch: Stretch) -> Iterator[dict[str, Any]]:
        try:
            for row in self._db.execute(ROWS, stretch.bindings):
                yield record(row)
        except apsw.Error as error:
            raise self._translated(error) from error

    def charges(self, namespace: str, since_ms: int, on_expiry: OnExpiry = "charge") -> Iterator[Charge]:
        with self.standing():
            yield from charges(self._ask, namespace, since_ms, on_expiry)

    def resolved(
        self, namespace: str, since_ms: int, expired_since_ms: int, ids: Collection[str] = ()
    ) -> Iterator[dict[str, Any]]:
        with self.standing():
            ended = (namespace, timestamp(since_ms), timestamp(expired_since_ms))
            yield from map(record, self._ask(RESOLVED, ended))
            for id in ids:
                yield from map(record, self._ask(OF_ONE, (namespace, id)))

    def extent(self, namespace: str) -> Extent:
        with self.standing():
            return extent(self._ask, namespace, self._schema)

    def close(self) -> None:
        self._db.close()

    def _translated(self, error: apsw.Error) -> StoreAway | StoreUnusable:
        if isinstance(error, (apsw.BusyError, apsw.LockedError)):
            return StoreAway(f"the ledger {self._path} is held by another process: {error}")
        return StoreUnusable(f"the ledger {self._path} cannot be read: {error}")
