"""Calls that share one hold: each takes its part of what is held, which grows where that is not enough for all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from budgetguard.call import Call, Priced
from budgetguard.parts import Charge, Part, Parts
from budgetguard.usage import Usage

if TYPE_CHECKING:
    from budgetguard.policy import Policy

NOTHING = Charge(Usage(0, 0), "counted")


class Shared(ABC):
    """The part of a `Hold` that knows the calls under it."""

    __slots__ = ("_call", "_owes", "_parts", "admitted_ms")

    def __init__(self, call: Call, admitted_ms: int) -> None:
        self._call = call
        self.admitted_ms = admitted_ms
        """The store's time at which the call was admitted."""
        self._parts = Parts(call)
        self._owes = False
        """It ended while calls under it were under way, and was charged what these might use."""

    def whole(self) -> Part:
        """The share of the one call that this hold was made for: all of it."""
        return self._parts.add(Part(self._call.estimate or Usage(0, 0)))

    async def draw(self, estimate: Usage, model: str | None, provider: str) -> Part:
        """Let another call share what is held, which grows where that is not enough for all of them.

        Errors: those of `grow`, and PriceUnknown; the call has no share then.
        """
        self._must_be_open()
        part = self._parts.add(Part(estimate, model=model, provider=provider))
        try:
            await self._fit()
        except BaseException:
            self._parts.drop(part)
            raise
        return part

    async def widen(self, part: Part, estimate: Usage, *, goes_on: bool) -> None:
        """Let a call that shares the hold take more than expected. Errors: those of `grow`.

        Args:
            goes_on: whether it takes more though budgets refuse that.
        """
        self._must_be_open()
        before, part.estimate = part.estimate, estimate
        try:
            await self._fit(goes_on)
        except BaseException:
            part.estimate = before
            raise

    async def _fit(self, goes_on: bool = False) -> None:
        """Grow to what the calls under this hold may take together."""
        call = self._call
        if call.estimate is None:
            return
        wanted, held = self._parts.wanted(self._policy, self.admitted_ms), call.priced.amounts
        if any(getattr(wanted.amounts, unit) > getattr(held, unit) for unit in call.plan.units):
            await self._grow_to(wanted, goes_on)

    async def finish(self, part: Part, charge: Charge | None) -> None:
        """A call that shares the hold has ended: what it used, None where nothing was billed.

        Where the hold ended before, and nobody else is under way any more, the truth replaces what it was charged.
        """
        if self._finished(part, charge):
            await self._amend()

    def leave(self, part: Part, charge: Charge) -> None:
        """The same of a call that nobody waits for any more, from any thread."""
        if self._finished(part, charge):
            self._post_amendment()

    def _finished(self, part: Part, charge: Charge | None) -> bool:
        """Take note of it; whether the truth is owed, and known now."""
        if charge is None and self._owes:
            part.end(NOTHING)
        elif charge is None:
            self._parts.drop(part)
        else:
            part.end(charge)
        is_due = self._owes and self._parts.are_final
        self._owes = self._owes and not is_due
        return is_due

    @property
    @abstractmethod
    def _policy(self) -> Policy:
        """The policy of the guard."""

    @abstractmethod
    def _must_be_open(self) -> None:
        """Raise ReservationFinished if it has ended."""

    @abstractmethod
    async def _grow_to(self, wanted: Priced, goes_on: bool = False) -> None:
        """Reserve so much. `goes_on`: as in `widen`. Errors: those of `Hold.grow`."""

    @abstractmethod
    async def _amend(self) -> None:
        """Settle again, with the truth."""

    @abstractmethod
    def _post_amendment(self) -> None:
        """The same without waiting for it, from any thread."""
