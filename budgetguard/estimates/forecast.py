"""The output of a call, estimated for the accounts that it counts against: by what was learned, and by what is open.

A guard and a simulation ask the same, so that what is simulated is what happens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

from budgetguard.core.amounts import MAX_AMOUNT
from budgetguard.core.model import Plan
from budgetguard.estimates.learned import WHOLE, Learned, keys_of
from budgetguard.estimates.settings import EstimateSettings
from budgetguard.estimates.sketch import MOST_TOKENS
from budgetguard.estimates.unsent import ASKED, HIGH_TOKENS, LOW_TOKENS, TOO_LOW, Unsent

INJECTED_QUANTILE: Final = 0.99
"""At least that where the estimate is written into the request: what is above is cut off."""
CUT_TIMES: Final = 2
"""An answer that was cut would have been longer: it is learned as so many times what was written, so that estimates do
not sink by what they cut."""


class Forecast:
    """What one process has learned, and how many calls it has open on each account. Not for several threads at once.

    Other processes have calls open there too: the fewer are known, the higher is the estimate.
    """

    def __init__(self, settings: EstimateSettings, unsent: Unsent | None = None) -> None:
        self.quantile = settings.quantile
        self._unsent = unsent
        self.learned = Learned(settings.half_life_ms, unsent)
        self._open: Counter[str] = Counter()

    def tokens(
        self, subject: Mapping[str, str], plan: Plan, prompt_tokens: int, bound: int, at_ms: int,
        most: int = MAX_AMOUNT,
    ) -> int:  # fmt: skip
        """An output in tokens, at least 1 and at most `bound`, which is the request's own or its model's.

        Args:
            most: what the smallest limit of dollars could pay.
        """
        room = min(_room(plan, prompt_tokens), most)
        found = self.learned.outlook(subject, at_ms, self.quantile, bound, room)
        open_calls = min(map(self._open.__getitem__, plan.uncertain), default=0)
        return max(1, min(found.tokens(open_calls + 1), bound, room))

    def bound(
        self, subject: Mapping[str, str], plan: Plan, prompt_tokens: int, bound: int, at_ms: int,
        most: int = MAX_AMOUNT,
    ) -> int:  # fmt: skip
        """The same where it is to be the bound of the request: each call by itself, with others to make up for none."""
        room = min(_room(plan, prompt_tokens), most)
        quantile = max(self.quantile, INJECTED_QUANTILE)
        return max(1, min(self.learned.outlook(subject, at_ms, quantile, bound, room).alone, room))

    def opened(self, plan: Plan) -> None:
        """A call was admitted."""
        for account in plan.uncertain:
            self._open[account] += 1

    def ended(self, plan: Plan) -> None:
        """It is open no longer."""
        for account in plan.uncertain:
            self._open[account] -= 1
            if self._open[account] <= 0:
                del self._open[account]

    def learn(self, subject: Mapping[str, str], tokens: int, at_ms: int, *, is_cut: bool = False) -> None:
        """A call has written so much, and would have written more if it was cut.

        Raises:
            InvalidAmount: that is no number of tokens, or negative.
        """
        self.learned.add(subject, min(tokens * CUT_TIMES, MOST_TOKENS) if is_cut else tokens, at_ms)

    def input_tokens(self, subject: Mapping[str, str], estimated: int, at_ms: int) -> int:
        """An input in tokens, which is estimated at so many by its bytes."""
        return self.learned.input_tokens(subject, estimated, at_ms, self.quantile)

    def learn_input(self, subject: Mapping[str, str], estimated: int, tokens: int, at_ms: int) -> None:
        """A call's input was so much, and was estimated by its bytes at `estimated`, 1 or more."""
        self.learned.add(subject, min(-(-tokens * WHOLE // estimated), MOST_TOKENS), at_ms, "in")

    def err(self, subject: Mapping[str, str], estimated: int, tokens: int) -> None:
        """A call that was estimated by what was learned has written so much: keep how far that was off."""
        if self._unsent is not None:
            off = [(ASKED, 1)]
            if tokens > estimated:
                off += [(TOO_LOW, 1), (LOW_TOKENS, tokens - estimated)]
            elif tokens < estimated:
                off.append((HIGH_TOKENS, estimated - tokens))
            for key in keys_of(subject):
                self._unsent.add(key, off)


def _room(plan: Plan, prompt_tokens: int) -> int:
    """The most output that the smallest limit of tokens could take, were nothing spent of it; at least one token."""
    room = MAX_AMOUNT
    for claim in plan.claims:
        if claim.account.unit == "output_tokens":
            room = min(room, claim.limit)
        elif claim.account.unit == "tokens":
            room = min(room, claim.limit - prompt_tokens)
    return max(1, room)
