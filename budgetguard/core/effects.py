"""What a verb does over all accounts of a plan: judge them, hold on them, return a hold, resolve a reservation."""

from __future__ import annotations

from collections.abc import Mapping
from operator import le

from budgetguard.core.amounts import UNITS, Amounts
from budgetguard.core.balances import DAY_MS, EMPTY, due_alerts, judge, shift, spent_and_reserved
from budgetguard.core.model import Alert, Balance, Plan, Reservation, UsageRow, Violation
from budgetguard.core.verbs import Row, RowStatus

Balances = Mapping[str, Balance]


def judge_all(
    plan: Plan, asked: Amounts, accounts: Balances, now_ms: int
) -> tuple[tuple[Violation, ...], tuple[str, ...]]:
    """Every enforced limit without room, and the names of the shadow budgets without. Asking nothing is not checked."""
    violations: list[Violation] = []
    would_refuse: dict[str, None] = {}
    for claim in plan.claims:
        account = claim.account
        amount = getattr(asked, account.unit)
        if amount == 0:
            continue
        violation = judge(claim, accounts.get(account.key, EMPTY), amount, now_ms)
        if violation is None:
            continue
        if claim.enforced:
            violations.append(violation)
        else:
            would_refuse[account.budget] = None
    return tuple(violations), tuple(would_refuse)


def hold_all(
    plan: Plan, asked: Amounts, accounts: Balances, now_ms: int, lease_end_ms: int
) -> tuple[dict[str, Balance], tuple[Alert, ...]]:
    """The balances with `asked` reserved on every account; alerts on `concurrent`, whose level is what is reserved."""
    held: dict[str, Balance] = {}
    alerts: tuple[Alert, ...] = ()
    for claim in plan.claims:
        account = claim.account
        before = accounts.get(account.key, EMPTY)
        balance = shift(account, before, now_ms, now_ms, lease_end_ms, 0, getattr(asked, account.unit))
        if account.unit == "concurrent":
            balance, due = due_alerts(claim, balance, spent_and_reserved(account, balance, now_ms)[1], now_ms)
            alerts += due
        held[account.key] = balance
    return held, alerts


def returned(known: Reservation, accounts: Balances, now_ms: int) -> dict[str, Balance]:
    """The balances of the accounts that still stand, without this hold."""
    without: dict[str, Balance] = {}
    for claim in known.plan.claims:
        account = claim.account
        balance = accounts.get(account.key)
        if balance is not None:
            back = getattr(known.estimate, account.unit)
            without[account.key] = shift(account, balance, known.slot_ms, now_ms, known.lease_end_ms, 0, -back)
    return without


def resolve_all(
    known: Reservation, accounts: Balances, charged: Amounts, now_ms: int
) -> tuple[dict[str, Balance], tuple[str, ...], tuple[Alert, ...], tuple[str, ...]]:
    """Resolve `known` on its accounts: its hold ends, and `charged` replaces what stood as charged.

    Returns the balances, and by key the accounts that are gone and those now above their limit; and alerts.
    """
    balances: dict[str, Balance] = {}
    gone: list[str] = []
    alerts: tuple[Alert, ...] = ()
    overdrawn: list[str] = []
    held = known.state == "held"
    for claim in known.plan.claims:
        account = claim.account
        unit, key = account.unit, account.key
        before = accounts.get(key)
        if before is None:
            gone.append(key)
            continue
        more = getattr(charged, unit) - getattr(known.charged, unit)
        back = getattr(known.estimate, unit) if held else 0
        balance = shift(account, before, known.slot_ms, now_ms, known.lease_end_ms, more, -back)
        if more > 0:
            spent, _ = spent_and_reserved(account, balance, now_ms)
            balance, due = due_alerts(claim, balance, spent, now_ms)
            alerts += due
            if spent > claim.limit:
                overdrawn.append(key)
        balances[key] = balance
    return balances, tuple(gone), alerts, tuple(overdrawn)


def with_unended(plan: Plan, accounts: Balances, now_ms: int) -> Balances:
    """`accounts`, and an empty balance for those of the plan that are missing though their window may still count."""
    fresh = {
        claim.account.key: EMPTY
        for claim in plan.claims
        if claim.account.key not in accounts
        and (claim.account.window_end_ms is None or now_ms < claim.account.window_end_ms + DAY_MS)
    }
    return {**accounts, **fresh} if fresh else accounts


def chargeable(amounts: Amounts) -> Amounts:
    """What can be spent of it: `concurrent` is only ever held."""
    return amounts._replace(concurrent=0) if amounts.concurrent else amounts


def overage_of(known: Reservation, actual: Amounts) -> Amounts:
    """What is charged above the reservation, in the units that the plan counts."""
    if all(map(le, actual, known.estimate)):
        return Amounts()
    counted = known.plan.units
    more = [max(0, a - e) if unit in counted else 0 for unit, a, e in zip(UNITS, actual, known.estimate, strict=True)]
    return Amounts(*more)


def row_of(
    resolved: Reservation, status: RowStatus, usage: UsageRow, now_ms: int, gone: tuple[str, ...],
    latency_ms: int = 0, error_type: str = "", price_source: str | None = None,
) -> Row:  # fmt: skip
    """The ledger row of a reservation that has just been resolved."""
    return Row(
        resolved.id, resolved.revision, status, resolved.admitted_ms, resolved.slot_ms, now_ms, resolved.info, usage,
        resolved.estimate, resolved.plan, gone, resolved.would_refuse, latency_ms, error_type,
        resolved.info.price_source if price_source is None else price_source, resolved.expired_charge,
    )  # fmt: skip
