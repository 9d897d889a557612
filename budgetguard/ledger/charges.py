"""What ledger rows charge: which amounts, on which accounts, in which slot."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from budgetguard.core.amounts import Amounts
from budgetguard.core.model import OnExpiry
from budgetguard.core.verbs import Row
from budgetguard.ledger.forgotten import READ as READ_FORGOTTEN
from budgetguard.ledger.table import EPOCH, timestamp

Ask = Callable[[str, Sequence[Any]], Iterable[tuple[Any, ...]]]
"""Runs a question with its bindings (`?`)."""
CHARGES = """
SELECT reservation_id, revision, status, timestamp, settled_at, slot_ms, prompt_tokens, completion_tokens,
       cost_nanousd, expired_tokens, expired_cost_nanousd, estimated_tokens, estimated_cost_nanousd,
       CAST(accounts AS TEXT)
FROM token_usage
WHERE namespace = ?
  AND (timestamp >= ? OR CAST(accounts AS TEXT) LIKE '%"total"%' OR CAST(accounts AS TEXT) LIKE '%"rolling %')"""
EXTENT = "SELECT count(*), min(timestamp), max(timestamp), max(settled_at) FROM token_usage WHERE namespace = ?"
_MS = timedelta(milliseconds=1)


class Extent(NamedTuple):
    """How far a namespace's rows reach: of their admissions the first and the last, and when the last was written.

    `schema`: of the ledger, or of the store that it is part of. `forgotten_ms`: the last admission among those that
    were deleted; None if none ever was.
    """

    schema: int
    rows: int
    first_ms: int | None
    last_ms: int | None
    settled_ms: int | None
    forgotten_ms: int | None


class Charge(NamedTuple):
    """What stands as spent for one call, on each of the accounts with these keys.

    `slot_ms` is the instant whose slot it counts in on rolling periods. `uncounted`: it may have been charged before
    it was forgotten, or not at all, and nobody knows on which accounts.
    """

    id: str
    revision: int
    amounts: Amounts
    keys: tuple[str, ...]
    timestamp_ms: int
    slot_ms: int
    settled_ms: int
    uncounted: bool = False


def charges(ask: Ask, namespace: str, since_ms: int, on_expiry: OnExpiry = "charge") -> Iterator[Charge]:
    """Of the rows of calls that were admitted since then; of earlier ones those that name accounts without windows.

    Args:
        on_expiry: of a row that cannot tell whether its expiry charged: that of a call without an estimate.
    """
    for (
        id, revision, status, at, settled, slot_ms, prompt, completion, cost, expired, expired_cost, estimated,
        estimated_cost, accounts,
    ) in ask(CHARGES, (namespace, timestamp(since_ms))):  # fmt: skip
        amounts = _charged(
            status, prompt, completion, cost, expired, expired_cost, estimated or estimated_cost, on_expiry
        )
        keys, is_uncounted = keys_in(accounts), status == "uncounted"
        yield Charge(id, revision, amounts, keys, instant_ms(at), slot_ms, instant_ms(settled), is_uncounted)


def extent(ask: Ask, namespace: str, schema: int) -> Extent:
    """How far the rows reach, in a ledger of that schema."""
    ((rows, *instants),) = ask(EXTENT, (namespace,))
    first_ms, last_ms, settled_ms = (None if at is None else instant_ms(at) for at in instants)
    return Extent(schema, rows, first_ms, last_ms, settled_ms, forgotten_ms(ask, namespace))


def forgotten_ms(ask: Ask, namespace: str) -> int | None:
    """The last admission among the rows that were deleted; None if none ever was."""
    return next((instant_ms(until) for (until,) in ask(READ_FORGOTTEN, (namespace,))), None)


def charge_of(row: Row, on_expiry: OnExpiry = "charge") -> Charge:
    """The same of a row that nobody has drained."""
    usage, expired = row.usage, row.expired_charge
    amounts = _charged(
        row.status, usage.prompt_tokens, usage.completion_tokens, usage.cost_nanousd, expired.tokens, expired.usd,
        row.estimate.tokens or row.estimate.usd, on_expiry,
    )  # fmt: skip
    keys = tuple(claim.account.key for claim in row.plan.claims if claim.account.key not in row.gone)
    return Charge(
        row.id, row.revision, amounts, keys, row.timestamp_ms, row.slot_ms, row.settled_ms, row.status == "uncounted"
    )


def charged_in(row: Mapping[str, Any], on_expiry: OnExpiry = "charge") -> Amounts:
    """The same of a row by column."""
    return _charged(
        row["status"], row["prompt_tokens"], row["completion_tokens"], row["cost_nanousd"], row["expired_tokens"],
        row["expired_cost_nanousd"], row["estimated_tokens"] or row["estimated_cost_nanousd"], on_expiry,
    )  # fmt: skip


def _charged(
    status: str, prompt: int, completion: int, cost: int | None, expired: int, expired_cost: int, estimated: int,
    on_expiry: OnExpiry,
) -> Amounts:  # fmt: skip
    """What a row says was charged, in every unit."""
    if status == "released":
        return Amounts()
    if status != "expired":
        return Amounts(prompt + completion, prompt, completion, cost or 0, 1)
    charges = bool(expired or expired_cost) or (not estimated and on_expiry == "charge")
    return Amounts(expired, prompt, completion, expired_cost, int(charges))


def instant_ms(at: str | datetime) -> int:
    """Of a row's time, as a database tells it."""
    if isinstance(at, str):
        at = datetime.fromisoformat(at).replace(tzinfo=UTC)
    return (at - EPOCH) // _MS


@lru_cache(65_536)
def keys_in(accounts: str) -> tuple[str, ...]:
    """The keys of a row's accounts, as stores have them."""
    return tuple(json.dumps(parts, separators=(",", ":")) for parts in json.loads(accounts))
