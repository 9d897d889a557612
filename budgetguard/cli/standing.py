"""What stands in the store, held against a policy: what the policy would start at zero or no longer count."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

from budgetguard.cli.sources import looked_at
from budgetguard.core.amounts import Unit, format_amount
from budgetguard.core.periods import Period
from budgetguard.policy import Policy
from budgetguard.status import every
from budgetguard.within import OF_A_RUN


class Kind(NamedTuple):
    """The accounts that differ only in their `per` values and windows: what one limit of a policy makes."""

    budget: str
    per: tuple[str, ...]
    unit: Unit
    period: Period

    def __str__(self) -> str:
        zone = f" in {self.period.zone}" if self.period.kind == "calendar" else ""
        period = f"/{self.period.label}" if self.period.label else ""
        per = f" per {', '.join(self.per)}" if self.per else ""
        return f"budget {self.budget}: {'$' if self.unit == 'usd' else self.unit}{period}{zone}{per}"


async def resets(policy: Policy) -> list[str]:
    """A line for every kind of account that a change of policy leaves behind, or starts beside one that it leaves.

    Errors: those of the store.
    """
    standing: dict[Kind, list[int]] = defaultdict(list)
    async with looked_at(policy.store, None) as store:
        async for row in every(store.read_accounts):
            account = row.account
            per = tuple(name for name, _ in account.per)
            standing[Kind(account.budget, per, account.unit, account.period)].append(row.spent)
    stated = [
        Kind(budget.name, tuple(budget.per), limit.unit, limit.period)
        for budget in policy.budgets
        for limit in budget.parsed_limits(policy.timezone)
    ]
    left = {kind: spent for kind, spent in standing.items() if kind not in stated and not OF_A_RUN.search(kind.budget)}
    begun = {kind.budget for kind in left}
    return [
        *(f"{kind} counts no more: {_accounts(kind.unit, spent)}" for kind, spent in left.items()),
        *(f"{kind} starts at zero" for kind in stated if kind.budget in begun and kind not in standing),
    ]


def _accounts(unit: Unit, spent: list[int]) -> str:
    return f"{len(spent)} account{'' if len(spent) == 1 else 's'} with {format_amount(unit, sum(spent))} spent"
