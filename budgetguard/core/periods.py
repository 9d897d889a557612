"""Periods and their windows: when an account's window begins and ends, in any time zone.

Calendar windows are runs of local labels ("2026-11-22"), so that they tile time exactly whatever the zone's clocks
do. Rolling periods have no windows: they are kept in `SLOTS` slots, of which `SLOTS + 1` count at any time.
Instants are milliseconds since 1970-01-01 UTC.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo
from difflib import get_close_matches
from functools import cache, lru_cache
from typing import Literal, NamedTuple, get_args

from budgetguard.core.amounts import shown
from budgetguard.errors import InvalidLimit

PeriodKind = Literal["calendar", "rolling", "total", "concurrent"]
CALENDAR_NAMES = ("minute", "hour", "day", "week", "month")
SLOTS = 60
SPAN_UNITS_MS = {"minute": 60_000, "hour": 3_600_000, "day": 86_400_000, "week": 604_800_000}
"""What a rolling period may be counted in, ascending; a month has no fixed length."""
MAX_SPAN_MS = 3_660 * SPAN_UNITS_MS["day"]
"""Ten years: keeps every end of a rolling period a date that can be shown and a TTL that Redis takes."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Period:
    """The rule by which windows follow each other; `str()` is its canonical text, part of an account's identity.

    `name` (minute, hour, day, week or month) and `zone` (IANA) are for calendar periods, `span_ms` for rolling ones.

    Raises:
        InvalidLimit: the parts do not make a period, or this machine does not know the zone.
    """

    kind: PeriodKind
    name: str = ""
    span_ms: int = 0
    zone: str = "UTC"
    _text: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_text", _checked_text(self))

    def __str__(self) -> str:
        return self._text

    def __hash__(self) -> int:
        return hash(self._text)

    @property
    def label(self) -> str:
        """For people: "day", "rolling 10 minutes", "total"; "" for concurrent, which has no period to name."""
        if self.kind == "rolling":
            return f"rolling {_span_label(self.span_ms)}"
        return {"calendar": self.name, "total": "total", "concurrent": ""}[self.kind]

    @property
    def slot_ms(self) -> int:
        """The length of one slot of a rolling period; 0 for others."""
        return self.span_ms // SLOTS


class Window(NamedTuple):
    """One concrete `[start_ms, end_ms)` of a calendar period, keyed by its local label."""

    label: str
    start_ms: int
    end_ms: int


@lru_cache(maxsize=4096)
def parse_period_text(text: str) -> Period:
    """The period whose `str()` is `text`: "day@Europe/Berlin", "rolling 600000ms", "total", "concurrent".

    Raises:
        InvalidLimit: `text` is not the canonical text of a period.
    """
    name, at, zone = text.partition("@")
    digits = text.removeprefix("rolling ").removesuffix("ms")
    if at:
        period = Period("calendar", name=name, zone=zone)
    elif text == f"rolling {digits}ms" and digits.isascii() and digits.isdecimal() and len(digits) <= 16:
        period = Period("rolling", span_ms=int(digits))
    elif text == "total":
        period = Period("total")
    elif text == "concurrent":
        period = Period("concurrent")
    else:
        raise InvalidLimit(f"period: {shown(text)} is not the text of a period")
    if str(period) != text:
        raise InvalidLimit(f"period: {shown(text)} is not the canonical text of a period; that is {shown(str(period))}")
    return period


def window_at(period: Period, now_ms: int) -> Window:
    """The window of a calendar period that contains `now_ms`.

    Days begin at the first instant at or after their local 00:00 and end where the next one begins; weeks begin on
    Mondays (ISO 8601). Minutes and hours are keyed with their UTC offset: the hour that autumn repeats is a window of
    its own, and one that a change of offset cuts is shorter.

    Raises:
        ValueError: `period` is not a calendar period.
    """
    if period.kind != "calendar":
        raise ValueError(f"a {period.kind} period has no windows")
    zone = zone_of(period.zone)
    if period.name in ("minute", "hour"):
        return _clock_window(period.name, zone, now_ms)
    now_s = now_ms // 1000
    day = _local(zone, now_s).date()
    # Where clocks go back over midnight, the evening comes twice: the second one belongs to the day already begun.
    while _day_start_s(zone, day + _DAY) <= now_s:
        day += _DAY
    label, first, following = _date_run(period.name, day)
    return Window(label, _day_start_s(zone, first) * 1000, _day_start_s(zone, following) * 1000)


def rolling_slot(period: Period, now_ms: int) -> int:
    """The slot of a rolling period in which `now_ms` lies; slot s is `[s * slot_ms, (s + 1) * slot_ms)`."""
    return now_ms // _rolling(period).slot_ms


def first_live_slot(period: Period, now_ms: int) -> int:
    """The oldest slot that counts at `now_ms`: a slot counts until its end has left the period."""
    return (now_ms - period.span_ms) // _rolling(period).slot_ms


def _checked_text(period: Period) -> str:
    """The canonical text of a period whose parts fit together."""
    kind, name, span_ms, zone = period.kind, period.name, period.span_ms, period.zone
    if kind not in get_args(PeriodKind):
        raise InvalidLimit(f"period: kind must be calendar, rolling, total or concurrent, not {shown(kind)}")
    if kind != "calendar" and (name or zone != "UTC"):
        raise InvalidLimit(f"period: a {kind} period has neither name nor zone")
    if kind != "rolling" and span_ms:
        raise InvalidLimit(f"period: a {kind} period has no span")
    if kind == "calendar":
        if name not in CALENDAR_NAMES:
            raise InvalidLimit(f"period: must be one of {', '.join(CALENDAR_NAMES)}, not {shown(name)}")
        if type(zone) is not str:
            raise InvalidLimit(f"timezone: must be text such as Europe/Berlin, not {type(zone).__name__}")
        zone_of(zone)
        return f"{name}@{zone}"
    if kind == "rolling":
        if type(span_ms) is not int or not SLOTS <= span_ms <= MAX_SPAN_MS or span_ms % SLOTS:
            limits = f"a multiple of {SLOTS} ms, at most {MAX_SPAN_MS} ms (ten years)"
            raise InvalidLimit(f"period: a rolling span must be {limits}, not {shown(span_ms)}")
        return f"rolling {span_ms}ms"
    return kind


def _rolling(period: Period) -> Period:
    if period.kind != "rolling":
        raise ValueError(f"a {period.kind} period has no slots")
    return period


def _span_label(span_ms: int) -> str:
    for name, unit_ms in reversed(SPAN_UNITS_MS.items()):
        count, rest = divmod(span_ms, unit_ms)
        if not rest:
            return name if count == 1 else f"{count} {name}s"
    return f"{span_ms} ms"


@cache
def zone_of(name: str) -> tzinfo:
    """The time zone of this name (IANA). "localtime" is none: it would differ from machine to machine.

    Raises:
        InvalidLimit: this machine does not know the zone.
    """
    if name == "UTC":
        return UTC
    import zoneinfo  # takes milliseconds, which UTC does not need

    known = zoneinfo.available_timezones() - {"localtime"}
    if name in known:
        return zoneinfo.ZoneInfo(name)
    if not known:
        raise InvalidLimit(f"timezone: {shown(name)} needs a time zone database: install the `tzdata` package")
    lowered = {zone.lower(): zone for zone in known}
    near = get_close_matches(name.lower()[:80], lowered, n=1)
    hint = f"did you mean {lowered[near[0]]}?" if near else "use an IANA name such as Europe/Berlin"
    raise InvalidLimit(f"timezone: {shown(name)} is not known; {hint}")


def _local(zone: tzinfo, at_s: int) -> datetime:
    return (_EPOCH + timedelta(seconds=at_s)).astimezone(zone)


def _day_start_s(zone: tzinfo, day: date) -> int:
    """The first instant at or after local 00:00 of `day`: of two midnights the first, of none the end of the gap."""
    midnight = datetime.combine(day, datetime.min.time())
    start_s = _instant_s(midnight.replace(tzinfo=zone))
    if _local(zone, start_s).replace(tzinfo=None) == midnight:
        return start_s
    before_s = _instant_s(midnight.replace(tzinfo=zone, fold=1))
    return _first_s(before_s, start_s, lambda at_s: _local(zone, at_s).replace(tzinfo=None) >= midnight)


def _date_run(name: str, day: date) -> tuple[str, date, date]:
    """The day, ISO week or month that `day` lies in: label, first day, first day of the next."""
    if name == "day":
        return day.isoformat(), day, day + _DAY
    if name == "week":
        year, week, weekday = day.isocalendar()
        monday = day - (weekday - 1) * _DAY
        return f"{year:04d}-W{week:02d}", monday, monday + 7 * _DAY
    first = day.replace(day=1)
    return day.isoformat()[:7], first, (first + 31 * _DAY).replace(day=1)


def _clock_window(name: str, zone: tzinfo, now_ms: int) -> Window:
    """The run of instants around `now_ms` with the same local minute or hour and the same UTC offset."""
    now_s, length_s = now_ms // 1000, SPAN_UNITS_MS[name] // 1000
    local = _local(zone, now_s)
    offset = local.utcoffset()
    into_s = local.second + (local.minute * 60 if name == "hour" else 0)
    start_s, end_s = now_s - into_s, now_s - into_s + length_s
    if _local(zone, start_s).utcoffset() != offset:
        start_s = _first_s(start_s, now_s, lambda at_s: _local(zone, at_s).utcoffset() == offset)
    if _local(zone, end_s - 1).utcoffset() != offset:
        end_s = _first_s(now_s, end_s - 1, lambda at_s: _local(zone, at_s).utcoffset() != offset)
    return Window(local.isoformat(timespec=f"{name}s"), start_s * 1000, end_s * 1000)


def _instant_s(local: datetime) -> int:
    return (local - _EPOCH) // _SECOND


def _first_s(low_s: int, high_s: int, holds: Callable[[int], bool]) -> int:
    """The first instant in `(low_s, high_s]` from which `holds`, which it does at `high_s` and not at `low_s`."""
    while high_s - low_s > 1:
        middle_s = (low_s + high_s) // 2
        if holds(middle_s):
            high_s = middle_s
        else:
            low_s = middle_s
    return high_s
