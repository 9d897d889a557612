"""Counts of refusals as an entry of the outbox: packed where they are noted, read where they are drained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from budgetguard.core.amounts import MAX_AMOUNT, Amounts
from budgetguard.ledger.refusals import Flush
from budgetguard.store import RefusalCount, RefusedBy
from budgetguard.stores.redis.plans import pack, unpack

FIELD = b"refusals"
"""What such an entry calls itself; a ledger row is a `row`."""


def packed_refusals(flush_id: str, rows: Sequence[RefusalCount]) -> bytes:
    """{flush id, rows}, a row as the fields of `RefusalCount`."""
    return pack((flush_id, [(*row[:4], dict(row.labels), row.calls, _bounded(row.asked)) for row in rows]))


def _bounded(asked: Amounts) -> list[int]:
    return [min(amount, MAX_AMOUNT) for amount in asked]


def flush_from(packed: bytes) -> Flush:
    """The inverse of `packed_refusals`.

    Raises:
        Exception: it is none; of which kind depends on what it is.
    """
    flush_id, rows = unpack(packed)
    return Flush(flush_id.decode(), tuple(_count(*row) for row in rows))


def _count(
    minute_ms: int, shadow: bool, cause: bytes, limits: Any, labels: dict[bytes, bytes], calls: int, asked: list[int]
) -> RefusalCount:
    for amount in (minute_ms, calls, *asked):
        if type(amount) is not int or not 0 <= amount <= MAX_AMOUNT:
            raise ValueError(f"amount {amount!r}")
    return RefusalCount(
        minute_ms, bool(shadow), cause.decode(),
        tuple(RefusedBy(*(text.decode() for text in limit)) for limit in limits),
        {name.decode(): value.decode() for name, value in labels.items()}, calls, Amounts(*asked),
    )  # fmt: skip
