"""The ledger: its table, and how rows move from a store's outbox into a SQL database."""
