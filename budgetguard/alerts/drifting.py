"""Drift: what is spent on an account, and what the ledger says of its calls, move apart.

Compared are the present windows of budgets that go by team, agent, task, model and provider. A difference that is
there when an account is first looked at is no drift: its budget may have been new, or another, in the midst of its
window. That it changes, and is not gone, is: calls were counted and not recorded, or the other way round; `budgetguard
doctor` finds which. Told once for each window. Nothing is compared while rows wait to be drained, and nothing told of a
window of which the ledger has forgotten rows (`ledger prune`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from budgetguard.alerts.raised import AlertRaised
from budgetguard.alerts.spending import Spent, is_summed, spent_on
from budgetguard.alerts.texts import account_text, amount_text, labels_of, limit_text
from budgetguard.alerts.watching import HOUR_MS, Found, found
from budgetguard.core.amounts import Amounts
from budgetguard.core.model import Account
from budgetguard.event_fields import unit_suffix
from budgetguard.store import AccountRow

if TYPE_CHECKING:
    from budgetguard.policy import Policy

Limited = Sequence[tuple[AccountRow, int]]


class Drifts:
    """Remembers by how much the ledger was above each account, at least and at most."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, frozenset[tuple[str, str]]], tuple[int, int]] = {}
        """By account, and by which calls its budget asks for: others than before are no drift."""

    def find(
        self, before: Limited, after: Limited, sums: Mapping[tuple[int, int], Sequence[Spent]], policy: Policy
    ) -> Iterator[tuple[int, Found]]:
        """The accounts whose difference is another than it was, each with the beginning of its window.

        Args:
            before, after: the accounts as they stood before the ledger was read, and after it.
            sums: what the ledger says of each window.
        """
        later = {row.account.key: row.spent for row, _ in after}
        known, self._known = self._known, {}
        recorded: dict[tuple[str, int, int], dict[tuple[str, ...], Amounts]] = {}
        for row, limit in before:
            account = row.account
            budget = next((budget for budget in policy.budgets if budget.name == account.budget), None)
            window = (account.window_start_ms or 0, account.window_end_ms or 0)
            if budget is None or not is_summed(budget) or window not in sums or account.key not in later:
                continue
            if (place := (budget.name, *window)) not in recorded:
                recorded[place] = spent_on(budget, sums[window])
            amounts = recorded[place].get(tuple(value or "" for _, value in account.per), Amounts())
            ledger = int(getattr(amounts, account.unit))
            spent = sorted((row.spent, later[account.key]))
            least, most = ledger - spent[1], ledger - spent[0]
            key = account.key, frozenset(budget.where.items())
            was = known.get(key, (least, most))
            if (least > was[1] or most < was[0]) and not least <= 0 <= most:
                yield window[0], _drift(account, limit, spent[1], ledger, row.now_ms, policy)
            elif least <= was[1] and most >= was[0]:  # as narrow as it was ever seen
                least, most = max(least, was[0]), min(most, was[1])
            self._known[key] = least, most


def windows_of(limited: Limited) -> set[tuple[int, int]]:
    """The windows that are to be summed, from and until when."""
    accounts = [row.account for row, _ in limited]
    return {
        (account.window_start_ms, account.window_end_ms)
        for account in accounts
        if account.window_start_ms is not None and account.window_end_ms is not None and account.period.name != "minute"
    }


def _drift(account: Account, limit: int, spent: int, ledger: int, now_ms: int, policy: Policy) -> Found:
    unit, suffix = account.unit, unit_suffix(account.unit)
    text = (
        f"{account_text(account)}: of {limit_text(account, limit)} {amount_text(unit, spent)} is spent, and the ledger "
        f"says {amount_text(unit, ledger)}; it said otherwise before"
    )
    figures = {f"spent{suffix}": spent, f"ledger{suffix}": ledger, "period": str(account.period)}
    alert = AlertRaised("drift", text, labels_of(account, policy), account.budget, figures)
    return found([account.key], (account.window_end_ms or now_ms) - now_ms + HOUR_MS, alert)
