"""The estimate of one request by what calls like it have used, and what it tells of itself when it has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from budgetguard.learning.forecasting import Guess
from budgetguard.refusal import escaped
from budgetguard.usage import Usage

if TYPE_CHECKING:
    from budgetguard.clients import Gate
    from budgetguard.core.model import Plan
    from budgetguard.estimate import Estimate
    from budgetguard.parts import Charge
    from budgetguard.subjects import Judged


class LearnedEstimate:
    """Of one exchange. Nothing is asked, and nothing learned, unless `made` was called."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._judged: Judged | None = None
        self._counts_on: Plan | None = None
        self._estimate, self._guess, self._most, self._injects = Usage(0, 0), Guess(), 0, False

    def made(self, judged: Judged, most: Estimate, answers: int) -> Usage:
        """The estimate for a call with these labels; as it is where the budgets go by the ceiling.

        Args:
            most: its input by itself, and the most that it may write.
            answers: so many are to be bounded by it; 0 where it becomes no bound of the request.
        """
        gate = self._gate
        found = gate.forecasting.estimated(gate.policy, judged, gate.claims(), most, gate.now_ms(), answers)
        self._judged, self._most, self._injects = judged, most.usage.output_tokens, answers > 0
        self._estimate = found or most.usage
        forecast, input_tokens = (0, 0) if found is None else (found.output_tokens, found.input_tokens)
        self._guess = Guess(0 if most.counted else most.usage.input_tokens, forecast, input_tokens)
        return self._estimate

    def why(self) -> str:
        """From what its output was learned; "" where it was not."""
        gate, tokens = self._gate, self._guess.forecast
        if self._judged is None or not 0 < tokens < self._most:
            return ""
        claims, now_ms = gate.claims(), gate.now_ms()
        found = gate.forecasting.source(gate.policy, self._judged, claims, now_ms, injected=self._injects)
        if found is None:
            return ""
        rule = f"p{100 * found.quantile:g} of"
        if found.calls * (1 - found.quantile) < 1:
            rule = "above the most of only"
        fewer = f", less because {found.open_calls:,} are open" if found.open_calls else ""
        calls = f"{found.calls:,} calls of {found.label} {escaped(found.value)}"
        return f"{tokens:,} output tokens are learned: {rule} {calls}{fewer}"

    def opened(self, plan: Plan) -> None:
        """The call was admitted."""
        if self._judged is not None:
            self._counts_on = plan
            self._gate.forecasting.opened(self._gate.policy.estimate, plan)

    def ended(self) -> None:
        """It is open no longer; may be said twice."""
        plan, self._counts_on = self._counts_on, None
        if plan is not None:
            self._gate.forecasting.ended(self._gate.policy.estimate, plan)

    def learn(self, charge: Charge | None, cause: str) -> None:
        """What was charged at its end, and why it ended, "" for well: only whole answers tell what calls write."""
        gate = self._gate
        if self._judged is None or charge is None or charge.source != "reported" or cause:
            return
        is_cut = self._injects and charge.usage.output_tokens >= self._estimate.output_tokens
        subject = self._judged.subject
        gate.forecasting.learn(gate.policy, subject, self._guess, charge.usage, gate.now_ms(), is_cut=is_cut)
