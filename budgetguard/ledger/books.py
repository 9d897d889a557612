"""Opens a ledger to read it."""

from __future__ import annotations

from budgetguard.ledger import POSTGRES, SQLITE, shown_ledger
from budgetguard.ledger.reading import Book


def open_book(url: str) -> Book:
    """The ledger of a URL (`sqlite:///file.db`, also a store's, or `postgresql://...`), which must be there.

    Raises:
        ConfigError: no ledger has such a URL.
        StoreAway, StoreUnusable: it cannot be read.
    """
    if url.startswith(POSTGRES):
        shown_ledger(url)
        from budgetguard.ledger.postgres_reading import PostgresBook

        return PostgresBook(url)
    from budgetguard.ledger.sqlite_reading import SQLiteBook

    return SQLiteBook(url.removeprefix(SQLITE))
