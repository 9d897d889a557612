"""Values to and from rows. A row that cannot be read spoils only the operation that needs it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from budgetguard.core.amounts import MAX_AMOUNT, Amounts
from budgetguard.core.model import Account, Balance, CallInfo, Plan, Reservation, ReservationState, UsageRow
from budgetguard.core.verbs import Row

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LABEL_COLUMNS = {"team": "team", "agent": "agent", "session": "session_id", "task": "task_type", "user": "user"}
_OWN_COLUMN = frozenset([*LABEL_COLUMNS, "model", "provider"])
_compact = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def digest_of(plan: Plan) -> bytes:
    """What a reservation's row says of its plan: plans are stored once, by content."""
    return blake2b(plan.text.encode(), digest_size=16).digest()


def account_row(namespace: str, account: Account, balance: Balance) -> tuple[Any, ...]:
    return (
        namespace, account.key, account.budget, _compact(account.per), account.unit, str(account.period),
        account.window, account.window_start_ms, account.window_end_ms, balance.spent, balance.reserved,
        balance.announced, balance.announced_ms, balance.keep_until_ms,
        _compact(balance.slots) if balance.slots else "",
    )  # fmt: skip


def balance_from(
    spent: int, reserved: int, announced: int, announced_ms: int, keep_until_ms: int, slots: str
) -> Balance:
    """Raise ValueError or TypeError for a row that somebody else has written."""
    amounts = (spent, reserved, announced, announced_ms, keep_until_ms)
    if not all(type(amount) is int and 0 <= amount <= MAX_AMOUNT for amount in amounts):
        raise ValueError(f"amounts {amounts}")
    rolling = tuple((int(n), int(s), int(r)) for n, s, r in json.loads(slots)) if slots else ()
    return Balance(*amounts, rolling)


def reservation_row(namespace: str, r: Reservation, digest: bytes) -> tuple[Any, ...]:
    info = r.info
    body = [
        r.estimate, r.charged, info.labels, info.price_source, info.host, info.usage, r.would_refuse, r.expired_charge
    ]  # fmt: skip
    return (
        r.id, namespace, r.state, digest, _compact(body), r.admitted_ms, r.slot_ms, r.lease_end_ms, r.keep_until_ms,
        r.revision,
    )  # fmt: skip


def reservation_from(row: tuple[Any, ...], plan: Plan) -> Reservation:
    """Raise ValueError or TypeError for a row that somebody else has written."""
    id, _, state, _, body, admitted_ms, slot_ms, lease_end_ms, keep_until_ms, revision = row
    estimate, charged, labels, price_source, host, usage, would_refuse, expired_charge = json.loads(body)
    return Reservation(
        id, state, plan, Amounts(*estimate), Amounts(*charged), CallInfo(labels, price_source, host, UsageRow(*usage)),
        admitted_ms, slot_ms, lease_end_ms, keep_until_ms, revision, tuple(would_refuse), Amounts(*expired_charge),
    )  # fmt: skip


def ledger_row(namespace: str, row: Row) -> tuple[Any, ...]:
    """The row of `token_usage`, in the order of `schema.LEDGER_COLUMNS`."""
    labels, usage = row.info.labels, row.usage
    others = {name: value for name, value in labels.items() if name not in _OWN_COLUMN}
    shadow = _compact(row.would_refuse) if row.would_refuse else "[]"
    counted = (claim.account.key for claim in row.plan.claims if claim.account.key not in row.gone)
    return (
        row.id, row.revision, namespace, timestamp(row.timestamp_ms), timestamp(row.settled_ms),
        *map(labels.get, LABEL_COLUMNS), _compact(others) if others else "{}",
        labels.get("provider"), labels.get("model"),
        usage.prompt_tokens, usage.completion_tokens, usage.cache_read_tokens, usage.cache_write_tokens,
        usage.reasoning_tokens, usage.prompt_tokens + usage.completion_tokens, usage.cost_nanousd,
        row.estimate.tokens, row.estimate.usd, row.latency_ms, row.status, row.error_type or None,
        row.price_source, f"[{','.join(counted)}]", shadow, row.info.host,
        row.expired_charge.tokens, row.expired_charge.usd,
    )  # fmt: skip


def forgotten_from(id: str, row: tuple[Any, ...], plan: Plan, admitted_ms: int) -> Reservation:
    """What the ledger still knows of a reservation that the store has forgotten."""
    revision, status, prompt, completion, cost_nanousd, expired_tokens, expired_nanousd = row
    state: ReservationState = status if status in ("expired", "assumed", "released") else "settled"
    charges = status != "released" and (status != "expired" or plan.on_expiry == "charge")
    charged = Amounts(prompt + completion, prompt, completion, cost_nanousd or 0, int(charges))
    expired = Amounts(tokens=expired_tokens, usd=expired_nanousd)
    return Reservation(
        id, state, plan, charged, charged, CallInfo(), admitted_ms, admitted_ms, admitted_ms, 0, revision,
        expired_charge=expired,
    )  # fmt: skip


@lru_cache(1024)
def timestamp(instant_ms: int) -> str:
    """`YYYY-MM-DD HH:MM:SS.ffffff` in UTC: what SQLite's date functions read."""
    return (EPOCH + timedelta(milliseconds=instant_ms)).strftime("%Y-%m-%d %H:%M:%S.%f")
