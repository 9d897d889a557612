"""The embedded store: one SQLite file shared by the processes of one machine, durable, with the ledger in it."""

from budgetguard.stores.sqlite.store import SQLiteStore

__all__ = ["SQLiteStore"]
