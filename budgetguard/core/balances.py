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
    if account.period.kind != "rolling":
        return balance.spent, balance.reserved
    first = first_live_slot(account.period, now_ms)
    live = [slot for slot in balance.slots if slot[0] >= first]
    return sum(slot[1] for slot in live), sum(slot[2] for slot in live)


def shift(account: Account, balance: Balance, slot_ms: int, now_ms: int, spent: int, reserved: int) -> Balance:
    """Add to spent and reserved (either may be negative), in the slot of `slot_ms` on a rolling period.

    Kept in [0, 2**53 - 1]: only an account that was gone and made anew, or shadow budgets, could leave it.
    """
    if account.period.kind != "rolling":
        new_spent, new_reserved = _bounded(balance.spent + spent), _bounded(balance.reserved + reserved)
        return Balance(
            new_spent, new_reserved, balance.announced, balance.announced_ms, balance.keep_until_ms, balance.slots
        )
    first = first_live_slot(account.period, now_ms)
    number = rolling_slot(account.period, slot_ms)
    slots = {slot[0]: slot for slot in balance.slots if slot[0] >= first}
    if number >= first:
        _, slot_spent, slot_reserved = slots.get(number, (number, 0, 0))
        slots[number] = (number, _bounded(slot_spent + spent), _bounded(slot_reserved + reserved))
    kept = tuple(sorted(slot for slot in slots.values() if slot[1] or slot[2]))
    return balance._replace(slots=kept)


def _bounded(amount: int) -> int:
    return 0 if amount < 0 else min(amount, MAX_AMOUNT)


def kept(account: Account, balance: Balance, now_ms: int, lease_end_ms: int) -> Balance:
    """The balance with its life after a write, or an extended lease: raised, never lowered."""
    kind = account.period.kind
    if kind == "calendar":
        until = max(account.window_end_ms or 0, lease_end_ms) + DAY_MS
    elif kind == "rolling":
        until = now_ms + account.period.span_ms + DAY_MS
    elif kind == "total":
        until = now_ms + TOTAL_KEEP_MS
    else:
        until = lease_end_ms + DAY_MS
    return balance if until <= balance.keep_until_ms else balance._replace(keep_until_ms=until)


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


def due_alerts(claim: Claim, balance: Balance, now_ms: int) -> tuple[Balance, tuple[Alert, ...]]:
    """The thresholds that the account's level has newly passed, and the balance that remembers them."""
    if not claim.alert_levels:
        return balance, ()
    spent, reserved = spent_and_reserved(claim.account, balance, now_ms)
    level = reserved if claim.account.unit == "concurrent" else spent
    if level < claim.alert_levels[0]:
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
