"""What a namespace remembers of calls that have ended, made again from their ledger rows.

So a settle that comes once more is known to have been charged, and one that comes after an expiry takes back what
that charged. `lua/lib/holds.lua` and `write_hold.lua` say how a reservation is written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from budgetguard.core.amounts import MAX_AMOUNT, Amounts
from budgetguard.core.machine import EXPIRED_KEEP_MS
from budgetguard.core.model import CallInfo, Claim, Plan
from budgetguard.ledger.charges import charged_in, instant_ms
from budgetguard.ledger.table import LABEL_COLUMNS
from budgetguard.ledger.tally import account_of
from budgetguard.stores.redis.keys import Keys
from budgetguard.stores.redis.operations import info_of
from budgetguard.stores.redis.plans import SentPlan, pack, unpack_all

RANKS = (b"held", b"expired", b"released", b"assumed", b"settled")
"""What is known of a call only grows: `core.machine`."""


class Remembered(NamedTuple):
    """A reservation that has ended: its record, and how long that stands."""

    id: str
    rank: int
    record: bytes
    keep_until_ms: int


def remembered(row: Mapping[str, Any], keys: Keys, replay_keep_ms: int) -> Remembered:
    """Of a ledger row by column."""
    status: str = row["status"]
    state = status if status in ("expired", "released", "assumed") else "settled"
    settled_ms, admitted_ms = instant_ms(row["settled_at"]), instant_ms(row["timestamp"])
    keep_until_ms = settled_ms + (EXPIRED_KEEP_MS if state == "expired" else replay_keep_ms)
    charged = charged_in(row)
    shadows = list(row["would_refuse"])
    if state == "settled":  # final: only what tells a repeat from a conflict
        fields: Sequence[Any] = (
            state, admitted_ms, 0, 0, keep_until_ms, 0, b"", [], charged, [], b"", b"", shadows
        )  # fmt: skip
    else:
        estimate = charged._replace(tokens=row["estimated_tokens"], usd=row["estimated_cost_nanousd"])
        expired = Amounts(tokens=row["expired_tokens"], usd=row["expired_cost_nanousd"])
        slot_after_ms = max(row["slot_ms"] - admitted_ms, 0)
        fields = (
            state, admitted_ms, slot_after_ms, 0, keep_until_ms, row["revision"], _plan_text(row, admitted_ms, keys),
            estimate, charged, expired, info_of(_info(row)), b"", shadows,
        )  # fmt: skip
    record = b"".join(map(pack, fields))
    return Remembered(row["reservation_id"], RANKS.index(state.encode()), record, keep_until_ms)


def rank_of(record: bytes | None) -> int:
    """Of what stands; -1 for nothing, or what cannot be read."""
    try:
        return RANKS.index(unpack_all(record)[0]) if record else -1
    except (ValueError, LookupError):
        return -1


def _plan_text(row: Mapping[str, Any], admitted_ms: int, keys: Keys) -> bytes:
    """The accounts that the row charges. Its limits are gone: none is passed."""
    names = (json.dumps(parts, separators=(",", ":")) for parts in row["accounts"])
    accounts = [found for name in names if (found := account_of(name, admitted_ms)) is not None]
    return SentPlan(Plan(tuple(Claim(account, MAX_AMOUNT) for account in accounts)), keys).wire(False)[0]


def _info(row: Mapping[str, Any]) -> CallInfo:
    columns = {**LABEL_COLUMNS, "model": "model", "provider": "provider"}
    labels = {name: row[column] for name, column in columns.items() if row[column] is not None} | row["labels"]
    operation_id = row["operation_id"] if row["operation_id"] != row["reservation_id"] else ""
    return CallInfo(
        labels, row["price_source"], row["host"], operation_id=operation_id, attempt=row["attempt"],
        prompt_hash=row["prompt_hash"] or "", process=row["process"], library_version=row["library_version"],
    )  # fmt: skip
