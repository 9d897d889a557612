"""How much calls wrote, kept small: how many fell between fixed edges, in slices of time that fade.

A count is a whole number at an edge and a slice, so that sketches of many workers are merged by adding, in any order
and to the last digit: nothing is scaled down when time passes. How old a slice is, is weighed when it is read: an
exponential decay in which every call of a slice has the age of its middle (forward decay, as in Cormode et al., 2009).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from itertools import pairwise
from math import sqrt
from typing import Final, NamedTuple

from budgetguard.core.amounts import MAX_AMOUNT, check_amount, shown
from budgetguard.errors import InvalidAmount

MOST_TOKENS: Final = 10_000_000
"""No call writes more; what says so counts as that much."""
KEPT_SLICES: Final = 6
"""Of one half-life each: what is older weighs less than a 45th, and is dropped."""
_STEP: Final = 20


def _edges() -> tuple[int, ...]:
    """0 to 20 one by one, then each a 20th above the one before: whole numbers, so alike in every language."""
    edges = [0]
    while edges[-1] < MOST_TOKENS:
        edges.append(min(MOST_TOKENS, max(edges[-1] + 1, edges[-1] + edges[-1] // _STEP)))
    return tuple(edges)


EDGES: Final = _edges()
"""A call counts at the first edge that is not below it: what is read is at most 5 % too high, and never too low."""
_MIDDLES: Final = (0.0, *((low + 1 + high) / 2 for low, high in pairwise(EDGES)))
"""What a call at an edge is taken to be in a sum, where too high and too low make up for each other."""


class Spread(NamedTuple):
    """A sketch as it is at one instant: edges by their index, ascending, and the weight of all calls up to each.

    `weight` is how many calls there are, old ones counted less. A call is found open in proportion to its length: of
    those that are found so, `open_mean` and `open_deviation` are the mean and the standard deviation of their tokens.
    """

    places: tuple[int, ...] = ()
    upto: tuple[float, ...] = ()
    open_mean: float = 0.0
    open_deviation: float = 0.0
    weight: float = 0.0
    most: int = 0
    """The edge of the largest call; 0 without one."""

    def below(self, place: int) -> float:
        """The weight of the calls up to an edge."""
        number = bisect_left(self.places, place + 1)
        return self.upto[number - 1] if number else 0.0


def place_of(tokens: int) -> int:
    """The place of the edge at which a call counts.

    Raises:
        InvalidAmount: that is no number of tokens, or negative.
    """
    return bisect_left(EDGES, min(check_amount(tokens, "tokens"), MOST_TOKENS))


class Sketch:
    """The calls of one set of labels. At most `KEPT_SLICES` times the number of edges are kept, some 300."""

    __slots__ = ("_newest", "_slices", "calls", "size")

    def __init__(self) -> None:
        self._slices: dict[int, dict[int, int]] = {}
        self._newest = 0
        self.calls = 0
        """How many calls are kept."""
        self.size = 0
        """How many counts they are kept in."""

    def add(self, tokens: int, slice: int) -> None:
        """Count a call of so many tokens, in the slice of when it was.

        Raises:
            InvalidAmount: a number is none, or negative.
        """
        self.count(check_amount(slice, "slice"), place_of(tokens), 1)

    def merge(self, counts: Iterable[tuple[int, int, int]], newest: int) -> None:
        """Add what another one has counted: as (slice, place of the edge, calls), in any order.

        Args:
            newest: the slice of now: what says that it is of a later one is left out, for it would drop all others.

        Raises:
            InvalidAmount: a number is none, or its place is no edge; then nothing was added.
        """
        checked = []
        for slice, place, calls in counts:
            if check_amount(place, "place") >= len(EDGES):
                raise InvalidAmount(f"place must be below {len(EDGES)}, not {shown(place)}")
            checked.append((check_amount(slice, "slice"), place, check_amount(calls, "calls")))
        for slice, place, calls in checked:
            if slice <= newest:
                self.count(slice, place, calls)

    def count(self, slice: int, place: int, calls: int) -> int:
        """Count calls that are known to be numbers, at the place of an edge; how many counts are kept more, or less."""
        size = self.size
        if slice > self._newest:
            self._newest = slice
            for old in [other for other in self._slices if other <= slice - KEPT_SLICES]:
                dropped = self._slices.pop(old)
                self.calls -= sum(dropped.values())
                self.size -= len(dropped)
        elif slice <= self._newest - KEPT_SLICES:
            return 0
        if calls:
            at = self._slices.get(slice)
            if at is None:
                at = self._slices[slice] = {}
            before = at.get(place, 0)
            at[place] = after = before + calls if before < MAX_AMOUNT - calls else MAX_AMOUNT
            self.calls += after - before
            self.size += not before
        return self.size - size

    @property
    def counts(self) -> list[tuple[int, int, int]]:
        """All that it holds, for `merge`: equal for sketches of the same calls, in whatever order they came."""
        return sorted((slice, place, n) for slice, at in self._slices.items() for place, n in at.items())

    def spread(self, at: float) -> Spread:
        """Weighed at an instant, in slices since 1970 (2.5 is the middle of slice 2)."""
        weights: dict[int, float] = {}
        for slice in sorted(self._slices):  # in one order: sums of floats depend on it
            weight = 2.0 ** min(0.0, slice + 0.5 - at)
            for place, calls in self._slices[slice].items():
                weights[place] = weights.get(place, 0.0) + weight * calls
        return _spread(weights)


def _spread(weights: Mapping[int, float]) -> Spread:
    places = sorted(weights)
    upto, total, first, second, third = [], 0.0, 0.0, 0.0, 0.0
    for place in places:
        weight, tokens = weights[place], _MIDDLES[place]
        total += weight
        first += weight * tokens
        second += weight * tokens * tokens
        third += weight * tokens * tokens * tokens
        upto.append(total)
    mean = second / first if first else 0.0
    deviation = sqrt(max(0.0, third / first - mean * mean)) if first else 0.0
    return Spread(tuple(places), tuple(upto), mean, deviation, total, EDGES[places[-1]] if places else 0)
