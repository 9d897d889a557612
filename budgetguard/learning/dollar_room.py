"""How many tokens of output a limit of dollars could pay: so that a model whose most would cost more is tried, too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from budgetguard.core.amounts import MAX_AMOUNT
from budgetguard.errors import ConfigError
from budgetguard.pricing import cost_of, needs_data
from budgetguard.usage import Usage

if TYPE_CHECKING:
    from budgetguard.core.model import Plan
    from budgetguard.policy import Policy
    from budgetguard.pricing import PriceTable

MTOK: Final = 1_000_000
MOST_RATES: Final = 1_024
_INPUT, _OUTPUT = Usage(MTOK, 0), Usage(0, MTOK)


class DollarRoom:
    """Remembers the prices of models while a policy is in force. Not for several threads at once."""

    def __init__(self) -> None:
        self._priced: Policy | None = None
        self._rates: dict[tuple[str | None, str | None], tuple[int, int]] = {}

    def tokens(self, policy: Policy, subject: Mapping[str, str], plan: Plan, input_tokens: int, now_ms: int) -> int:
        """The most output that the smallest limit of dollars could pay beside this input, were nothing spent of it."""
        limit = plan.least.get("usd")
        if limit is None:
            return MAX_AMOUNT
        model = subject.get("model")
        key = model, subject.get("provider")
        if policy is not self._priced or len(self._rates) > MOST_RATES:
            self._priced, self._rates = policy, {}
        if key not in self._rates:
            if needs_data(policy.prices, model, now_ms):
                return MAX_AMOUNT
            self._rates[key] = _rates(policy.prices, *key, now_ms)
        input_rate, output_rate = self._rates[key]
        if not output_rate:
            return MAX_AMOUNT
        return max(1, (limit * MTOK - input_tokens * input_rate) // output_rate)


def _rates(prices: PriceTable, model: str | None, provider: str | None, now_ms: int) -> tuple[int, int]:
    """What a million tokens of input and of output cost, in nano-dollars; 0 where nobody knows, or they are free."""
    try:
        costs = [cost_of(prices, model, usage, now_ms, provider=provider)[0] or 0 for usage in (_INPUT, _OUTPUT)]
    except ConfigError:  # the reserve that follows tells it
        return 0, 0
    return costs[0], costs[1]
