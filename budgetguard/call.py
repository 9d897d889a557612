"""One call before it is admitted: who spends, what it is estimated to use, and which budgets it counts against."""

from __future__ import annotations

import itertools
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from budgetguard.core.amounts import Amounts
from budgetguard.core.model import NO_INFO, NO_PLAN, CallInfo, Claim, Plan, UsageRow
from budgetguard.errors import CallUnmatched, EstimateRequired, PriceUnknown
from budgetguard.pricing import cost_of

if TYPE_CHECKING:
    from budgetguard.policy import Budget, Policy, SubjectKey
    from budgetguard.usage import Usage

_TOKEN_UNITS = frozenset(["tokens", "input_tokens", "output_tokens"])
_counter = itertools.count()
_process = (os.getpid(), secrets.token_hex(6))


def new_id() -> str:
    """A reservation id: the time first, so that stores append; then this process, and a count in it."""
    global _process
    if _process[0] != os.getpid():
        _process = (os.getpid(), secrets.token_hex(6))
    return f"r-{time.time_ns() // 1_000_000:011x}{_process[1]}{next(_counter):05x}"


class Priced(NamedTuple):
    """Amounts of a usage, their ledger row, and who told the price."""

    amounts: Amounts
    row: UsageRow
    source: str

    def __add__(self, other: object) -> Priced:
        """Both together; each was priced on its own. A cost that nobody knows makes the sum's unknown."""
        if not isinstance(other, Priced):
            return NotImplemented
        mine, theirs = self.row, other.row
        unknown = mine.cost_nanousd is None or theirs.cost_nanousd is None
        counts = [(a or 0) + (b or 0) for a, b in zip(mine, theirs, strict=True)]
        row = UsageRow(*counts)._replace(cost_nanousd=None if unknown else counts[-1])
        amounts = Amounts(*(a + b for a, b in zip(self.amounts, other.amounts, strict=True)))
        source = self.source if self.source == other.source else f"{self.source}+{other.source}"
        return Priced(amounts._replace(requests=1), row, source)


NO_AMOUNTS = Priced(Amounts(requests=1), UsageRow(), "")


def priced(policy: Policy, model: str | None, usage: Usage, at_ms: int) -> Priced:
    """What `usage` amounts to in every unit that can be spent; `usd` is 0 where nobody knows the cost.

    Raises:
        ConfigError: two prices tie for the model.
        InvalidAmount: the cost is out of range.
    """
    cost_nanousd, source = cost_of(policy.prices, model, usage, at_ms)
    read, written = usage.input_tokens, usage.output_tokens
    row = UsageRow(
        read, written, usage.cache_read_tokens, usage.cache_write_tokens, usage.reasoning_tokens, cost_nanousd
    )
    return Priced(Amounts(read + written, read, written, cost_nanousd or 0, 1), row, source)


@dataclass(slots=True)
class Call:
    """A call on its way to be admitted. `plan` is made anew whenever it asks: limits and windows travel with it."""

    id: str
    subject: Mapping[str, str]
    key: SubjectKey
    estimate: Usage | None
    extra: tuple[Claim, ...] = ()
    """The accounts of the `within` scopes around the call."""
    plan: Plan = NO_PLAN
    budgets: tuple[Budget, ...] = ()
    priced: Priced = NO_AMOUNTS
    info: CallInfo = NO_INFO
    tried_since_ms: int = 0

    def match(self, policy: Policy, now_ms: int, host: str) -> None:
        """Find the budgets and windows of now, and what the estimate amounts to.

        Raises:
            CallUnmatched, EstimateRequired, PriceUnknown: the call cannot be judged.
        """
        found = policy.match(self.key, now_ms)
        plan = found.plan
        if self.extra:
            plan = Plan(plan.claims + self.extra, plan.on_expiry)
        if plan is self.plan:
            return
        self.budgets, self.plan = found.budgets, plan
        self.tried_since_ms = self.tried_since_ms or now_ms
        if not plan.claims and policy.guard.on_unmatched == "refuse" and policy.mode != "shadow":
            raise CallUnmatched(
                f"no budget covers a call of {dict(self.subject)}: add a [[budget]] that matches it, "
                'or set guard.on_unmatched = "allow"'
            )
        self.priced = self._priced(policy, now_ms)
        self.info = CallInfo(self.subject, self.priced.source, host, self.priced.row)

    def _priced(self, policy: Policy, now_ms: int) -> Priced:
        units = self.plan.units
        lenient = policy.mode == "shadow"
        if self.estimate is None:
            if not lenient and (units & _TOKEN_UNITS or "usd" in units):
                raise EstimateRequired(
                    f"{self._first_budget(_TOKEN_UNITS | {'usd'})} counts tokens or dollars, "
                    "and this call came without an estimate: pass estimate=bg.Usage(...)"
                )
            return Priced(Amounts(requests=1, concurrent=1), UsageRow(), "")
        estimated = priced(policy, self.subject.get("model"), self.estimate, now_ms)
        if not lenient and estimated.row.cost_nanousd is None and "usd" in units:
            raise PriceUnknown(
                f"{self._first_budget({'usd'})} counts dollars, and nobody knows what model "
                f"{self.subject.get('model', '(none)')!r} costs: add a [[price]] for it, or pass cost_usd"
            )
        return estimated._replace(amounts=estimated.amounts._replace(concurrent=1))

    def _first_budget(self, units: frozenset[str] | set[str]) -> str:
        return next(claim.account.budget for claim in self.plan.claims if claim.account.unit in units)
