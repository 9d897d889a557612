"""The ledger in SQL: its tables, and the way of rows from a store's outbox into it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from budgetguard.errors import ConfigError

if TYPE_CHECKING:
    from budgetguard.ledger.drain import Ledger

SQLITE = "sqlite:///"
POSTGRES = ("postgresql://", "postgres://")


def open_ledger(url: str) -> Ledger:
    """The ledger of a URL: `sqlite:///file.db` (relative to the working directory) or `postgresql://host/database`.

    Nothing is opened yet.

    Raises:
        ConfigError: no ledger has such a URL, or psycopg is not installed.
    """
    if url.startswith(POSTGRES):
        shown_ledger(url)  # refuses what libpq cannot read
        from budgetguard.ledger.postgres import PostgresLedger

        return PostgresLedger(url)
    path = url.removeprefix(SQLITE)
    if path in (url, "", ":memory:"):
        scheme = url if url.startswith("sqlite:") else repr(url.partition(":")[0][:20])
        raise ConfigError("ledger", [f"expected sqlite:///file.db or postgresql://host/database, not {scheme}"])
    from budgetguard.ledger.sqlite import SQLiteLedger

    return SQLiteLedger(path)


def shown_ledger(url: str) -> str:
    """What may be shown of a ledger's URL: no password.

    Raises:
        ConfigError: PostgreSQL's library cannot read it, or is not installed.
    """
    if not url.startswith(POSTGRES):
        return url
    try:
        from budgetguard.ledger.postgres import shown
    except ImportError as error:
        raise ConfigError(
            "ledger", [f'PostgreSQL needs psycopg ({error}): pip install "llm-budgetguard[postgres]"']
        ) from None
    return shown(url)
