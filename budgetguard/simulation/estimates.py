"""Which output a simulated call is estimated to have: its bound, what was learned before it, or the truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from budgetguard.call import Call
from budgetguard.core.amounts import MAX_AMOUNT
from budgetguard.core.model import Plan
from budgetguard.learning.dollar_room import DollarRoom
from budgetguard.learning.forecast import Forecast
from budgetguard.matching import Match
from budgetguard.policy import Policy
from budgetguard.simulation.trace import TracedCall

Method = Literal["learned", "ceiling", "oracle"]
METHODS: tuple[Method, ...] = get_args(Method)


class Outputs:
    """Estimates the outputs of one simulation.

    Args:
        bound: the most that a call may write.
        inject: a call ends where its estimate does.
    """

    def __init__(self, policy: Policy, method: Method, bound: int, inject: bool) -> None:
        self._policy, self._method, self._bound, self._inject = policy, method, bound, inject
        self._forecast, self._dollars = Forecast(policy.estimate), DollarRoom()

    def estimate(self, call: TracedCall, subject: Mapping[str, str], match: Match, now_ms: int) -> int:
        """In tokens. A budget's own `estimate = "ceiling"` holds for its calls, as it does in a guard."""
        if self._method == "oracle":
            return min(call.completion_tokens, self._bound) if self._inject else call.completion_tokens
        if self._method == "ceiling" or "ceiling" in match.estimates:
            return self._bound
        ask = self._forecast.bound if self._inject else self._forecast.tokens
        room = self._dollars.tokens(self._policy, subject, match.plan, call.prompt_tokens, now_ms)
        return ask(subject, match.plan, call.prompt_tokens, self._bound, now_ms, room)

    def written(self, traced: TracedCall, call: Call) -> int:
        """What an admitted call writes."""
        return min(traced.completion_tokens, self._bound_of(call))

    def opened(self, plan: Plan) -> None:
        """A call was admitted."""
        self._forecast.opened(plan)

    def ended(self, traced: TracedCall, call: Call, now_ms: int) -> None:
        """It has completed."""
        self._forecast.ended(call.plan)
        tokens = traced.completion_tokens
        self._forecast.learn(call.subject, tokens, now_ms, is_cut=tokens == self._bound_of(call) < self._bound)

    def _bound_of(self, call: Call) -> int:
        return call.estimate.output_tokens if self._inject and call.estimate is not None else MAX_AMOUNT
