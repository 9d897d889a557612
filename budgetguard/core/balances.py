"""Arithmetic on one account: how full it is, what a verb does to it, whether it has room, which alerts are due."""

from __future__ import annotations

from budgetguard.core.amounts import MAX_AMOUNT
from budgetguard.core.model import Account, Alert, Balance, Claim, Reason, Violation
from budgetguard.core.periods import first_live_slot, rolling_slot

DAY_MS = 86_400_000
TOTAL_KEEP_MS = 400 * DAY_MS
HELD_RETRY_MS = 1_000
EMPTY = Balance()


def spent_and_reserved(account: Account, balance: Balance, now_ms: int) -> tuple[int, int]:
    """What counts now: on a rolling period, the slots whose end has not left it."""
    if not balance.slots:
        return balance.spent, balance.reserved
    first = first_live_slot(account.period, now_ms)
    live = [slot for slot in balance.slots if slot[0] >= first]
    return sum(slot[1] for slot in live), sum(slot[2] for slot in live)


def shift(
    account: Account, balance: Balance, slot_ms: int, now_ms: int, lease_end_ms: int, spent: int, reserved: int
) -> Balance:
    """Add to spent and reserved (either may be negative), in the slot of `slot_ms` on a rolling period.

    Kept in [0, 2**53 - 1]: only an account that was gone and made anew, or shadow budgets, could leave it.
    """
    keep_until_ms = _keep_until_ms(account, now_ms, lease_end_ms)
    if keep_until_ms < balance.keep_until_ms:
        keep_until_ms = balance.keep_until_ms
    if account.period.kind == "rolling":
        slots = _shift_slot(account, balance, slot_ms, now_ms, spent, reserved)
        return balance._replace(slots=slots, keep_until_ms=keep_until_ms)
    new_spent, new_reserved = balance.spent + spent, balance.reserved + reserved
    if not (0 <= new_spent <= MAX_AMOUNT and 0 <= new_reserved <= MAX_AMOUNT):
        new_spent, new_reserved = _bounded(new_spent), _bounded(new_reserved)
    return Balance(new_spent, new_reserved, balance.announced, balance.announced_ms, keep_until_ms)


def _shift_slot(
    account: Account, balance: Balance, slot_ms: int, now_ms: int, spent: int, reserved: int
) -> tuple[tuple[int, int, int], ...]:
    """The live slots after the change; what belongs to a slot that has left the period counts no more."""
    first = first_live_slot(account.period, now_ms)
    number = rolling_slot(account.period, slot_ms)
    slots = {slot[0]: slot for slot in balance.slots if slot[0] >= first}
    if number >= first:
        _, slot_spent, slot_reserved = slots.get(number, (number, 0, 0))
        slots[number] = (number, _bounded(slot_spent + spent), _bounded(slot_reserved + reserved))
    return tuple(sorted(slot for slot in slots.values() if slot[1] or slot[2]))


def _bounded(amount: int) -> int:
    return max(0, min(amount, MAX_AMOUNT))


def _keep_until_ms(account: Account, now_ms: int, lease_end_ms: int) -> int:
    """How long an account stands after a write."""
    window_end_ms = account.window_end_ms
    if window_end_ms is not None:
        return (lease_end_ms if lease_end_ms > window_end_ms else window_end_ms) + DAY_MS
    kind = account.period.kind
    if kind == "rolling":
        return now_ms + account.period.span_ms + DAY_MS
    return now_ms + TOTAL_KEEP_MS if kind == "total" else lease_end_ms + DAY_MS


def leased(account: Account, balance: Balance, now_ms: int, lease_end_ms: int) -> Balance:
    """The balance, standing as long as a lease that was extended needs it: longer, never shorter."""
    if account.period.kind in ("rolling", "total"):
        return balance
    keep_until_ms = _keep_until_ms(account, now_ms, lease_end_ms)
    return balance if keep_until_ms <= balance.keep_until_ms else balance._replace(keep_until_ms=keep_until_ms)


def judge(claim: Claim, balance: Balance, asked: int, now_ms: int) -> Violation | None:
    """The violation, if the account has no room for `asked`."""
    spent, reserved = spent_and_reserved(claim.account, balance, now_ms)
    if spent + reserved + asked <= claim.limit:
        return None
    reason: Reason = "impossible" if asked > claim.limit else "spent" if asked > claim.limit - spent else "held"
    resets_at_ms, retry_ms = claim.account.window_end_ms, None
    if reason == "held":
        retry_ms = HELD_RETRY_MS
    elif reason == "spent" and claim.account.period.kind == "rolling":
        retry_ms = _rolling_retry_ms(claim.account, balance, asked - (claim.limit - spent), now_ms)
        resets_at_ms = now_ms + retry_ms
    elif reason == "spent" and resets_at_ms is not None:
        retry_ms = max(resets_at_ms - now_ms, 0)
    return Violation(claim.account, reason, claim.limit, spent, reserved, asked, resets_at_ms, retry_ms)


def _rolling_retry_ms(account: Account, balance: Balance, missing: int, now_ms: int) -> int:
    """How long until slots that hold `missing` of what was spent have left the period."""
    period = account.period
    first = first_live_slot(period, now_ms)
    for number, spent, _ in balance.slots:
        if number >= first:
            missing -= spent
            if missing <= 0:
                return (number + 1) * period.slot_ms + period.span_ms - now_ms
    return period.span_ms


def due_alerts(claim: Claim, balance: Balance, level: int, now_ms: int) -> tuple[Balance, tuple[Alert, ...]]:
    """The thresholds that the account's level has newly passed, and the balance that remembers them."""
    if not claim.alert_levels or level < claim.alert_levels[0]:
        return balance, ()
    announced = announced_level(claim.account, balance, now_ms)
    due = tuple(
        Alert(claim.account, threshold, claim.limit, level)
        for threshold in claim.alert_levels
        if announced < threshold <= level
    )
    if not due:
        return balance, ()
    return balance._replace(announced=due[-1].threshold, announced_ms=now_ms), due


def announced_level(account: Account, balance: Balance, now_ms: int) -> int:
    """The highest level announced. Accounts without windows forget it after a period (concurrent: a day)."""
    kind = account.period.kind
    memory_ms = account.period.span_ms if kind == "rolling" else DAY_MS if kind == "concurrent" else None
    if memory_ms is not None and now_ms - balance.announced_ms >= memory_ms:
        return 0
    return balance.announced
