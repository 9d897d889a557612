"""Whether a call that was refused would have fit, had everybody known what the open calls take in the end."""

from __future__ import annotations

from collections.abc import Sequence

from budgetguard.core.amounts import Amounts
from budgetguard.core.effects import hold_all, judge_all
from budgetguard.core.model import Balance, Plan, Violation


class Truth:
    """The accounts as they would stand if each call had taken its actual amounts at its admission."""

    def __init__(self) -> None:
        self._balances: dict[str, Balance] = {}

    def take(self, plan: Plan, actual: Amounts, now_ms: int) -> None:
        """A call was admitted, and will take so much."""
        self._balances.update(hold_all(plan, actual, self._balances, now_ms, now_ms)[0])

    def fits(self, plan: Plan, actual: Amounts, refused_by: Sequence[Violation], now_ms: int) -> bool:
        """Whether a refused call would have fit: never where it was too many calls at once that refused it."""
        if not refused_by or any(violation.account.unit == "concurrent" for violation in refused_by):
            return False
        return not judge_all(plan, actual, self._balances, now_ms)[0]
