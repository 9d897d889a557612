"""What the forms of a report share: its lines, its heading and notes, and dollars as texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal, NamedTuple

from budgetguard.core.amounts import NANOUSD_PER_USD
from budgetguard.core.periods import zone_of
from budgetguard.ledger.reading import FIRST_MS, LAST_MS
from budgetguard.ledger.sums import Sum
from budgetguard.reports.asking import Question, Report
from budgetguard.reports.names import OTHERS, TOTAL, name_shown

DAY_MS = 86_400_000
AMOUNTS = (
    "calls", "operations", "errors", "prompt_tokens", "completion_tokens", "total_tokens", "cache_read_tokens",
    "cache_write_tokens", "reasoning_tokens", "cost_nanousd", "cost_usd", "unpriced_calls", "assumed_calls",
    "assumed_cost_nanousd", "expired_calls", "expired_cost_nanousd", "late_calls", "late_cost_nanousd",
)  # fmt: skip
"""What programs are told of each line."""


class Line(NamedTuple):
    """A group, the others together, or the total; its names as they are shown."""

    kind: Literal["group", "others", "total"]
    names: Sequence[str]
    sum: Sum


def lines(report: Report) -> Iterator[Line]:
    """The groups, the others if there are any, and the total: all but the last add up to it."""
    blank = [""] * (len(report.by) - 1)
    for one in report.groups:
        yield Line("group", [name_shown(value) for value in one.group], one)
    if report.others is not None:
        yield Line("others", [OTHERS, *blank], report.others)
    yield Line("total", [TOTAL, *blank], report.total)


def amount_of(one: Sum, amount: str) -> int | str:
    """One of `AMOUNTS`."""
    return usd_exact(one.cost_nanousd) if amount == "cost_usd" else int(getattr(one, amount))


def usd_exact(amount_nanousd: int) -> str:
    """Dollars to the nano-dollar, for programs: `1.500000000`."""
    return f"{Decimal(amount_nanousd).scaleb(-9):f}"


def usd_places(report: Report) -> int:
    """How many places of dollars people are shown."""
    return 2 if report.total.cost_nanousd >= 100 * NANOUSD_PER_USD else 4


def usd_shown(amount_nanousd: int, places: int) -> str:
    """Rounded dollars for people: `$1,234.50`; what is too little for these places is `<$0.01`."""
    step = 10 ** (9 - places)
    whole, rest = divmod((amount_nanousd + step // 2) // step, 10**places)
    if amount_nanousd and not (whole or rest):
        return f"<$0.{1:0{places}d}"
    return f"${whole:,}.{rest:0{places}d}"


def share_shown(part: int, whole: int) -> str:
    """A part of a whole: `12.5 %`."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def stretch_shown(question: Question) -> str:
    """`2026-11-01 to 2026-11-30` where these are whole days, else with times; and the time zone."""
    since_ms, until_ms = question.stretch.since_ms, question.stretch.until_ms
    zone = zone_of(question.zone)
    since, until = (datetime.fromtimestamp(min(at_ms, LAST_MS - DAY_MS) / 1000, zone) for at_ms in (since_ms, until_ms))
    if since.time() == until.time() == datetime.min.time():
        begin, end = f"{since:%Y-%m-%d}", f"{until - timedelta(days=1):%Y-%m-%d}"
    else:
        begin, end = f"{since:%Y-%m-%d %H:%M}", f"{until:%Y-%m-%d %H:%M}"
    if since_ms <= FIRST_MS:
        text = "all calls" if until_ms >= LAST_MS else f"until {end}"
    else:
        text = begin if begin == end else f"from {begin} on" if until_ms >= LAST_MS else f"{begin} to {end}"
    return f"{text} ({question.zone})"


def notes(report: Report) -> list[str]:
    """What a reader of the figures has to know, in sentences."""
    total, places = report.total, usd_places(report)
    found = []
    for calls, cost_nanousd, text in (
        (total.assumed_calls, total.assumed_cost_nanousd, "assumed: nobody told what was really used"),
        (total.expired_calls, total.expired_cost_nanousd, "expired: charged by its estimate, the truth may still come"),
        (total.late_calls, total.late_cost_nanousd, "late: settled when the reservation had ended"),
    ):
        if calls:
            found.append(f"Of it {usd_shown(cost_nanousd, places)} of {counted(calls, 'call')} {text}.")
    if total.unpriced_calls:
        found.append(f"{counted(total.unpriced_calls, 'call')} without a known price, counted as $0.")
    return found


def counted(number: int, word: str) -> str:
    """`1 call`, `1,234 calls`."""
    return f"{number:,} {word if number == 1 else f'{word}s'}"
