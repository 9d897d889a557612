"""Quarters of an hour folded into the hours, days, weeks and months of a time zone.

They are the windows of budgets: a day ends where a `$5/day` ends, also on the days on which clocks are changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from budgetguard.core.periods import Period, Window, window_at, zone_of
from budgetguard.ledger.sums import SLOT, SLOT_MS, Sum

TIMES = ("hour", "day", "week", "month")
"""What a report can be grouped by beside labels, ascending."""


class LocalTimes:
    """The windows of one of `TIMES` in a zone, by any instant in them. Fast where instants come in order.

    Raises:
        InvalidLimit: this machine does not know the zone.
    """

    def __init__(self, name: str, zone: str) -> None:
        self._period = Period("calendar", name=name, zone=zone)
        self._zone = zone_of(zone)
        self._last = Window("", 0, 0)
        self._texts: dict[int, str] = {}

    def window(self, at_ms: int) -> Window:
        """The window that an instant lies in."""
        if not self._last.start_ms <= at_ms < self._last.end_ms:
            self._last = window_at(self._period, at_ms)
        return self._last

    def text(self, at_ms: int) -> str:
        """Its name: `2026-11`, `2026-W47`, `2026-11-22`, or of an hour its first instant, `2026-11-22T14:00+01:00`."""
        window = self.window(at_ms)
        if self._period.name != "hour":
            return window.label
        if window.start_ms not in self._texts:
            at = datetime.fromtimestamp(window.start_ms / 1000, UTC).astimezone(self._zone)
            self._texts[window.start_ms] = at.isoformat(timespec="minutes")
        return self._texts[window.start_ms]


def asked_of_book(by: Sequence[str]) -> tuple[str, ...]:
    """What to ask a `Book` for: its groups are folded into groups by `by`."""
    labels = tuple(name for name in by if name not in TIMES)
    return (*labels, SLOT) if len(labels) < len(by) else labels


def folded(found: Iterable[Sum], by: Sequence[str], zone: str) -> list[Sum]:
    """The answer to `asked_of_book`, by labels and times as they stand in `by`."""
    times = {name: LocalTimes(name, zone) for name in by if name in TIMES}
    if not times:
        return list(found)
    places = {name: place for place, name in enumerate(asked_of_book(by))}
    sums: dict[tuple[str, ...], Sum] = {}
    for one in sorted(found, key=lambda one: int(one.group[-1])):
        at_ms = int(one.group[-1]) * SLOT_MS
        group = tuple(times[name].text(at_ms) if name in times else one.group[places[name]] for name in by)
        sums.setdefault(group, Sum(group)).add(one)
    return list(sums.values())


def in_time(name: str, text: str) -> str | float:
    """What texts of one of `TIMES` are ordered by. In the hour that comes twice, offsets order them."""
    return datetime.fromisoformat(text).timestamp() if name == "hour" else text
