"""What one hold will be charged: the calls that it covers, each with what is known of it by now."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from budgetguard.core.model import UsageSource
from budgetguard.usage import Usage


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


class Part:
    """One call under a hold.

    Args:
        estimate: what it may use at most, as far as is known; None for one that only told what it had used.
        charge: what it used.
    """

    __slots__ = ("_charge", "_is_claimed", "_so_far", "estimate")

    def __init__(self, estimate: Usage | None = None, charge: Charge | None = None) -> None:
        self.estimate = estimate
        self._charge = charge
        self._so_far: Callable[[], Charge] | None = None
        self._is_claimed = estimate is None

    @property
    def is_known(self) -> bool:
        """Somebody has said what it used, or can say what it has used so far."""
        return self._charge is not None or self._so_far is not None

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
        mine = not self._is_claimed and self._charge is not None and self._charge.usage == usage
        self._is_claimed = self._is_claimed or mine
        return mine
