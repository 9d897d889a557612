"""Which share of the calls of the last hour failed, or was charged by guess, as this process made them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from threading import Lock
from typing import TYPE_CHECKING

from budgetguard.alerts.raised import AlertRaised
from budgetguard.alerts.texts import plain

if TYPE_CHECKING:
    from budgetguard.alerts.settings import AlertSettings

SLOT_S = 300.0
SLOTS = 12
MOST_MODELS = 200
_Counts = dict[tuple[str, str], list[int]]
"""By provider and model: calls, those that failed, those that were assumed."""
OTHERS = ("", "others")
NONE = (0, 0, 0)


class Shares:
    """Counts calls in slots of five minutes, and forgets them after an hour. From any thread."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._lock = Lock()
        self._slots: deque[tuple[float, _Counts]] = deque(maxlen=SLOTS)
        self._counts: _Counts = {}
        self._next_s = float("-inf")

    def count(self, provider: str, model: str, failed: bool, assumed: bool) -> None:
        """One more call has ended. Models beyond the first two hundred are counted together."""
        now_s, key = self._now_s(), (provider, model)
        with self._lock:
            if now_s >= self._next_s:
                self._next_s, self._counts = now_s + SLOT_S, {}
                self._slots.append((now_s, self._counts))
            found = self._counts.get(key)
            if found is None:
                found = self._counts.setdefault(key if len(self._counts) < MOST_MODELS else OTHERS, [0, 0, 0])
            found[0] += 1
            if failed or assumed:
                found[1] += failed
                found[2] += assumed

    def over(self, settings: AlertSettings) -> Iterator[AlertRaised]:
        """An alert for each model of which too many calls failed, and one if too many of all were assumed."""
        counts = self._last_hour()
        for (provider, model), (calls, failed, _) in counts.items() if settings.error_share is not False else ():
            if calls >= settings.least_calls and failed > settings.error_share * calls:
                text = f"{failed / calls:.0%} of the calls of the last hour to {plain(model) or 'no model'} failed"
                subject = {name: value for name, value in (("provider", provider), ("model", model)) if value}
                yield _raised("errors", text, subject, calls, failed)
        calls, assumed = (sum(count[place] for count in counts.values()) for place in (0, 2))
        most = settings.assumed_share
        if most is not False and calls >= settings.least_calls and assumed > most * calls:
            text = f"{assumed / calls:.0%} of the calls of the last hour were charged by guess"
            yield _raised("assumed", text, {}, calls, assumed)

    def _last_hour(self) -> _Counts:
        oldest_s = self._now_s() - SLOT_S * SLOTS
        summed: _Counts = {}
        with self._lock:
            for began_s, counts in self._slots:
                for key, found in counts.items() if began_s > oldest_s else ():
                    summed[key] = [mine + more for mine, more in zip(summed.get(key, NONE), found, strict=True)]
        return summed


def _raised(cause: str, text: str, subject: dict[str, str], calls: int, count: int) -> AlertRaised:
    return AlertRaised(cause, f"{text}: {count} of {calls}", subject, figures={"calls": calls, "count": count})
