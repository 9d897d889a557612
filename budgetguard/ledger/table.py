"""`token_usage`, the same in every SQL database that holds a ledger: its columns, and a row's way into it.

One row for each reservation of a namespace; a higher revision replaces a lower one, so rows may come in any order and
more than once.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from budgetguard.core.verbs import Row
from budgetguard.ledger import forgotten, rollups_sqlite

TABLE = f"""
CREATE TABLE token_usage (
    reservation_id TEXT NOT NULL, namespace TEXT NOT NULL, revision INTEGER NOT NULL,
    timestamp TEXT NOT NULL, settled_at TEXT NOT NULL,
    team TEXT, agent TEXT, session_id TEXT, task_type TEXT, user TEXT, labels TEXT NOT NULL,
    provider TEXT, model TEXT,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, cache_read_tokens INTEGER NOT NULL,
    cache_write_tokens INTEGER NOT NULL, reasoning_tokens INTEGER NOT NULL, total_tokens INTEGER NOT NULL,
    cost_nanousd INTEGER, cost REAL GENERATED ALWAYS AS (cost_nanousd / 1e9) VIRTUAL,
    estimated_tokens INTEGER NOT NULL, estimated_cost_nanousd INTEGER NOT NULL,
    latency_ms INTEGER NOT NULL, status TEXT NOT NULL, error_type TEXT, price_source TEXT NOT NULL,
    usage_source TEXT NOT NULL, operation_id TEXT NOT NULL,
    accounts TEXT NOT NULL, would_refuse TEXT NOT NULL, host TEXT NOT NULL,
    expired_tokens INTEGER NOT NULL, expired_cost_nanousd INTEGER NOT NULL, slot_ms INTEGER NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 1, streamed INTEGER NOT NULL DEFAULT 0, first_token_ms INTEGER, prompt_hash TEXT,
    process TEXT NOT NULL DEFAULT '', library_version TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (reservation_id, namespace)
);
CREATE INDEX token_usage_by_time ON token_usage (namespace, timestamp);
{rollups_sqlite.TABLES}
{forgotten.SQLITE}
"""
"""Of SQLite, with the rollups that it keeps."""
COLUMNS = (
    "reservation_id", "namespace", "revision", "timestamp", "settled_at", "team", "agent", "session_id", "task_type",
    "user", "labels", "provider", "model", "prompt_tokens", "completion_tokens", "cache_read_tokens",
    "cache_write_tokens", "reasoning_tokens", "total_tokens", "cost_nanousd", "estimated_tokens",
    "estimated_cost_nanousd", "latency_ms", "status", "error_type", "price_source", "usage_source",
    "operation_id", "accounts", "would_refuse", "host", "expired_tokens", "expired_cost_nanousd", "slot_ms",
    "attempt", "streamed", "first_token_ms", "prompt_hash", "process", "library_version",
)  # fmt: skip
# For the first row of a reservation, which most are: apsw hashes a statement's text for each row that it runs with.
ADD_ROW = (
    f"INSERT INTO token_usage VALUES ({', '.join('?' * len(COLUMNS))}) "  # noqa: S608 - question marks
    "ON CONFLICT DO NOTHING"
)
WRITE_ROW = (
    f"INSERT INTO token_usage ({', '.join(COLUMNS)}) "  # noqa: S608 - made of constants
    f"VALUES ({', '.join('?' * len(COLUMNS))}) "
    f"ON CONFLICT DO UPDATE SET {', '.join(f'{c} = excluded.{c}' for c in COLUMNS[2:])} "
    "WHERE excluded.revision > revision"
)
PRUNE_ROWS = """
DELETE FROM token_usage WHERE rowid IN (
    SELECT rowid FROM token_usage WHERE namespace = ? AND timestamp < ? LIMIT ?)"""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LABEL_COLUMNS = {"team": "team", "agent": "agent", "session": "session_id", "task": "task_type", "user": "user"}
OWN_COLUMN = frozenset([*LABEL_COLUMNS, "model", "provider"])
_compact = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def ledger_row(namespace: str, row: Row) -> tuple[Any, ...]:
    """The row of `token_usage`, in the order of `COLUMNS`."""
    info, labels, usage = row.info, row.info.labels, row.usage
    others = {name: value for name, value in labels.items() if name not in OWN_COLUMN}
    shadow = _compact(row.would_refuse) if row.would_refuse else "[]"
    counted = row.plan.keys_text
    if row.gone:
        counted = f"[{','.join(c.account.key for c in row.plan.claims if c.account.key not in row.gone)}]"
    return (
        row.id, namespace, row.revision, timestamp(row.timestamp_ms), timestamp(row.settled_ms),
        *map(labels.get, LABEL_COLUMNS), _compact(others) if others else "{}",
        labels.get("provider"), labels.get("model"),
        usage.prompt_tokens, usage.completion_tokens, usage.cache_read_tokens, usage.cache_write_tokens,
        usage.reasoning_tokens, usage.prompt_tokens + usage.completion_tokens, usage.cost_nanousd,
        row.estimate.tokens, row.estimate.usd, row.latency_ms, row.status, row.error_type or None,
        row.price_source, usage.source, info.operation_id or row.id, counted, shadow, info.host,
        row.expired_charge.tokens, row.expired_charge.usd, row.slot_ms,
        info.attempt, usage.streamed, usage.first_token_ms, info.prompt_hash or None, info.process,
        info.library_version,
    )  # fmt: skip


@lru_cache(1024)
def timestamp(instant_ms: int) -> str:
    """`YYYY-MM-DD HH:MM:SS.ffffff` in UTC: what SQLite's date functions read."""
    return (EPOCH + timedelta(milliseconds=instant_ms)).strftime("%Y-%m-%d %H:%M:%S.%f")
