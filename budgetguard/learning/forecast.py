"""The output of a call, estimated for the accounts that it counts against: by what was learned, and by what is open.

A guard and a simulation ask the same, so that what is simulated is what happens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from budgetguard.core.amounts import MAX_AMOUNT
from budgetguard.core.model import Plan
from budgetguard.estimates.settings import EstimateSettings
from budgetguard.learning.learned import WHOLE, Learned
from budgetguard.learning.sketch import MOST_TOKENS
from budgetguard.learning.unsent import ASKED, EXACT, HIGH_TOKENS, LOW_TOKENS, TOO_LOW, Number, Unsent

INJECTED_QUANTILE: Final = 0.99
"""At least that where the estimate is written into the request: what is above is cut off."""
CUT_TIMES: Final = 2
"""An answer that was cut would have been longer: it is learned as so many times what was written, so that estimates do
not sink by what they cut."""


class Source(NamedTuple):
    """What an estimate was learned from."""

    quantile: float
    calls: int
    label: str
    value: str
    """Of the calls: they have this label, "model" where little is known of those of the same agent."""
    open_calls: int
    """On the same accounts: they lower it."""


class Forecast:
    """What one process has learned, and how many calls it has open on each account. Not for several threads at once.

    Other processes have calls open there too: the fewer are known, the higher is the estimate.
    """

    def __init__(self, settings: EstimateSettings, unsent: Unsent | None = None) -> None:
        self.quantile = settings.quantile
        self.learned = Learned(settings.half_life_ms, unsent)
        self._open: dict[str, int] = {}

    def tokens(
        self, subject: Mapping[str, str], plan: Plan, prompt_tokens: int, bound: int, at_ms: int,
        most: int = MAX_AMOUNT,
    ) -> int:  # fmt: skip
        """An output in tokens, at least 1 and at most `bound`, which is the request's own or its model's.

        It is no more than the smallest limit has, so that calls of which some write less are tried. Those whose
        mean is known to be above it are asked for as they are, and so refused as impossible.

        Args:
            most: what the smallest limit of dollars could pay.
        """
        room = min(_room(plan, prompt_tokens), most)
        found = self.learned.outlook(subject, at_ms, self.quantile, bound, room)
        tokens = max(1, min(found.tokens(self._open_on(plan) + 1), bound))
        return tokens if found.among_many > room else min(tokens, room)

    def bound(
        self, subject: Mapping[str, str], plan: Plan, prompt_tokens: int, bound: int, at_ms: int,
        most: int = MAX_AMOUNT, answers: int = 1,
    ) -> int:  # fmt: skip
        """The same where it is to be the bound of the request: each call by itself, with others to make up for none.

        Args:
            answers: so many share the bound alike, and each may be nearly all that one call writes.
        """
        room = min(_room(plan, prompt_tokens), most)
        quantile = max(self.quantile, INJECTED_QUANTILE)
        found = self.learned.outlook(subject, at_ms, quantile, bound, room)
        return max(1, min(found.alone * answers, bound, room) // answers) * answers

    def source(self, subject: Mapping[str, str], plan: Plan, *, injected: bool) -> Source | None:
        """Where an estimate comes from; None where nothing is known."""
        calls, label, value = self.learned.source(subject)
        if not calls:
            return None
        if injected:
            return Source(max(self.quantile, INJECTED_QUANTILE), calls, label, value, 0)
        return Source(self.quantile, calls, label, value, self._open_on(plan))

    def opened(self, plan: Plan) -> None:
        """A call was admitted."""
        for budget in plan.uncertain:
            self._open[budget] = self._open.get(budget, 0) + 1

    def ended(self, plan: Plan) -> None:
        """It is open no longer."""
        for budget in plan.uncertain:
            left = self._open.get(budget, 0) - 1
            if left > 0:
                self._open[budget] = left
            else:
                self._open.pop(budget, None)

    def _open_on(self, plan: Plan) -> int:
        """How many calls are open on every account of a plan, at least."""
        return min([self._open.get(budget, 0) for budget in plan.uncertain], default=0)

    def learn(
        self, subject: Mapping[str, str], tokens: int, at_ms: int, *, is_cut: bool = False, estimated: int = 0
    ) -> None:  # fmt: skip
        """A call has written so much, and would have written more if it was cut.

        Args:
            estimated: by what was learned; how far that was off is kept. 0 if it was not asked.

        Raises:
            InvalidAmount: that is no number of tokens, or negative.
        """
        also = _off(estimated, tokens) if estimated else ()
        written = min(tokens * CUT_TIMES, MOST_TOKENS) if is_cut else tokens
        self.learned.add(subject, written, at_ms, "out", also)

    def input_tokens(self, subject: Mapping[str, str], estimated: int, at_ms: int) -> int:
        """An input in tokens, which is estimated at so many by its bytes."""
        return self.learned.input_tokens(subject, estimated, at_ms, self.quantile)

    def learn_input(
        self, subject: Mapping[str, str], weighed: int, tokens: int, at_ms: int, *, estimated: int = 0
    ) -> None:  # fmt: skip
        """A call's input was so much, and by its bytes `weighed`, 1 or more; `estimated` as for `learn`."""
        also = _off(estimated, tokens) if estimated else ()
        self.learned.add(subject, min(-(-tokens * WHOLE // weighed), MOST_TOKENS), at_ms, "in", also)


def _off(estimated: int, tokens: int) -> Sequence[Number]:
    if tokens > estimated:
        return (ASKED, 1), (TOO_LOW, 1), (LOW_TOKENS, tokens - estimated)
    return ((ASKED, 1), (HIGH_TOKENS, estimated - tokens)) if tokens < estimated else ((ASKED, 1), (EXACT, 1))


def _room(plan: Plan, prompt_tokens: int) -> int:
    """The most output that the smallest limit of tokens could take, were nothing spent of it; at least one token."""
    least = plan.least
    return max(1, min(least.get("output_tokens", MAX_AMOUNT), least.get("tokens", MAX_AMOUNT) - prompt_tokens))
