"""What calls write, told from what calls like them wrote: by model, agent and task, as far as each is known.

One call alone is given a high quantile. Of several that are open together on an account, the sum matters: it lies the
nearer to its mean, the more they are. That is not the mean of all calls: those that are open when an account becomes
full are mostly the long ones, because the short have ended and others have taken their place. A call is found among
them in proportion to its length, so their mean is that of all calls weighed by their tokens (the waiting time paradox).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import isqrt
from typing import Final

from budgetguard.learning.blending import WIDER_WEIGHT, Outlook, blended
from budgetguard.learning.sketch import EDGES, Sketch, Spread, place_of
from budgetguard.learning.unsent import Key, Kind, Number, Unsent

INPUTS_FROM: Final = 20
"""Calls of a set from which on what it told of inputs is believed."""
LEAST_RATIO, MOST_RATIO = 10, 400
"""Per cent: an input is estimated at no less, and no more, of what its bytes weigh."""
WHOLE: Final = EDGES[bisect_left(EDGES, 1_000)]
"""An input that was as estimated counts there: at an edge, so that it is read as it was."""
UNSEEN_TIMES: Final = 4
"""A call that nobody has seen yet is taken to write so many times the most that was seen of its model."""
_AGED: Final = 1 / 16
MOST_KEPT: Final = 400_000
"""Counts that are kept, of all sets together, some 40 MB: then the set that was asked for longest ago is forgotten."""
_SET_WEIGHS: Final = 10
_CHARS_PER_COUNT: Final = 100
MOST_ASKED: Final = 10_000
"""Sets of which it is remembered that they were asked for, to be read again."""
MOST_SEEN: Final = 4_096
MOST_WANTED: Final = 64
"""Sets that are asked for and that nobody knows here: more of them at a time are not looked up."""


_Labels = tuple[Kind, str, str | None, str | None]
"""Of a call: model, agent and task."""
_Sets = tuple[tuple[Key, ...], "list[_Kept]"]


class Learned:
    """The sketches of a process, in bounded memory: not for several threads at once.

    Args:
        half_life_ms: after which a call counts half.
        unsent: what is added is counted there, too.
    """

    def __init__(self, half_life_ms: int, unsent: Unsent | None = None) -> None:
        self._half_life_ms = half_life_ms
        self._unsent = unsent
        self._asked: list[Key] = []
        self._again: list[Key] = []
        self._wanted: dict[Key, None] = {}
        self._sketches: OrderedDict[Key, _Kept] = OrderedDict()
        self._size = 0
        self._seen: dict[_Labels, _Sets] = {}
        """Of calls by their labels, as it was looked up last: until another set becomes known, or is forgotten."""

    def __contains__(self, key: Key) -> bool:
        """Whether a set is known here."""
        return key in self._sketches

    def __len__(self) -> int:
        """How many sets of labels are known."""
        return len(self._sketches)

    def add(
        self, subject: Mapping[str, str], tokens: int, at_ms: int, kind: Kind = "out", also: Sequence[Number] = ()
    ) -> None:  # fmt: skip
        """A call with these labels has written so much, at an instant of the store's time.

        Args:
            kind: "in": of its input it was so much, where `WHOLE` is as estimated.
            also: other numbers of its sets that the store is to keep.

        Raises:
            InvalidAmount: that is no number of tokens, or negative.
        """
        place, slice = place_of(tokens), at_ms // self._half_life_ms
        numbers = ((place, 1), *also)
        keys, known = self._sets(subject, kind)
        if len(known) < len(keys):
            known = list(map(self._known, keys))
        for key, kept in zip(keys, known, strict=True):
            self._size += kept.sketch.count(slice, place, 1)
            if self._unsent is not None:
                self._unsent.add(key, numbers)
        if self._size > MOST_KEPT:
            self._forget()

    def source(self, subject: Mapping[str, str]) -> tuple[int, str, str]:
        """From how many calls most of an estimate comes, and the label that they have in common."""
        for key in reversed(keys_of(subject)):
            kept = self._sketches.get(key)
            if kept is not None and (kept.sketch.calls >= WIDER_WEIGHT or len(key) == 2):
                label, value = key[-2:] if len(key) > 2 else ("model", key[1])
                return kept.sketch.calls, label, value
        return 0, "", ""

    def wanted(self, most: int, *, anew: bool) -> list[Key]:
        """The sets that nobody knows here and that were asked for since, and so many of the others.

        Args:
            anew: of others, what was asked for since the last time that this was said comes after what still waits.
        """
        self._seen.clear()
        wanted, self._wanted = list(self._wanted), {}
        if anew:  # after those that still wait, or some would never come
            self._again, self._asked = [*self._again, *self._asked], []
        first, self._again = self._again[:most], self._again[most:]
        for key in first:
            if key in self._sketches:
                self._sketches[key].is_asked = False
        return [*wanted, *first]

    def read_again(self, key: Key) -> None:
        """What was read of a set is out of date: it comes first at the next turn."""
        self._again.insert(0, key)

    def replace(self, key: Key, counts: Sequence[tuple[int, int, int]], own: Mapping[int, int], at_ms: int) -> None:
        """All that is known of a set, by the store, and what it does not know yet: `own`, by place.

        Raises:
            InvalidAmount: a count is none; nothing was replaced.
        """
        sketch, slice = Sketch(), at_ms // self._half_life_ms
        sketch.merge([count for count in counts if count[1] < len(EDGES)], slice)
        for place, calls in own.items():
            if place < len(EDGES):
                sketch.count(slice, place, calls)
        kept = self._known(key)
        self._size += sketch.size - kept.sketch.size
        kept.sketch = sketch  # what was made of the one before holds until calls have come that say more
        self._forget()

    def _forget(self) -> None:
        """The sets that were asked for longest ago, as long as too much is kept."""
        while self._size > MOST_KEPT:
            self._seen.clear()
            key, forgotten = self._sketches.popitem(last=False)
            self._size -= forgotten.sketch.size + _weight(key)

    def _known(self, key: Key) -> _Kept:
        """As what was in use last; a new one where nothing is known."""
        kept = self._sketches.get(key)
        if kept is None:
            kept = self._sketches[key] = _Kept()
            self._size += _weight(key)
            self._seen.clear()
        else:
            self._sketches.move_to_end(key)
        return kept

    def _sets(self, subject: Mapping[str, str], kind: Kind) -> _Sets:
        """The sets that a call belongs to, and what is known of them, each from wide to narrow."""
        labels = kind, subject.get("model", ""), subject.get("agent"), subject.get("task") if kind == "out" else None
        return self._seen.get(labels) or self._look(labels)

    def _look(self, labels: _Labels) -> _Sets:
        """The same, looked up; that they were asked for is noted."""
        keys, known = _keys(*labels), []
        for key in keys:
            kept = self._sketches.get(key)
            if kept is not None:
                known.append(kept)
                self._sketches.move_to_end(key)
                if not kept.is_asked and len(self._asked) + len(self._again) < MOST_ASKED:
                    kept.is_asked = True
                    self._asked.append(key)
            elif len(self._wanted) < MOST_WANTED:
                self._wanted[key] = None
        if len(self._seen) >= MOST_SEEN:
            self._seen.clear()
        self._seen[labels] = found = keys, known
        return found

    def input_tokens(self, subject: Mapping[str, str], estimated: int, at_ms: int, quantile: float) -> int:
        """An input, by what those of its agent, or its model, came to; as it was estimated while few are known."""
        at = at_ms / self._half_life_ms
        for kept in reversed(self._sets(subject, "in")[1]):
            spread = kept.at(at)
            if spread.weight >= INPUTS_FROM:
                place = spread.places[bisect_left(spread.upto, quantile * spread.weight)]
                ratio = min(max(EDGES[place], WHOLE * LEAST_RATIO // 100), WHOLE * MOST_RATIO // 100)
                return -(-estimated * ratio // WHOLE)
        return estimated

    def outlook(self, subject: Mapping[str, str], at_ms: int, quantile: float, bound: int, room: int) -> Outlook:
        """What a call with these labels may write.

        Args:
            quantile: of a call alone, above 0 and below 1.
            bound: the most that the request itself, or its model, allows: what is unseen lies there.
            room: the tokens of the smallest limit. What is unseen is taken to be at most half of it: else a model whose
                bound is above every limit would never be tried, and nothing learned of it.
        """
        at = at_ms / self._half_life_ms
        _, found = self._sets(subject, "out")
        unseen = bound if bound <= room else max(1, room // 2)
        if not found:
            return Outlook(unseen, unseen, 0.0)
        spreads = [kept.at(at) for kept in found]
        if spreads[0].weight:
            unseen = min(unseen, max(1, UNSEEN_TIMES * spreads[0].most))
        return found[-1].outlook(spreads, quantile, bound, unseen)


class _Kept:
    """A sketch, and what was made of it when it was last looked at."""

    __slots__ = ("_anew_from", "_asked", "_at", "_calls", "_outlook", "_spread", "_spreads", "is_asked", "sketch")

    def __init__(self) -> None:
        self.sketch = Sketch()
        self.is_asked = False
        """It is to be read again, and waits for its turn."""
        self._spread = Spread()
        self._calls, self._anew_from, self._at = 0, 0, 0.0
        self._asked: tuple[float, int, int] = (0.0, 0, 0)
        self._spreads: list[Spread] = []
        self._outlook = Outlook(0, 0.0, 0.0)

    def at(self, at: float) -> Spread:
        """Weighed at an instant: anew if calls have come that could say more than chance does, the root of how many
        there were and at least a 16th, or a 16th of the half-life has passed.
        """
        calls = self.sketch.calls
        if not self._calls <= calls < self._anew_from or not 0 <= at - self._at < _AGED:
            self._spread, self._calls, self._at = self.sketch.spread(at), calls, at
            self._anew_from = calls + max(1, isqrt(calls), calls // 16)
        return self._spread

    def outlook(self, spreads: list[Spread], quantile: float, bound: int, unseen: int) -> Outlook:
        """As `blended`, of which it remembers the last answer: spreads are the same objects until they change."""
        asked = (quantile, bound, unseen)
        if asked != self._asked or spreads != self._spreads:
            self._asked, self._spreads = asked, spreads
            self._outlook = blended(spreads, quantile, bound, unseen, self._outlook.place)
        return self._outlook


def _weight(key: Key) -> int:
    """What a set takes beside its counts."""
    return _SET_WEIGHS + sum(map(len, key)) // _CHARS_PER_COUNT


def keys_of(subject: Mapping[str, str], kind: Kind = "out") -> tuple[Key, ...]:
    """The sets that a call belongs to, from wide to narrow: its model, its agent there, its task there.

    How inputs are made differs by agent; tasks are not told apart.
    """
    task = subject.get("task") if kind == "out" else None
    return _keys(kind, subject.get("model", ""), subject.get("agent"), task)


@lru_cache(8_192)
def _keys(kind: Kind, model: str, agent: str | None, task: str | None) -> tuple[Key, ...]:
    key: Key = (kind, model)
    keys = [key]
    for label, value in (("agent", agent), ("task", task)):
        if value is not None:
            key = (*key, label, value)
            keys.append(key)
    return tuple(keys)
