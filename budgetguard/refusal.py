"""The text and the wait of a refusal: what `BudgetExceeded` says."""

from __future__ import annotations

import glob
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from budgetguard.core.amounts import format_amount, format_usd
from budgetguard.core.balances import HELD_RETRY_MS
from budgetguard.core.grammar import format_limit
from budgetguard.core.model import Account, Limit, Violation
from budgetguard.core.periods import zone_of
from budgetguard.errors import BudgetExceeded

if TYPE_CHECKING:
    from budgetguard.store import Store

_OF_OUTPUT = ("tokens", "output_tokens", "usd")
COUNTED_MOST = 200
"""How many open calls a refusal counts: beyond that it says "200+"."""


def budget_exceeded(
    id: str,
    subject: Mapping[str, str],
    violations: Sequence[Violation],
    now_ms: int,
    open_calls: Mapping[str, str] | None = None,
) -> BudgetExceeded:
    """The error that names every violation.

    Args:
        now_ms: the store's time.
        open_calls: by account key: by how many open calls it is held (`count_open_calls`), as far as that is known.
    """
    lines = []
    for violation in violations:
        lines += [_headline(violation, open_calls or {}), _figures(violation, now_ms)]
    labels = " ".join(f"{name}={escaped(value)}" for name, value in subject.items() if name != "model")
    model = escaped(subject.get("model", ""))
    lines.append(f"  {' '.join(part for part in (labels, model) if part) or 'no labels'} | {id}")
    return BudgetExceeded("\n".join(lines), violations, retry_after_s(violations), id, dict(subject))


def explain(refusal: BudgetExceeded, why: str) -> None:
    """Add to its text why so much output was asked for, if that is what was refused. Its other lines stay."""
    if why and any(violation.account.unit in _OF_OUTPUT for violation in refusal.violations):
        refusal.args = (f"{refusal}\n  {why}", *refusal.args[1:])


def retry_after_s(violations: Sequence[Violation]) -> float | None:
    """Seconds until waiting can help: the longest over the violations; None where it cannot."""
    waits = [violation.retry_ms for violation in violations]
    if not waits or None in waits:
        return None
    return max(wait for wait in waits if wait is not None) / 1000


def judged_again(violation: Violation, requested: int, now_ms: int) -> Violation:
    """The violation on which an earlier call waits, as it touches a call that asks `requested` behind it."""
    v = replace(violation, requested=requested)
    if requested > v.limit:
        return replace(v, reason="impossible", retry_ms=None)
    if requested <= v.limit - v.spent:
        return replace(v, reason="held", retry_ms=HELD_RETRY_MS)
    if v.reason == "spent":
        return v
    period = v.account.period
    retry_ms = period.span_ms if period.kind == "rolling" else None
    if v.resets_at_ms is not None:
        retry_ms = max(v.resets_at_ms - now_ms, 0)
    return replace(v, reason="spent", retry_ms=retry_ms)


def refusal_in(error: BaseException | None) -> BudgetExceeded | None:
    """The refusal that an error is, or has somewhere inside; None where there is none.

    Frameworks raise errors of their own around it: as their cause or context, in a group, or as an attribute, an
    argument or a list of attempts (LiteLLM, tenacity, instructor). Of several the one nearest to the outside.
    """
    waiting: deque[object] = deque([error])
    seen: dict[int, object] = {}  # keeps them, so that no id comes up twice
    while waiting:
        found = waiting.popleft()
        if isinstance(found, BudgetExceeded):
            return found
        if id(found) not in seen:
            seen[id(found)] = found
            waiting.extend(_inside(found))
    return None


def _inside(found: object) -> Iterator[object]:
    """What an error, or a collection that one has, holds: other errors, and collections of them."""
    if isinstance(found, BaseException):
        attempt = getattr(found, "last_attempt", None)  # tenacity's, a future
        if isinstance(attempt, Future) and attempt.done() and not attempt.cancelled():
            yield attempt.exception()
        yield from (found.__cause__, found.__context__, found.args, *vars(found).values())
        if isinstance(found, BaseExceptionGroup):
            yield found.exceptions
    elif isinstance(found, (list, tuple)):
        yield from (part for part in found if isinstance(part, (BaseException, list, tuple)))


async def count_open_calls(store: Store, account: Account) -> str | None:
    """How many calls hold the account, as text: exact, or "200+"; None if they have ended meanwhile.

    Errors: those of `Store.read_holds`.
    """
    labels = {name: glob.escape(value) for name, value in account.subject.items()}
    page = await store.read_holds(glob.escape(account.budget), labels, None, COUNTED_MOST)
    count = sum(any(held.key == account.key for held in row.accounts) for row in page.rows)
    if page.cursor is not None:  # a page may have a few rows more than were asked for
        return f"{min(count, COUNTED_MOST)}+ open calls" if count else None
    return f"{count} open call{'' if count == 1 else 's'}" if count else None


def _headline(violation: Violation, open_calls: Mapping[str, str]) -> str:
    account = violation.account
    limit = format_limit(Limit(violation.limit, account.unit, account.period))
    if violation.reason == "spent":
        why = f"{limit} is spent"
    elif violation.reason == "held" and violation.requested <= violation.available:
        why = f"earlier calls wait for {limit}; try again in 1 s"
    elif violation.reason == "held":
        holders = open_calls.get(account.key, "open calls")
        why = f"{_short(account, violation.reserved)} is held by {holders}; try again in 1 s"
    else:
        why = f"{_short(account, violation.requested)} is more than all of {limit}"
    return f"{escaped(account.budget)} refused this call: {why}"


def _figures(v: Violation, now_ms: int) -> str:
    def short(amount: int) -> str:
        return _short(v.account, amount)

    equation = f"limit {short(v.limit)} = spent {short(v.spent)} + reserved {short(v.reserved)}"
    text = f"  asked {short(v.requested)} | {equation} + available {short(v.available)}"
    if v.resets_at_ms is None:
        return text if v.account.period.kind != "total" else f"{text} | never resets"
    at = datetime.fromtimestamp(v.resets_at_ms / 1000, zone_of(v.account.period.zone))
    return f"{text} | resets {at:%Y-%m-%d %H:%M %Z} (in {span(v.resets_at_ms - now_ms)})"


def _short(account: Account, amount: int) -> str:
    return format_usd(amount) if account.unit == "usd" else format_amount(account.unit, amount)


def span(ms: int) -> str:
    """A duration as people say it: `3 h 12 min`, `45 s`."""
    seconds = max(0, -(-ms // 1000))
    days, hours, minutes = seconds // 86_400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds % 60} s" if minutes else f"{seconds} s"


def escaped(text: str) -> str:
    """Text with every control or format character escaped: it may end in a terminal or a log."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
