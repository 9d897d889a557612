"""What one process has learned and not yet told the store, by set and place: sent in flushes that count once."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

from budgetguard.core.amounts import MAX_AMOUNT
from budgetguard.store import OutputCount

Kind = Literal["out", "in"]
"""What is counted of calls: the tokens of their outputs, or how far their inputs were from what was estimated."""
Key = tuple[str, ...]
"""Of a set: its kind, and what its calls have in common: the model, then names and values of labels."""
Number = tuple[int, int]
"""A place and what is added there."""
EXACT, ASKED, TOO_LOW, LOW_TOKENS, HIGH_TOKENS = 507, 508, 509, 510, 511
"""Places that are no edge: calls that were estimated by what was learned (ASKED), those of them that took just that,
those whose estimate was too low, by how many tokens in all, and by how many the others were too high."""
FLUSH_MOST: Final = 500
"""Counts of one flush, about: on SQLite they are one transaction of 30 ms, for which all others wait."""
MOST_UNSENT: Final = 50_000
"""Counts that wait for a store that is away; what is new beyond them is not sent."""


class Flush(NamedTuple):
    """What is sent at once, under the id by which it counts once."""

    id: str
    counts: Mapping[Key, Mapping[int, int]]
    rows: Sequence[OutputCount]


class Unsent:
    """Of one process. Not for several threads at once.

    Args:
        half_life_ms: sets of other half-lives are other sets.
    """

    def __init__(self, half_life_ms: int) -> None:
        self._half_life_ms = half_life_ms
        self._counts: dict[Key, dict[int, int]] = {}
        self._size = 0
        self._flush: Flush | None = None
        self._last: Flush | None = None
        self.flushes = 0
        """How many were sent."""

    @property
    def waits(self) -> bool:
        """Whether anything is to be sent."""
        return bool(self._counts or self._flush)

    def add(self, key: Key, numbers: Iterable[Number]) -> None:
        """Add numbers, each with its place."""
        of_set = self._counts.get(key)
        if of_set is None:
            if self._size >= MOST_UNSENT:
                return
            of_set = self._counts[key] = {}
        for place, number in numbers:
            if place in of_set:
                of_set[place] += number
            elif self._size < MOST_UNSENT:
                of_set[place] = number
                self._size += 1

    def take(self) -> Flush | None:
        """What is to be sent next; the same again until it was `sent`."""
        if self._flush is None and self._counts:
            taken: dict[Key, dict[int, int]] = {}
            rows: list[OutputCount] = []
            while self._counts and len(rows) < FLUSH_MOST:
                key = next(iter(self._counts))
                of_set = taken[key] = self._counts.pop(key)
                words = self.words(key)
                rows += [OutputCount(words, place, min(calls, MAX_AMOUNT)) for place, calls in of_set.items()]
            self._size -= len(rows)
            self._flush = Flush(os.urandom(8).hex(), taken, rows)
        return self._flush

    def sent(self, flush: Flush) -> None:
        """The store has it."""
        if self._flush is flush:
            self._flush, self._last = None, flush
            self.flushes += 1

    def was_sent(self, key: Key, since: int) -> bool:
        """Whether some of a set may have been sent since there were so many `flushes`: who read then lacks it."""
        more = self.flushes - since
        return more > 1 or (more == 1 and self._last is not None and key in self._last.counts)

    def of(self, key: Key) -> dict[int, int]:
        """What the store may not have of a set, by place."""
        found = dict(self._flush.counts.get(key, {})) if self._flush is not None else {}
        for place, calls in self._counts.get(key, {}).items():
            found[place] = found.get(place, 0) + calls
        return found

    def words(self, key: Key) -> str:
        """How the store calls a set."""
        return json.dumps([key[0], self._half_life_ms, *key[1:]], separators=(",", ":"), ensure_ascii=False)

    def key(self, words: str) -> Key | None:
        """The inverse of `words`; None for a set of another kind, or half-life."""
        found = said_by(words)
        return None if found is None or found[0] != self._half_life_ms else found[1]


def said_by(words: str) -> tuple[int, Key] | None:
    """The half-life in ms and the key that a set's words say; None for what is none."""
    try:
        found: Any = json.loads(words)
    except (ValueError, RecursionError):
        return None
    if not (isinstance(found, list) and len(found) > 2 and found[0] in ("out", "in") and type(found[1]) is int):
        return None
    key = tuple(part for part in (found[0], *found[2:]) if isinstance(part, str))
    return (found[1], key) if len(key) == len(found) - 1 else None
