"""The ledger in SQL: its table, and the way of rows from a store's outbox into it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from budgetguard.errors import ConfigError

if TYPE_CHECKING:
    from budgetguard.ledger.drain import Ledger

SQLITE = "sqlite:///"


def open_ledger(url: str) -> Ledger:
    """The ledger of a URL: `sqlite:///file.db` (relative to the working directory). Nothing is opened yet.

    Raises:
        ConfigError: no ledger has such a URL.
    """
    path = url.removeprefix(SQLITE)
    if path in (url, "", ":memory:"):
        raise ConfigError("ledger", [f"expected sqlite:///file.db, the only kind there is yet, not {_scheme(url)}"])
    from budgetguard.ledger.sqlite import SQLiteLedger

    return SQLiteLedger(path)


def _scheme(url: str) -> str:
    """What may be shown of a URL: anything else may be a password."""
    return url if url.startswith("sqlite:") else repr(url.partition(":")[0][:20])
