"""Which events were told already, so that what happens to many calls is one warning and a sum, not a line each.

`limits` remembers what was told, for as long as its window; what repeats is counted here until somebody takes the sums.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

from budgetguard.core.model import Account
from budgetguard.core.periods import Period
from budgetguard.events import Event, OutboxFilling, Overage, Refused, StoreProblem, Unmatched

if TYPE_CHECKING:
    from limits.storage import MemoryStorage

MOST_REMEMBERED = 4096
MINUTE_S = 60
HOUR_S = 3_600
DAY_S = 86_400
# At least as long as the longest window of that name, whose key is its own.
_WINDOW_S = {"minute": MINUTE_S, "hour": HOUR_S, "day": DAY_S + 7_200, "week": 8 * DAY_S, "month": 32 * DAY_S}
OTHERS = "others"


@dataclass
class Sums:
    """How many events of a name repeated, and how often for each kind (an account, or another cause)."""

    count: int = 0
    kinds: Counter[str] = field(default_factory=Counter)

    def add(self, kinds: Mapping[str, str]) -> None:
        """One more, which belongs to these kinds."""
        self.count += 1
        for kind in kinds.values():
            self.kinds[kind if kind in self.kinds or len(self.kinds) < MOST_REMEMBERED else OTHERS] += 1


class Repeats:
    """Remembers what was told, up to a bound (beyond it, it starts again). From any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._memory: MemoryStorage | None = None
        self._sums: dict[str, Sums] = {}

    def is_new(self, event: Event) -> bool:
        """Whether to tell the event in full. If not, it is counted.

        New is: a refusal by an account that has not refused in this window; one for another cause with labels that
        have not met it today; labels that no budget covered today; a fault of the store not told within a minute; each
        tenth of the outbox that is full, once an hour. Once an hour, too, that an agent's calls to a model take more
        than their estimates (learned ones let some do so all day), and that this overdraws an account.
        """
        if isinstance(event, Refused):
            spans = {v.account.key: _window_s(v.account.period) for v in event.violations}
            kinds = {v.account.key: _named(v.account) for v in event.violations}
            if not spans:
                kinds = {_key(event.cause, event.subject): event.cause}
                spans = dict.fromkeys(kinds, DAY_S)
        elif isinstance(event, Unmatched):
            return self._first({_key(event.name, event.subject): DAY_S})
        elif isinstance(event, OutboxFilling):
            return self._first({_key(event.name, event.rows * 10 // event.most): HOUR_S})
        elif isinstance(event, Overage):
            caller = _caller(event.subject)
            kinds = {_key(event.name, caller, event.overdrawn > 0): caller}
            spans = dict.fromkeys(kinds, HOUR_S)
        elif isinstance(event, StoreProblem):
            kinds = {_key(event.verb, event.error, event.let_through): f"{event.verb}: {event.error}"}
            spans = dict.fromkeys(kinds, MINUTE_S)
        else:
            return True
        if self._first(spans):
            return True
        with self._lock:
            self._sums.setdefault(event.name, Sums()).add(kinds)
        return False

    def is_new_failure(self, *names: str) -> bool:
        """Whether these names have not come together within a minute."""
        return self._first({_key(*names): MINUTE_S})

    def take(self) -> dict[str, Sums]:
        """What repeated since the last time, by the event's name."""
        with self._lock:
            sums, self._sums = self._sums, {}
        return sums

    def _first(self, spans: Mapping[str, int]) -> bool:
        """Mark the keys, each for its span in s. True if one of them was not marked."""
        from limits import RateLimitItemPerSecond
        from limits.storage import MemoryStorage
        from limits.strategies import FixedWindowRateLimiter

        items = [(RateLimitItemPerSecond(1, span_s), key) for key, span_s in spans.items()]
        with self._lock:
            if self._memory is None or len(self._memory.expirations) >= MOST_REMEMBERED:
                self._memory = MemoryStorage()
            told = FixedWindowRateLimiter(self._memory)
            new = [(item, key) for item, key in items if told.test(item, key)]
            try:
                for item, key in new:
                    told.hit(item, key)
            except RuntimeError:  # limits forgets in a thread, and none can be started while the interpreter ends
                return True
        return bool(new)


def _key(*parts: object) -> str:
    return json.dumps([sorted(part.items()) if isinstance(part, Mapping) else part for part in parts])


def _caller(subject: Mapping[str, str]) -> str:
    """Not by its other labels: a session or a task may be new with every call."""
    return " ".join(f"{name}={subject[name]}" for name in ("agent", "model") if name in subject) or "no labels"


def _named(account: Account) -> str:
    labels = " ".join(f"{name}={value}" for name, value in account.subject.items())
    return f"{account.budget}{f' [{labels}]' if labels else ''} {account.unit}/{account.period}"


def _window_s(period: Period) -> int:
    return _WINDOW_S[period.name] if period.kind == "calendar" else -(-period.span_ms // 1000) or DAY_S
