"""Which output a simulated call is estimated to have: its bound, what was learned before it, or the truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal, get_args

from budgetguard.call import Call
from budgetguard.core.amounts import MAX_AMOUNT
from budgetguard.core.model import Account, Plan
from budgetguard.estimates.learned import Learned
from budgetguard.estimates.settings import EstimateSettings
from budgetguard.simulation.trace import TracedCall

Method = Literal["learned", "ceiling", "oracle"]
METHODS: tuple[Method, ...] = get_args(Method)
_INJECTED_QUANTILE = 0.99
"""Where the estimate is written into the request, so that it cuts few answers."""
_CUT_TIMES = 2
"""A call that was cut would have written more: it is learned as so many times what it wrote."""
_ESTIMATED = ("tokens", "output_tokens", "usd")


class Outputs:
    """Estimates the outputs of one simulation.

    Args:
        bound: the most that a call may write.
        inject: a call ends where its estimate does.
    """

    def __init__(self, settings: EstimateSettings, method: Method, bound: int, inject: bool) -> None:
        self._method, self._bound, self._inject = method, bound, inject
        self._quantile = _INJECTED_QUANTILE if inject else settings.quantile
        self._learned = Learned(settings.half_life_ms)
        self._open: Counter[str] = Counter()
        """By account: how many calls are open on it."""

    def estimate(self, call: TracedCall, subject: Mapping[str, str], plan: Plan, now_ms: int) -> int:
        """In tokens."""
        if self._method == "oracle":
            return min(call.completion_tokens, self._bound) if self._inject else call.completion_tokens
        if self._method == "ceiling":
            return self._bound
        room = _room(plan, call.prompt_tokens)
        found = self._learned.outlook(subject, now_ms, self._quantile, self._bound, room)
        # An injected bound holds for each call by itself: there is no sum in which they make up for each other.
        together = 1 if self._inject else 1 + min((self._open[a.identity] for a in _estimated(plan)), default=0)
        tokens = found.alone if self._inject else found.tokens(together)
        return max(1, min(tokens, self._bound, room))

    def written(self, traced: TracedCall, call: Call) -> int:
        """What an admitted call writes."""
        estimate = call.estimate
        bound = estimate.output_tokens if self._inject and estimate is not None else MAX_AMOUNT
        return min(traced.completion_tokens, bound)

    def opened(self, plan: Plan) -> None:
        """A call was admitted."""
        self._open.update(account.identity for account in _estimated(plan))

    def ended(self, traced: TracedCall, call: Call, now_ms: int) -> None:
        """It has completed."""
        self._open.subtract(account.identity for account in _estimated(call.plan))
        tokens = traced.completion_tokens
        is_cut = self._inject and call.estimate is not None and tokens == call.estimate.output_tokens
        self._learned.add(call.subject, min(tokens * _CUT_TIMES, self._bound) if is_cut else tokens, now_ms)


def _estimated(plan: Plan) -> Iterable[Account]:
    """The accounts of which nobody knows before how much a call takes."""
    return (claim.account for claim in plan.claims if claim.account.unit in _ESTIMATED)


def _room(plan: Plan, prompt_tokens: int) -> int:
    """The most output that the smallest limit of tokens could take, were nothing spent of it; at least one token."""
    room = MAX_AMOUNT
    for claim in plan.claims:
        if claim.account.unit == "output_tokens":
            room = min(room, claim.limit)
        elif claim.account.unit == "tokens":
            room = min(room, claim.limit - prompt_tokens)
    return max(1, room)
