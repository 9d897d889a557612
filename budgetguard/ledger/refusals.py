"""`refusals`, the same in every SQL database that holds a ledger: what calls were refused, in sums of a minute.

A guard flushes its sums under an id; a flush that comes again changes nothing. A call that several limits refuse is in
one row, which names them all: `limits` is a list of [budget, unit, period, reason].
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from budgetguard.core.amounts import MAX_AMOUNT
from budgetguard.core.verbs import Row
from budgetguard.ledger.table import LABEL_COLUMNS, OWN_COLUMN, ledger_row, timestamp
from budgetguard.store import RefusalCount

ASKED = (
    "asked_tokens", "asked_input_tokens", "asked_output_tokens", "asked_cost_nanousd", "asked_requests",
    "asked_concurrent",
)  # fmt: skip
"""In the order of `Amounts`."""
COLUMNS = (
    "flush_id", "namespace", "place", "timestamp", "mode", "cause", "limits", "team", "agent", "session_id",
    "task_type", "user", "labels", "provider", "model", "calls", *ASKED,
)  # fmt: skip
TABLE = f"""
CREATE TABLE refusals (
    flush_id TEXT NOT NULL, namespace TEXT NOT NULL, place INTEGER NOT NULL,
    timestamp TEXT NOT NULL, mode TEXT NOT NULL, cause TEXT NOT NULL, limits TEXT NOT NULL,
    team TEXT, agent TEXT, session_id TEXT, task_type TEXT, user TEXT, labels TEXT NOT NULL, provider TEXT, model TEXT,
    calls INTEGER NOT NULL, {", ".join(f"{name} INTEGER NOT NULL" for name in ASKED)},
    PRIMARY KEY (flush_id, namespace, place)
);
CREATE INDEX refusals_by_time ON refusals (namespace, timestamp);
"""
"""Of SQLite. `mode` is `enforce` or `shadow`; `asked_...` is in the units of the limits that refused, else 0."""
ADD_ROW = f"INSERT INTO refusals VALUES ({', '.join('?' * len(COLUMNS))}) ON CONFLICT DO NOTHING"  # noqa: S608 - marks
PRUNE_ROWS = """
DELETE FROM refusals WHERE rowid IN (
    SELECT rowid FROM refusals WHERE namespace = ? AND timestamp < ? LIMIT ?)"""
_compact = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


class Flush(NamedTuple):
    """What a guard has counted, under the id by which it counts once."""

    id: str
    rows: tuple[RefusalCount, ...]


def parted(
    entries: Sequence[tuple[str, Row | Flush]],
) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """What a ledger is given, each with its namespace: the rows of `token_usage`, and those of `refusals`."""
    usage, refused = [], []
    for namespace, entry in entries:
        if isinstance(entry, Flush):
            refused += refusal_rows(namespace, *entry)
        else:
            usage.append(ledger_row(namespace, entry))
    return usage, refused


def refusal_rows(namespace: str, flush_id: str, counts: Sequence[RefusalCount]) -> list[tuple[Any, ...]]:
    """The rows of `refusals`, in the order of `COLUMNS`."""
    return [_row(namespace, flush_id, place, count) for place, count in enumerate(counts)]


def _row(namespace: str, flush_id: str, place: int, count: RefusalCount) -> tuple[Any, ...]:
    labels = count.labels
    return (
        flush_id, namespace, place, timestamp(count.minute_ms), "shadow" if count.shadow else "enforce", count.cause,
        _compact(count.limits), *map(labels.get, LABEL_COLUMNS),
        _compact({name: value for name, value in labels.items() if name not in OWN_COLUMN}),
        labels.get("provider"), labels.get("model"), count.calls,
        *(min(amount, MAX_AMOUNT) for amount in count.asked),
    )  # fmt: skip
