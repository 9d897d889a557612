"""What is asked of a store, and what it answers. Everything that a verb needs travels with it.

Every operation can be repeated: the id is made by the client, and a repeat changes nothing.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from budgetguard.core.amounts import Amounts
from budgetguard.core.model import Alert, CallInfo, Plan, UsageRow, Violation

EndStatus = Literal["settled", "assumed", "cancelled", "error"]
RowStatus = Literal["settled", "assumed", "late", "expired", "cancelled", "error", "released", "uncounted"]
VerdictWord = Literal[
    "granted", "refused", "extended", "replayed", "conflict", "finished", "voided", "unknown",
    "too_old", "clock", "stale_window",
]  # fmt: skip
SettlementWord = Literal[
    "settled", "late", "uncounted", "released", "tombstone", "expired", "not_due",
    "replayed", "conflict", "finished", "unknown",
]  # fmt: skip


class Reserve(NamedTuple):
    """Hold `estimate` on every account of `plan`, or change nothing.

    `tried_since_ms` is the store's time, as the client last heard it, at the first attempt.
    """

    id: str
    plan: Plan
    estimate: Amounts
    info: CallInfo
    lease_ms: int
    replay_keep_ms: int
    tried_since_ms: int


class Settle(NamedTuple):
    """Replace the hold by what the call really used. Carries all that a row needs, should the store know nothing.

    `usage` is the row's share of `actual`; `status` "assumed" is a settle by guess.
    """

    id: str
    plan: Plan
    actual: Amounts
    usage: UsageRow
    info: CallInfo
    status: EndStatus
    estimate: Amounts
    admitted_ms: int
    replay_keep_ms: int
    tried_since_ms: int
    latency_ms: int = 0
    error_type: str = ""
    price_source: str = ""


class Release(NamedTuple):
    """Return the whole hold: the call was never billed."""

    id: str
    replay_keep_ms: int


class Grow(NamedTuple):
    """Make `to` the hold's new total estimate, judged by the limits of `plan`; `usage` is its row."""

    id: str
    plan: Plan
    to: Amounts
    usage: UsageRow


class Extend(NamedTuple):
    """Move the lease's end to `lease_ms` from now, never to an earlier instant."""

    id: str
    lease_ms: int


class Expire(NamedTuple):
    """Resolve a reservation whose lease has passed, as its plan's `on_expiry` says."""

    id: str


class Verdict(NamedTuple):
    """The answer to reserve, grow and extend.

    `now_ms` is the store's time. `would_refuse` names the shadow budgets that had no room.
    `sweep_due`: refused, and reservations stand whose lease has passed; sweeping them may make room.
    """

    word: VerdictWord
    now_ms: int
    admitted_ms: int = 0
    violations: tuple[Violation, ...] = ()
    would_refuse: tuple[str, ...] = ()
    alerts: tuple[Alert, ...] = ()
    sweep_due: bool = False


class Settlement(NamedTuple):
    """The answer to settle, release and expire.

    `overage` is what was charged above the reservation, in the units that the plan counts. `overdrawn` names
    the accounts (by key) that now stand above their limit.
    """

    word: SettlementWord
    now_ms: int
    alerts: tuple[Alert, ...] = ()
    overage: Amounts = Amounts()
    overdrawn: tuple[str, ...] = ()


class Row(NamedTuple):
    """One ledger row: what is known of a resolved call. A higher `revision` replaces a lower one.

    `timestamp_ms` is the admission. `expired_charge` is what an expiry had charged before the truth came.
    `gone` names the accounts of `plan` (by key) that no longer exist, and so were not counted. `slot_ms` is the
    instant whose slot it counts in on rolling periods.
    """

    id: str
    revision: int
    status: RowStatus
    timestamp_ms: int
    slot_ms: int
    settled_ms: int
    info: CallInfo
    usage: UsageRow
    estimate: Amounts
    plan: Plan
    gone: tuple[str, ...] = ()
    would_refuse: tuple[str, ...] = ()
    latency_ms: int = 0
    error_type: str = ""
    price_source: str = ""
    expired_charge: Amounts = Amounts()
