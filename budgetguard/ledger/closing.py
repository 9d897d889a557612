"""The month of a statement: what it bills, open or closed.

A month that was closed bills what was frozen then. What changes of it afterwards (late settles, revisions, rows that
are drained late) is billed by the first month after it that is not closed, as adjustments that name it. So all months
together always bill what the rows of the ledger say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import sub
from typing import NamedTuple

from budgetguard.core.amounts import shown
from budgetguard.core.periods import Period, Window, window_at, zone_of
from budgetguard.errors import ConfigError
from budgetguard.ledger import closing_schema as schema
from budgetguard.ledger.sums import AMOUNTS, Dialect, Sum, sums
from budgetguard.ledger.totals import Ask

_MONTH = re.compile(r"(19[7-9][0-9]|[2-9][0-9]{3})-(0[1-9]|1[0-2])")
_LAST = "9999-01"  # Python's dates end soon after


class _Stretch(NamedTuple):
    namespace: str
    since_ms: int
    until_ms: int


class Closing(NamedTuple):
    """A month that is closed: `month` as "2026-11", in the time zone in which it was closed.

    `facts` is a JSON text of what the statement told besides amounts.
    """

    month: str
    zone: str
    since_ms: int
    until_ms: int
    closed_ms: int
    facts: str


class Line(NamedTuple):
    """The sums of one group (team, agent, model, provider); of another month than the statement's: an adjustment."""

    of_month: str
    sum: Sum


@dataclass(frozen=True)
class Billing:
    """What a month bills: its own lines, then the adjustments of earlier months; `closing` where it is frozen.

    `standing` are all months that are closed.
    """

    month: str
    zone: str
    since_ms: int
    until_ms: int
    closing: Closing | None
    lines: tuple[Line, ...]
    standing: Mapping[str, Closing]


def window_of(month: str, zone: str) -> Window:
    """The window of a month such as "2026-11" in a time zone.

    Raises:
        ConfigError: it is no month.
    """
    if not _MONTH.fullmatch(month) or month > _LAST:
        raise ConfigError("--month", [f"expected a month such as 2026-11, not {shown(month)}"])
    middle = datetime(int(month[:4]), int(month[5:]), 15, tzinfo=UTC)
    return window_at(Period("calendar", name="month", zone=zone), round(middle.timestamp() * 1000))


def billing(ask: Ask, dialect: Dialect, namespace: str, month: str, zone: str) -> Billing:
    """What a month bills, as the ledger stands. `zone` is of months that are not closed.

    A month begins where the one before it ends, also where that was closed in another time zone.

    Raises:
        ConfigError: it is no month.
    """
    window = window_of(month, zone)
    standing = {closing.month: closing for closing in _closings(ask, namespace)}
    closing = standing.get(month)
    if closing is not None:
        lines = [Line(of_month, one) for _, of_month, one in _frozen(ask, namespace, "month", month)]
        lines.sort(key=lambda line: (line.of_month != month, line.of_month, line.sum.group))
        return Billing(month, closing.zone, closing.since_ms, closing.until_ms, closing, tuple(lines), standing)
    before, after = standing.get(_moved(month, -1)), standing.get(_moved(month, 1))
    since_ms = window.start_ms if before is None else before.until_ms
    until_ms = window.end_ms if after is None else after.since_ms
    found = [Line(month, one) for one in sums(ask, dialect, _Stretch(namespace, since_ms, until_ms), schema.GROUP, {})]
    for earlier in standing.values():
        if adjusted_in(earlier.month, standing) == month:
            found += _adjustments(ask, dialect, namespace, earlier)
    return Billing(month, zone, since_ms, until_ms, None, tuple(found), standing)


def close(
    ask: Ask, dialect: Dialect, namespace: str, month: str, zone: str, now_ms: int, facts: Callable[[Billing], str]
) -> tuple[Billing, bool]:
    """Freeze a month, in the caller's transaction; or find it frozen. And whether it was closed by this call.

    Raises:
        ConfigError: it is no month, or it has not ended at `now_ms`; names when it does.
    """
    found = billing(ask, dialect, namespace, month, zone)
    if found.closing is not None:
        return found, False
    if now_ms < found.until_ms:
        ends = instant_text(found.until_ms, zone)
        raise ConfigError("--close", [f"{month} has not ended: its statement can be closed from {ends} on"])
    closing = Closing(month, zone, found.since_ms, found.until_ms, now_ms, facts(found))
    _write(ask, schema.WRITE_CLOSING, namespace, *closing)
    for of_month, one in found.lines:
        _write(ask, schema.WRITE_LINE, namespace, month, of_month, *one.group, *amounts_of(one))
    return billing(ask, dialect, namespace, month, zone), True


def rows_of(ask: Ask, dialect: Dialect, namespace: str, closing: Closing) -> list[Sum]:
    """What the rows of a closed month say now, those that were pruned since then among them."""
    found: dict[tuple[str, ...], Sum] = {}
    stretch = _Stretch(namespace, closing.since_ms, closing.until_ms)
    kept = [one for month, _, one in _frozen(ask, namespace, "of_month", closing.month) if month == schema.FORGOTTEN]
    for one in (*sums(ask, dialect, stretch, schema.GROUP, {}), *kept):
        found.setdefault(one.group, Sum(one.group)).add(one)
    return [found[group] for group in sorted(found)]


def instant_text(instant_ms: int, zone: str) -> str:
    """An instant in a time zone, to the second, with its offset."""
    return datetime.fromtimestamp(instant_ms / 1000, zone_of(zone)).isoformat(timespec="seconds")


def amounts_of(one: Sum) -> tuple[int, ...]:
    """In the order of `AMOUNTS`."""
    return tuple(getattr(one, name) for name in AMOUNTS)


def _adjustments(ask: Ask, dialect: Dialect, namespace: str, closing: Closing) -> list[Line]:
    """What the rows of a closed month say more (or less) than the statements that are frozen."""
    found = {one.group: one for one in rows_of(ask, dialect, namespace, closing)}
    for month, _, one in _frozen(ask, namespace, "of_month", closing.month):
        if month != schema.FORGOTTEN:
            billed = found.setdefault(one.group, Sum(one.group))
            found[one.group] = Sum(one.group, *map(sub, amounts_of(billed), amounts_of(one)))
    return [Line(closing.month, found[group]) for group in sorted(found) if any(amounts_of(found[group]))]


def adjusted_in(month: str, standing: Mapping[str, Closing]) -> str:
    """The first month after it that is not closed."""
    while month in standing:
        month = _moved(month, 1)
    return month


def _moved(month: str, by: int) -> str:
    number = int(month[:4]) * 12 + int(month[5:]) - 1 + by
    return f"{number // 12:04d}-{number % 12 + 1:02d}"


def _closings(ask: Ask, namespace: str) -> list[Closing]:
    return [
        Closing(str(month), str(zone), int(since_ms), int(until_ms), int(closed_ms), str(facts))
        for month, zone, since_ms, until_ms, closed_ms, facts in ask(schema.READ_CLOSINGS, [namespace])
    ]


def _frozen(ask: Ask, namespace: str, column: str, month: str) -> Iterable[tuple[str, str, Sum]]:
    """The lines that stand: the month that billed each, the month that it is of, and its sums."""
    for billed_in, of_month, *rest in ask(f"{schema.READ_LINES} AND {column} = ?", [namespace, month]):
        group, amounts = rest[: len(schema.GROUP)], rest[len(schema.GROUP) :]
        yield str(billed_in), str(of_month), Sum(tuple(map(str, group)), *map(int, amounts))


def _write(ask: Ask, statement: str, *values: object) -> None:
    ask(statement, values)
