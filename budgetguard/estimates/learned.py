"""What calls write, told from what calls like them wrote: by model, agent and task, as far as each is known.

One call alone is given a high quantile. Of several that are open together on an account, the sum matters: it lies the
nearer to its mean, the more they are. That is not the mean of all calls: those that are open when an account becomes
full are mostly the long ones, because the short have ended and others have taken their place. A call is found among
them in proportion to its length, so their mean is that of all calls weighed by their tokens (the waiting time paradox).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from math import ceil, sqrt
from typing import Final, NamedTuple

from budgetguard.estimates.sketch import EDGES, Sketch, Spread

LEARNS_AT: Final = ("agent", "task")
"""The labels that tell calls of one model apart, from wide to narrow."""
WIDER_WEIGHT: Final = 5.0
"""What is known of the wider set counts as so many calls at most: so a new task begins as its agent is."""
UNSEEN_TIMES: Final = 4
"""A call that nobody has seen yet is taken to write so many times the most that was seen of its model."""
_LEAST_MARGIN: Final = 0.25
_GROWN: Final = 1.03
_AGED: Final = 1 / 16
MOST_KEPT: Final = 400_000
"""Counts that are kept, of all sets together, some 40 MB: then the set that was asked for longest ago is forgotten."""
_SET_WEIGHS: Final = 10

Key = tuple[str, ...]


class Known(NamedTuple):
    """What is known of calls with certain labels, from the wide to the narrow: each part with its factor."""

    parts: tuple[tuple[Spread, float], ...]
    weight: float
    """How many calls that is, those of wider sets counted less; what is unseen is one more."""
    unseen: float
    """The factor of that one."""
    most: int
    """The most that the model wrote; 0 if nothing is known of it."""


class Outlook(NamedTuple):
    """What a call may write, at one instant, in tokens."""

    alone: int
    """The quantile, rounded up: for one call alone."""
    among_many: float
    """The mean of the calls that are open where an account is full."""
    deviation: float
    """Their standard deviation."""

    def tokens(self, open_calls: int) -> int:
        """For each of so many calls, itself included: what they write together is a sum."""
        margin = max(self.alone - self.among_many, _LEAST_MARGIN * self.deviation)
        return ceil(self.among_many + margin / sqrt(max(1, open_calls)))


class Learned:
    """The sketches of a process, in bounded memory: not for several threads at once.

    Args:
        half_life_ms: after which a call counts half.
    """

    def __init__(self, half_life_ms: int) -> None:
        self._half_life_ms = half_life_ms
        self._sketches: OrderedDict[Key, _Kept] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        """How many sets of labels are known."""
        return len(self._sketches)

    def add(self, subject: Mapping[str, str], tokens: int, at_ms: int) -> None:
        """A call with these labels has written so much, at an instant of the store's time.

        Raises:
            InvalidAmount: a number is none, or negative.
        """
        for key in keys_of(subject):
            kept = self._sketches.get(key)
            if kept is None:
                kept = self._sketches[key] = _Kept()
                self._size += _SET_WEIGHS
            self._sketches.move_to_end(key)
            before = len(kept.sketch)
            kept.sketch.add(tokens, at_ms // self._half_life_ms)
            self._size += len(kept.sketch) - before
        while self._size > MOST_KEPT:
            _, forgotten = self._sketches.popitem(last=False)
            self._size -= len(forgotten.sketch) + _SET_WEIGHS

    def known(self, subject: Mapping[str, str], at_ms: int) -> Known:
        """What is known of calls with these labels: a part for each set of which there is anything."""
        at = at_ms / self._half_life_ms
        parts: list[tuple[Spread, float]] = []
        weight, unseen, most = 1.0, 1.0, 0
        for key in keys_of(subject):
            kept = self._sketches.get(key)
            spread = Spread() if kept is None else kept.at(at)
            if not spread.weight:
                continue
            if len(key) == 1:
                most = spread.most
            factor = min(1.0, WIDER_WEIGHT / weight)
            parts = [(part, share * factor) for part, share in parts]
            parts.append((spread, 1.0))
            weight, unseen = weight * factor + spread.weight, unseen * factor
        return Known(tuple(parts), weight, unseen, most)


class _Kept:
    """A sketch, and how it was when it was last looked at."""

    __slots__ = ("_at", "_calls", "_spread", "sketch")

    def __init__(self) -> None:
        self.sketch = Sketch()
        self._spread = Spread()
        self._calls, self._at = 0, 0.0

    def at(self, at: float) -> Spread:
        """Weighed at an instant: anew if there are 3 % more calls, or a 16th of the half-life has passed."""
        calls = self.sketch.calls
        if calls > self._calls * _GROWN or calls < self._calls or not 0 <= at - self._at < _AGED:
            self._spread, self._calls, self._at = self.sketch.spread(at), calls, at
        return self._spread


def keys_of(subject: Mapping[str, str]) -> list[Key]:
    """The sets that a call belongs to, from wide to narrow: its model, its agent there, its task there."""
    key: Key = (subject.get("model", ""),)
    keys = [key]
    for label in LEARNS_AT:
        value = subject.get(label)
        if value is not None:
            key = (*key, label, value)
            keys.append(key)
    return keys


def outlook(known: Known, quantile: float, bound: int, room: int) -> Outlook:
    """What a call may write of which so much is known.

    Args:
        quantile: of a call alone, above 0 and below 1.
        bound: the most that the request itself, or its model, allows: what is unseen lies there.
        room: the tokens of the smallest limit. What is unseen is taken to be at most half of it: else a model whose
            bound is above every limit would never be tried, and nothing learned of it.
    """
    unseen = min(bound, max(1, room // 2))
    if known.parts:
        unseen = min(unseen, max(1, UNSEEN_TIMES * known.most))
    # Each set's own figures are averaged, not its calls: a few long ones of a wider set would outweigh all of a narrow
    # one for hundreds of calls.
    mean, deviation = known.unseen * unseen, 0.0
    for spread, factor in known.parts:
        share = factor * spread.weight
        mean += share * spread.open_mean
        deviation += share * spread.open_deviation
    mean, deviation = mean / known.weight, deviation / known.weight
    alone = min(_quantile(known, quantile, unseen), max(unseen, known.most), bound)
    return Outlook(alone, mean, deviation)


def _quantile(known: Known, quantile: float, unseen: int) -> int:
    """The first edge up to which that share of the calls lies."""
    wanted = quantile * known.weight
    low, high = 0, len(EDGES) - 1
    while low < high:
        place = (low + high) // 2
        weight = known.unseen if EDGES[place] >= unseen else 0.0
        weight += sum(factor * spread.below(place) for spread, factor in known.parts)
        if weight >= wanted:
            high = place
        else:
            low = place + 1
    return EDGES[low]
