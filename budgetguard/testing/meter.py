"""What a test, or a whole run of tests, has spent; and whether that is more than it may."""

from __future__ import annotations

from collections.abc import Sequence

from budgetguard.core.amounts import format_amount
from budgetguard.core.grammar import parse_limit
from budgetguard.core.model import Limit
from budgetguard.errors import InvalidLimit
from budgetguard.events import Event, Settled


class BudgetMeter:
    """An observer of guards that adds up what their calls are settled at.

    Args:
        run: the meter of the whole run, which is told as well.
    """

    def __init__(self, run: BudgetMeter | None = None) -> None:
        self._run = run
        self._calls: dict[str, Settled] = {}

    def on_event(self, event: Event) -> None:
        """Take note of a settled call; of one that was guessed first, the truth counts."""
        if isinstance(event, Settled):
            self._calls[event.reservation_id] = event
        if self._run is not None:
            self._run.on_event(event)

    def spent(self, unit: str) -> int:
        """What was spent of a unit; dollars as nano-dollars, without the calls whose cost nobody knows."""
        calls = list(self._calls.values())
        if unit == "usd":
            return sum(call.cost_nanousd or 0 for call in calls)
        tokens = {"input_tokens": sum(call.input_tokens for call in calls),
                  "output_tokens": sum(call.output_tokens for call in calls)}  # fmt: skip
        return {**tokens, "tokens": sum(tokens.values()), "requests": len(calls)}[unit]

    @property
    def unpriced(self) -> list[str]:
        """The models of the calls whose cost nobody knows."""
        unknown = [call.subject.get("model", "no model") for call in self._calls.values() if call.cost_nanousd is None]
        return sorted(set(unknown))

    @property
    def text(self) -> str:
        """All that was spent."""
        calls, tokens = self.spent("requests"), self.spent("tokens")
        return f"{format_amount('usd', self.spent('usd'))} in {calls} call{'s' * (calls != 1)} of {tokens:,} tokens"

    def excess(self, limits: Sequence[Limit]) -> str:
        """What is wrong with what was spent; "" if it is within the limits."""
        faults = [
            f"{format_amount(limit.unit, self.spent(limit.unit))} is above {format_amount(limit.unit, limit.amount)}"
            for limit in limits
            if self.spent(limit.unit) > limit.amount
        ]
        if self.unpriced and any(limit.unit == "usd" for limit in limits):
            unknown = ", ".join(self.unpriced)
            faults.append(f"nobody knows what {unknown} costs: take a guard that has a price, observers=[budget_meter]")
        return "; ".join(faults)


def parse_budget(text: str) -> Limit:
    """The budget of a test from its text: "$0.10", "2usd", "20k tokens", "5 requests".

    Raises:
        InvalidLimit: it cannot be read, or has a period: a test is its own.
    """
    limit = parse_limit(text, default_period="total")
    if limit.period.kind != "total" or limit.unit == "concurrent":
        raise InvalidLimit(f'{text!r}: the budget of a test has no period; expected "$0.10" or "20k tokens"')
    return limit
