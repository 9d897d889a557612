"""One call before it is admitted: who spends, what it is estimated to use, and which budgets it counts against."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from budgetguard.core.amounts import Amounts, shown
from budgetguard.core.model import NO_INFO, NO_PLAN, CallInfo, Claim, Plan, UsageRow, UsageSource
from budgetguard.errors import (
    CallRefused,
    CallUnmatched,
    ConfigError,
    EstimateRequired,
    InvalidAmount,
    PriceUnknown,
)
from budgetguard.pricing import cost_of, unknown_price_text
from budgetguard.usage import Usage
from budgetguard.version import VERSION

if TYPE_CHECKING:
    from budgetguard.policy import Budget, Match, Policy, SubjectKey

_DOUBT: tuple[UsageSource, ...] = ("", "reported", "counted", "estimate")
"""Of a sum the source is that of its most doubtful part."""
_ESTIMATED_UNITS = frozenset(["tokens", "input_tokens", "output_tokens", "usd"])
_counter = itertools.count()
_process = (os.getpid(), os.urandom(5).hex())


def new_id() -> str:
    """A reservation id: the time first, so that stores append; then this process, and a count in it."""
    global _process
    if _process[0] != os.getpid():
        _process = (os.getpid(), os.urandom(5).hex())
    return f"r-{time.time_ns() // 1_000_000:011x}{_process[1]}{next(_counter):05x}"


class Origin(NamedTuple):
    """What is known of a call by its request: the operation ("" for a new one) and which attempt of it this is.

    `api` is the kind of the request (`wire.paths.Kind`).
    """

    operation_id: str = ""
    attempt: int = 1
    prompt_hash: str = ""
    api: str = ""


NO_ORIGIN = Origin()
"""Of a call that was reserved by hand: nothing is known of its request."""


class Priced(NamedTuple):
    """Amounts of a usage, their ledger row, and who told the price."""

    amounts: Amounts
    row: UsageRow
    source: str

    def __add__(self, other: object) -> Priced:
        """Both together, mine the earlier, each priced on its own. A cost that nobody knows makes the sum's unknown."""
        if not isinstance(other, Priced):
            return NotImplemented
        mine, theirs = self.row, other.row
        unknown = mine.cost_nanousd is None or theirs.cost_nanousd is None
        counts = [a + b for a, b in zip(mine[:5], theirs[:5], strict=True)]
        cost_nanousd = None if unknown else (mine.cost_nanousd or 0) + (theirs.cost_nanousd or 0)
        source = max(mine.source, theirs.source, key=_DOUBT.index)
        first_ms = theirs.first_token_ms if mine.first_token_ms is None else mine.first_token_ms
        row = UsageRow._make([*counts, cost_nanousd, source, mine.streamed or theirs.streamed, first_ms])
        amounts = Amounts(*(a + b for a, b in zip(self.amounts, other.amounts, strict=True)))
        prices = self.source if self.source == other.source else f"{self.source}+{other.source}"
        return Priced(amounts._replace(requests=1), row, prices)

    def widened(self, wanted: Priced, units: Collection[str]) -> Priced:
        """The least estimate that is below neither in the units that are counted.

        Its row says the same of them: where input or output is counted, its tokens are the sum of the most of both.
        """
        most = Amounts(*map(max, self.amounts, wanted.amounts))
        row = self.row if self.amounts.tokens > wanted.amounts.tokens else wanted.row
        if "input_tokens" in units or "output_tokens" in units:
            row = row._replace(prompt_tokens=most.input_tokens, completion_tokens=most.output_tokens)
        known = self.row.cost_nanousd is not None or wanted.row.cost_nanousd is not None
        row = row._replace(cost_nanousd=most.usd if known else None)
        read, written = row.prompt_tokens, row.completion_tokens
        amounts = most._replace(tokens=read + written, input_tokens=read, output_tokens=written)
        return Priced(amounts, row, wanted.source)


NO_ESTIMATE = Priced(Amounts(requests=1, concurrent=1), UsageRow(), "")
"""What a call asks that came without an estimate."""


def priced(
    policy: Policy, model: str | None, usage: Usage, at_ms: int, source: UsageSource, *, lenient: bool,
    concurrent: int = 0, provider: str | None = None, answered_model: str | None = None, in_dollars: bool = False,
) -> Priced:  # fmt: skip
    """What `usage` amounts to in every unit; `usd` is 0 where nobody knows the cost. An actual is not `concurrent`.

    Args:
        answered_model: the one that answered; its price holds where `model` has none.
        in_dollars: a dollar budget counts it: then the policy says what becomes of a price that nobody knows.

    Raises (if lenient, such a cost is one that nobody knows):
        ConfigError: two prices tie for the model.
        InvalidAmount: the cost is out of range.
    """
    try:
        cost_nanousd, price_source = cost_of(
            policy.prices, model, usage, at_ms, provider=provider, answered_model=answered_model,
            on_unknown_price=policy.guard.on_unknown_price if in_dollars else "refuse",
        )  # fmt: skip
    except (ConfigError, InvalidAmount):
        if not lenient:
            raise
        cost_nanousd, price_source = None, "unknown"
    read, written = usage.input_tokens, usage.output_tokens
    row = UsageRow(
        read, written, usage.cache_read_tokens, usage.cache_write_tokens, usage.reasoning_tokens, cost_nanousd, source
    )
    return Priced(Amounts(read + written, read, written, cost_nanousd or 0, 1, concurrent), row, price_source)


@dataclass(slots=True)
class Call:
    """A call on its way to be admitted. `plan` is made anew whenever it asks: limits and windows travel with it."""

    id: str
    subject: Mapping[str, str]
    key: SubjectKey
    estimate: Usage | None
    extra: tuple[Claim, ...] = ()
    """The accounts of the `within` scopes around the call."""
    excuse: str = ""
    """In shadow mode: for what this call would have been refused, budgets apart."""
    origin: Origin = NO_ORIGIN
    plan: Plan = NO_PLAN
    budgets: tuple[Budget, ...] = ()
    priced: Priced = NO_ESTIMATE
    info: CallInfo = NO_INFO
    _found: Match | None = None

    @property
    def asked_accounts(self) -> list[str]:
        """The identities of the accounts of which it asks something: the others do not refuse it."""
        amounts = self.priced.amounts
        return [c.account.identity for c in self.plan.claims if getattr(amounts, c.account.unit)]

    def asked_of(self, budgets: Collection[str]) -> Amounts:
        """What it asks of these budgets, in the units that they count."""
        units = {claim.account.unit for claim in self.plan.claims if claim.account.budget in budgets}
        return Amounts(**{unit: getattr(self.priced.amounts, unit) for unit in units})

    def match(self, policy: Policy, now_ms: int, host: str, process: str) -> None:
        """Find the budgets and windows of now, and what the estimate amounts to.

        Raises:
            CallUnmatched, EstimateRequired, PriceUnknown: the call cannot be judged.
            TypeError, ConfigError, InvalidAmount: the estimate is no `Usage`, two prices tie, or its cost is too high.
        """
        found = policy.match(self.key, now_ms)
        if found is self._found:
            return
        lenient = policy.mode == "shadow"
        self._found, self.budgets, self.plan = found, found.budgets, found.plan
        if self.extra:
            extra = tuple(replace(claim, enforced=False) for claim in self.extra) if lenient else self.extra
            self.plan = Plan(found.plan.claims + extra, found.plan.on_expiry)
        try:
            self.priced = self._estimated(policy, now_ms)
            self._check(policy)
        except (CallRefused, TypeError) as error:
            if not lenient:
                raise
            self.excuse = self.excuse or type(error).__name__
        self.info = CallInfo(
            self.subject, self.priced.source, host, self.priced.row, *self.origin[:3], process, VERSION
        )

    def _estimated(self, policy: Policy, now_ms: int) -> Priced:
        if self.estimate is None:
            return NO_ESTIMATE
        estimate, model = check_estimate(self.estimate), self.subject.get("model")
        return priced(
            policy, model, estimate, now_ms, "estimate", lenient=policy.mode == "shadow", concurrent=1,
            provider=self.subject.get("provider"), in_dollars="usd" in self.plan.units,
        )  # fmt: skip

    def _check(self, policy: Policy) -> None:
        """Pass a call that can be judged."""
        units = self.plan.units
        if not self.plan.claims and policy.guard.on_unmatched == "refuse":
            raise CallUnmatched(
                f"no budget covers a call of {dict(self.subject)}: add a [[budget]] that matches it, or set "
                'guard.on_unmatched = "allow" (in Python budgets=[bg.Budget(...)], '
                'settings=bg.GuardSettings(on_unmatched="allow"))'
            )
        if self.estimate is None and not units.isdisjoint(_ESTIMATED_UNITS):
            raise EstimateRequired(
                f"{self._first_budget(_ESTIMATED_UNITS)} counts tokens or dollars, "
                "and this call came without an estimate: pass estimate=bg.Usage(...)"
            )
        self.refuse_unpriced(self.priced, policy, self.subject.get("model"), self.subject.get("provider"))

    def refuse_unpriced(self, found: Priced, policy: Policy, model: str | None, provider: str | None) -> None:
        """Pass what has a cost, or what no dollar budget covers.

        Raises:
            PriceUnknown: names the model and what to add.
        """
        if found.row.cost_nanousd is None and "usd" in self.plan.units:
            raise PriceUnknown(
                f"{self._first_budget(frozenset(['usd']))} counts dollars, and nobody knows what model "
                f"{model or '(none)'!r} costs: "
                + unknown_price_text(policy.prices, model, provider, by_hand=self.origin is NO_ORIGIN)
            )

    def _first_budget(self, units: frozenset[str]) -> str:
        return next(claim.account.budget for claim in self.plan.claims if claim.account.unit in units)


def check_estimate(estimate: Any) -> Usage:
    """The estimate, if it is one.

    Raises:
        TypeError: it is no `Usage`.
    """
    if not isinstance(estimate, Usage):
        raise TypeError(f"estimate must be a bg.Usage, not {shown(estimate)}")
    return estimate
