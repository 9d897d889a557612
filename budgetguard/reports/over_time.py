"""What a report's calls cost hour by hour, day by day, week by week or month by month, for its chart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from budgetguard.ledger.reading import Book
from budgetguard.ledger.sums import SLOT_MS, Sum
from budgetguard.reports.asking import Report, ordered
from budgetguard.reports.folding import TIMES, LocalTimes, asked_of_book
from budgetguard.reports.lines import DAY_MS
from budgetguard.reports.names import OTHERS, name_shown

MOST_SERIES = 7
WIDEST_MS = {"hour": 3 * DAY_MS, "day": 100 * DAY_MS, "week": 800 * DAY_MS}
"""How long a stretch is shown by each; longer ones by month."""


class Series(NamedTuple):
    """One value of the first label, and its amounts in every step of time."""

    name: str
    amounts: Sequence[int]


class Timeline(NamedTuple):
    """Steps of time without a gap, and the series that are stacked there: of cost, or of tokens where all was free."""

    step: str
    times: Sequence[str]
    starts_ms: Sequence[int]
    series: Sequence[Series]
    in_dollars: bool

    @property
    def heights(self) -> list[int]:
        """Of each step, all series together."""
        return [sum(amounts) for amounts in zip(*(one.amounts for one in self.series), strict=True)]


def timeline(book: Book, report: Report) -> Timeline:
    """Ask a ledger for it, by the first label of the report; the values that cost most have their own series.

    Raises: as `Book.sums`.
    """
    question = report.question
    labels = tuple(name for name in question.by if name not in TIMES)[:1]
    found = book.sums(question.stretch, asked_of_book((*labels, "day")), question.where)
    slots = [int(one.group[-1]) for one in found]
    if not slots:
        return Timeline("day", [], [], [], True)
    first_ms, last_ms = min(slots) * SLOT_MS, max(slots) * SLOT_MS
    step = _step(last_ms - first_ms)
    times, starts_ms = _steps(step, question.zone, first_ms, last_ms)
    in_dollars = report.total.cost_nanousd > 0
    local, places = LocalTimes(step, question.zone), {text: place for place, text in enumerate(times)}
    amounts: dict[str, list[int]] = {}
    weights: dict[str, Sum] = {}
    for one in sorted(found, key=lambda one: int(one.group[-1])):
        name = name_shown(one.group[0]) if labels else ""
        place = places[local.text(int(one.group[-1]) * SLOT_MS)]
        more = one.cost_nanousd if in_dollars else one.total_tokens
        amounts.setdefault(name, [0] * len(times))[place] += more
        weights.setdefault(name, Sum((name,))).add(one)
    names = [one.group[0] for one in ordered(weights.values(), ("name",))]
    series = [Series(name, amounts[name]) for name in names[:MOST_SERIES]]
    if len(names) > MOST_SERIES:
        rest = [sum(some) for some in zip(*(amounts[name] for name in names[MOST_SERIES:]), strict=True)]
        series.append(Series(OTHERS, rest))
    return Timeline(step, times, starts_ms, series, in_dollars)


def _step(span_ms: int) -> str:
    return next((name for name, most_ms in WIDEST_MS.items() if span_ms <= most_ms), "month")


def _steps(step: str, zone: str, first_ms: int, last_ms: int) -> tuple[list[str], list[int]]:
    """Every step from the first call to the last: name and first instant."""
    local, at_ms = LocalTimes(step, zone), first_ms
    times: list[str] = []
    starts_ms: list[int] = []
    while at_ms <= last_ms:
        window = local.window(at_ms)
        times.append(local.text(at_ms))
        starts_ms.append(window.start_ms)
        at_ms = window.end_ms
    return times, starts_ms
