"""What one hold will be charged: the calls that it covers, each with what is known of it by now."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from budgetguard.call import Call, Priced, priced
from budgetguard.core.model import UsageSource
from budgetguard.usage import Usage

if TYPE_CHECKING:
    from budgetguard.policy import Policy


LEFT_UNREAD = "left_unread"
"""Why a stream told no more: its caller did not read it to its end."""


class Charge(NamedTuple):
    """What one call used, who says so, and at whose prices it is billed.

    Args:
        model: the one that answered; it tells the price where nobody knows that of the one asked for.
        others: what the same call used of other models.
    """

    usage: Usage
    source: UsageSource = "reported"
    model: str | None = None
    others: tuple[tuple[str, Usage], ...] = ()
    streamed: bool = False
    first_token_ms: int | None = None

    def together(self) -> Usage:
        """What the call used, of whichever model: as `read_usage` reads its response."""
        return sum((usage for _, usage in self.others), self.usage)


class Part:
    """One call under a hold.

    Args:
        estimate: what it may use at most, as far as is known; None for one that only told what it had used.
        charge: what it used.
        model, provider: at whose price; None for those of the hold.
    """

    __slots__ = ("_charge", "_is_claimed", "_so_far", "estimate", "model", "provider")

    def __init__(
        self, estimate: Usage | None = None, charge: Charge | None = None,
        model: str | None = None, provider: str | None = None,
    ) -> None:  # fmt: skip
        self.estimate, self.model, self.provider = estimate, model, provider
        self._charge = charge
        self._so_far: Callable[[], Charge] | None = None
        self._is_claimed = estimate is None

    @property
    def is_known(self) -> bool:
        """Somebody has said what it used, or can say what it has used so far."""
        return self._charge is not None or self._so_far is not None

    @property
    def is_recorded(self) -> bool:
        """Somebody has said for good what it used."""
        return self._charge is not None

    @property
    def most(self) -> Usage:
        """What it used; until that is known for good, what it may use at most."""
        known = self._charge
        return known.usage if known is not None else self.estimate or Usage(0, 0)

    def follow(self, so_far: Callable[[], Charge]) -> None:
        """From now on `so_far` tells, at any time and from any thread, what it has used by then."""
        self._so_far = so_far

    def end(self, charge: Charge) -> None:
        """This is what it used."""
        self._charge = charge

    def charge(self) -> Charge | None:
        """What it used, or has used so far; None where nobody knows."""
        if self._charge is None and self._so_far is not None:
            return self._so_far()
        return self._charge

    def claim(self, usage: Usage) -> bool:
        """Whether the caller, who records this usage, means this call: once, and only one that was seen on the wire."""
        charge = None if self._is_claimed else self.charge()
        mine = charge is not None and charge.together() == usage
        self._is_claimed = self._is_claimed or mine
        return mine


class Parts:
    """All calls under the hold of `call`."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._parts: list[Part] = []

    @property
    def is_known(self) -> bool:
        """Of one of them somebody has said what it used, or can say what it has used so far."""
        return any(part.is_known for part in self._parts)

    @property
    def is_recorded(self) -> bool:
        """Of one of them somebody has said for good what it used."""
        return any(part.is_recorded for part in self._parts)

    @property
    def are_final(self) -> bool:
        """Of each of them somebody has said for good what it used."""
        return all(part.is_recorded for part in self._parts)

    @property
    def are_told(self) -> bool:
        """Of each of them its provider has said for good what it used, or its caller."""
        charges = [part.charge() for part in self._parts]
        return all(charge is not None and charge.source == "reported" for charge in charges)

    def add(self, part: Part) -> Part:
        """One more."""
        self._parts.append(part)
        return part

    def drop(self, part: Part) -> None:
        """One less: nothing was billed for it."""
        self._parts.remove(part)

    def record(self, usage: Usage) -> None:
        """The caller says what a call used, which need not be one that was not seen on the wire."""
        if not any(part.claim(usage) for part in self._parts):
            self.add(Part(charge=Charge(usage)))

    def alone(self, estimate: Usage, policy: Policy, admitted_ms: int) -> Priced:
        """What the hold's own call may use at most, at its price."""
        return self._priced(Part(), Charge(estimate, "estimate"), policy, admitted_ms, is_first=True)

    def wanted(self, policy: Policy, admitted_ms: int) -> Priced:
        """What all may use together at most, each at its own price.

        Raises:
            PriceUnknown: a dollar budget covers one, and nobody knows its price.
            ConfigError, InvalidAmount: two prices tie, or a cost is too high.
        """
        first, *others = self._parts
        found = self._most(first, policy, admitted_ms, is_first=True)
        for part in others:
            found += self._most(part, policy, admitted_ms, is_first=False)
        return found

    def total(self, policy: Policy, admitted_ms: int, *, at_most: bool = False) -> Priced | None:
        """What they used, as far as that is known, each priced on its own; of one still under way the estimate.

        None where nothing is known of any.

        Args:
            at_most: of one still under way the estimate, though something of it has come.
        """
        if not self.is_known:
            return None
        found: Priced | None = None
        for part in self._parts:
            so_far = None if at_most and not part.is_recorded else part.charge()
            charge = so_far or Charge(part.most, "estimate")
            more = self._priced(part, charge, policy, admitted_ms, is_first=found is None)
            found = more if found is None else found + more
        return found

    def _most(self, part: Part, policy: Policy, admitted_ms: int, *, is_first: bool) -> Priced:
        charge = Charge(part.most, "estimate")
        if part.model is not None and policy.mode != "shadow":
            found = self._at_its_price(part, charge, policy, admitted_ms)
            self._call.refuse_unpriced(found, policy, part.model, part.provider)
        return self._priced(part, charge, policy, admitted_ms, is_first=is_first)

    def _priced(self, part: Part, charge: Charge, policy: Policy, admitted_ms: int, *, is_first: bool) -> Priced:
        """What a charge amounts to. Where nobody knows its cost, a dollar budget is charged what was held, once."""
        found = self._at_its_price(part, charge, policy, admitted_ms)
        if found.row.cost_nanousd is None and self._in_dollars:
            cost_nanousd = self._call.priced.amounts.usd if is_first else 0
            row = found.row._replace(cost_nanousd=cost_nanousd)
            return Priced(found.amounts._replace(usd=cost_nanousd), row, "estimate")
        return found

    def _at_its_price(self, part: Part, charge: Charge, policy: Policy, admitted_ms: int) -> Priced:
        subject = self._call.subject
        provider = part.provider or subject.get("provider")

        def amounts(model: str | None, usage: Usage, answered: str | None = None) -> Priced:
            return priced(
                policy, model, usage, admitted_ms, charge.source, lenient=True,
                provider=provider, answered_model=answered, in_dollars=self._in_dollars,
            )  # fmt: skip

        found = amounts(part.model or subject.get("model"), charge.usage, charge.model)
        for model, usage in charge.others:
            found += amounts(model, usage)
        return found._replace(row=found.row._replace(streamed=charge.streamed, first_token_ms=charge.first_token_ms))

    @property
    def _in_dollars(self) -> bool:
        return "usd" in self._call.plan.units
