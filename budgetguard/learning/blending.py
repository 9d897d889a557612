"""What a call may write, made of what the sets to which it belongs say, from wide to narrow."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, sqrt
from typing import Final, NamedTuple

from budgetguard.learning.sketch import EDGES, Spread

WIDER_WEIGHT: Final = 5.0
"""What is known of the wider set counts as so many calls at most: so a new task begins as its agent is."""
_LEAST_MARGIN: Final = 0.25


class Outlook(NamedTuple):
    """What a call may write, at one instant, in tokens."""

    alone: int
    """The quantile, rounded up: for one call alone."""
    among_many: float
    """The mean of the calls that are open where an account is full."""
    deviation: float
    """Their standard deviation."""
    place: int = 0
    """Of the quantile's edge, which the next one is seldom far from."""

    def tokens(self, open_calls: int) -> int:
        """For each of so many calls, itself included: what they write together is a sum."""
        margin = max(self.alone - self.among_many, _LEAST_MARGIN * self.deviation)
        return ceil(self.among_many + margin / sqrt(max(1, open_calls)))


def blended(spreads: Sequence[Spread], quantile: float, bound: int, unseen: int, near: int = 0) -> Outlook:
    """What a call may write, by what the sets to which it belongs did, from wide to narrow, and one unseen call.

    Each set counts as it is, but for the narrower one as `WIDER_WEIGHT` calls at most. The quantile is that of all
    calls. Of the means each set's own is averaged: a few long calls of a wider set would outweigh all short ones of a
    narrow one for hundreds of calls. `near` is the place of an edge to begin the search at.
    """
    shares = [1.0]
    weight = 1.0
    for spread in spreads:
        factor = min(1.0, WIDER_WEIGHT / weight) if spread.weight else 1.0
        shares = [*(share * factor for share in shares), 1.0]
        weight = weight * factor + spread.weight
    parts = list(zip(spreads, shares[1:], strict=True))
    mean, deviation = shares[0] * unseen, 0.0
    for spread, share in parts:
        mean += share * spread.weight * spread.open_mean
        deviation += share * spread.weight * spread.open_deviation

    def falls_short(place: int) -> bool:
        below = shares[0] if EDGES[place] >= unseen else 0.0
        for spread, share in parts:
            below += share * spread.below(place)
        return below < quantile * weight

    low, high = 0, len(EDGES) - 1
    place = near
    while low < high:
        if falls_short(place):
            low = place + 1
        else:
            high = place
        place = high - 1 if high == near else (low + high) // 2
    most = max([unseen, *(spread.most for spread in spreads)])
    return Outlook(min(EDGES[low], most, bound), mean / weight, deviation / weight, low)
