"""Values to and from rows. A row that cannot be read spoils only the operation that needs it."""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import Any, get_args

from budgetguard.core.amounts import MAX_AMOUNT, Amounts
from budgetguard.core.model import Account, Balance, CallInfo, Plan, Reservation, ReservationState, UsageRow
from budgetguard.core.verbs import Settle

STATES = frozenset(get_args(ReservationState))
_compact = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def digest_of(plan_text: str) -> bytes:
    """What a reservation's row says of its plan: plans are stored once, by content."""
    return blake2b(plan_text.encode(), digest_size=16).digest()


def account_row(namespace: str, account: Account, balance: Balance) -> tuple[Any, ...]:
    """The row of `accounts`."""
    return (
        namespace, account.key, account.budget, _compact(account.per), account.unit, str(account.period),
        account.window, account.window_start_ms, account.window_end_ms, *_amounts(balance),
    )  # fmt: skip


def balance_row(namespace: str, key: str, balance: Balance) -> tuple[Any, ...]:
    """What changes of an account that has a row."""
    return (namespace, key, *_amounts(balance))


def _amounts(balance: Balance) -> tuple[Any, ...]:
    *amounts, slots = balance
    return (*amounts, _compact(slots) if slots else "")


def balance_from(
    spent: int, reserved: int, announced: int, announced_ms: int, keep_until_ms: int, slots: str
) -> Balance:
    """Raise ValueError or TypeError for a row that somebody else has written."""
    _check(spent, reserved, announced, announced_ms, keep_until_ms)
    rolling: tuple[tuple[int, int, int], ...] = ()
    if slots:
        rolling = tuple((n, s, r) for n, s, r in json.loads(slots))
        for slot in rolling:
            _check(*slot)
    return Balance(spent, reserved, announced, announced_ms, keep_until_ms, rolling)


def _check(*amounts: Any) -> None:
    for amount in amounts:
        if type(amount) is not int or not 0 <= amount <= MAX_AMOUNT:
            raise ValueError(f"amounts {amounts}")


def reservation_row(namespace: str, r: Reservation, digest: bytes) -> tuple[Any, ...]:
    """The row of `reservations`; `digest` stands for its plan."""
    info = r.info
    body = [
        r.estimate, r.charged, info.labels, info.price_source, info.host, info.usage, info.operation_id, r.would_refuse,
        r.expired_charge, info.attempt, info.prompt_hash, info.process, info.library_version,
    ]  # fmt: skip
    return (
        namespace, r.id, r.state, digest, _compact(body), r.admitted_ms, r.slot_ms, r.lease_end_ms, r.keep_until_ms,
        r.revision,
    )  # fmt: skip


def reservation_from(row: tuple[Any, ...], plan: Plan) -> Reservation:
    """Raise ValueError or TypeError for a row that somebody else has written."""
    _, id, state, _, body, admitted_ms, slot_ms, lease_end_ms, keep_until_ms, revision = row
    estimate, charged, labels, price_source, host, usage, operation_id, would_refuse, expired_charge, *more = (
        json.loads(body)
    )
    _check(*estimate, *charged, *expired_charge, admitted_ms, slot_ms, lease_end_ms, keep_until_ms, revision)
    _check(*usage[:5], usage[5] or 0, usage[8] or 0, more[0])
    if state not in STATES or type(labels) is not dict:
        raise ValueError(f"state {state!r}, labels {labels!r}")
    return Reservation(
        id, state, plan, Amounts(*estimate), Amounts(*charged),
        CallInfo(labels, price_source, host, UsageRow(*usage), operation_id, *more),
        admitted_ms, slot_ms, lease_end_ms, keep_until_ms, revision, tuple(would_refuse), Amounts(*expired_charge),
    )  # fmt: skip


def forgotten_from(op: Settle, row: tuple[Any, ...]) -> Reservation:
    """What the ledger still knows of a reservation that the store has forgotten; the operation carries the rest."""
    revision, status, prompt, completion, cost_nanousd, would_refuse, expired_tokens, expired_nanousd, slot_ms = row
    state: ReservationState = status if status in ("expired", "assumed", "released") else "settled"
    charges = status != "released" and (status != "expired" or op.plan.on_expiry == "charge")
    return Reservation(
        op.id, state, op.plan, op.estimate,
        Amounts(prompt + completion, prompt, completion, cost_nanousd or 0, int(charges)), op.info,
        op.admitted_ms, slot_ms, slot_ms, 0, revision, tuple(json.loads(would_refuse)),
        Amounts(tokens=expired_tokens, usd=expired_nanousd),
    )  # fmt: skip
