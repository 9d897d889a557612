"""The words of alerts: amounts, instants and labels as people read them, in one line that can be printed anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from budgetguard.alerts.raised import AlertRaised
from budgetguard.core.amounts import Unit, format_amount, format_usd
from budgetguard.core.grammar import format_limit
from budgetguard.core.model import Account, Limit
from budgetguard.core.periods import zone_of
from budgetguard.event_fields import unit_suffix
from budgetguard.events import AlertReached, Exhausted
from budgetguard.refusal import escaped, span

if TYPE_CHECKING:
    from budgetguard.policy import Policy

LONGEST = 80
_GLOBS = frozenset("*?[")
_CENT_PART_NANOUSD = 100_000


def plain(text: str) -> str:
    """A label or name from outside: nothing that does not print, and not too long."""
    shown = escaped(text)
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 3]}..."


def amount_text(unit: Unit, amount: int) -> str:
    """`$4.9931` (to four places, rounded up), `1,600 tokens`."""
    if unit == "usd":
        return format_usd(-(-amount // _CENT_PART_NANOUSD) * _CENT_PART_NANOUSD)
    return format_amount(unit, amount)


def clock_text(at_ms: int, now_ms: int, zone: str) -> str:
    """`14:35 CET (in 2 h 5 min)`; with its date where that is another day."""
    at, now = (datetime.fromtimestamp(ms / 1000, zone_of(zone)) for ms in (at_ms, now_ms))
    day = "" if at.date() == now.date() else f"{at:%Y-%m-%d} "
    return f"{day}{at:%H:%M} {at:%Z} (in {span(at_ms - now_ms)})"


def labels_text(labels: Mapping[str, str]) -> str:
    """` [team=search agent=crawler]`; nothing without labels."""
    pairs = " ".join(f"{plain(name)}={plain(value)}" for name, value in labels.items())
    return f" [{pairs}]" if pairs else ""


def account_text(account: Account) -> str:
    """The budget and the labels that it counts separately."""
    return f"{plain(account.budget)}{labels_text(account.subject)}"


def limit_text(account: Account, limit: int) -> str:
    """`$5/day`, as a policy says it."""
    return format_limit(Limit(limit, account.unit, account.period))


def labels_of(account: Account, policy: Policy) -> dict[str, str]:
    """The labels that all calls of an account have: what it counts separately, and what its budget asks for."""
    asked = next((budget.where for budget in policy.budgets if budget.name == account.budget), {})
    return {**exact(asked), **{name: value for name, value in account.per if value is not None}}


def exact(where: Mapping[str, str]) -> dict[str, str]:
    """The labels of `where` that are one value each, and no glob."""
    return {name: value for name, value in where.items() if not _GLOBS.intersection(value)}


def of_threshold(event: AlertReached | Exhausted, policy: Policy) -> AlertRaised:
    """What webhooks and callables are told of a threshold, or of a window's first refusal."""
    account, limit = event.account, event.limit
    what = limit_text(account, limit)
    if isinstance(event, Exhausted):
        cause, level = "exhausted", event.spent
        text = f"{account_text(account)}: calls are refused ({amount_text(account.unit, level)} spent of {what})"
    else:
        cause, level = "threshold", event.level_reached
        share = round(100 * event.threshold / limit) if limit else 100
        verb = "held" if account.unit == "concurrent" else "spent"
        text = f"{account_text(account)}: {share} % of {what} is {verb} ({amount_text(account.unit, level)})"
    suffix = unit_suffix(account.unit)
    figures = {f"limit{suffix}": limit, f"spent{suffix}": level, "period": str(account.period)}
    if isinstance(event, AlertReached):
        figures[f"threshold{suffix}"] = event.threshold
    return AlertRaised(cause, text, labels_of(account, policy), account.budget, figures)
