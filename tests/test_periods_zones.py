"""Windows tile time in every zone, whatever its clocks do."""

from __future__ import annotations

import random
import zoneinfo
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from functools import cache

import pytest

from budgetguard.core.periods import Period, Window, window_at

MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400
FROM_S, TO_S = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (2024, 2028))
NAMES = ("minute", "hour", "day", "week", "month")
ZONES = sorted(zoneinfo.available_timezones() - {"localtime"})


def calendar(name: str, zone: str) -> Period:
    return Period("calendar", name=name, zone=zone)


def local(at_s: float, zone: str) -> datetime:
    return datetime.fromtimestamp(at_s, zoneinfo.ZoneInfo(zone))


def at_ms(text: str) -> int:
    """Milliseconds of an ISO 8601 instant with its offset."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


@cache
def transitions(zone: str) -> tuple[int, ...]:
    """The seconds at which the zone's UTC offset changes in 2024 to 2027."""
    tz, found = zoneinfo.ZoneInfo(zone), []
    before = datetime.fromtimestamp(FROM_S, tz).utcoffset()
    for day_s in range(FROM_S, TO_S, DAY_S):
        low, high = day_s, day_s + DAY_S
        after = datetime.fromtimestamp(high, tz).utcoffset()
        if after == before:
            continue
        while high - low > 1:
            middle = (low + high) // 2
            same = datetime.fromtimestamp(middle, tz).utcoffset() == before
            low, high = (middle, high) if same else (low, middle)
        found.append(high)
        before = after
    return tuple(found)


@cache
def different_clocks() -> dict[str, int]:
    """One zone of each that show the same in these years, and how many do: they are walked once."""
    clocks = {zone: tuple((at, local(at, zone).utcoffset()) for at in (FROM_S, *transitions(zone))) for zone in ZONES}
    counts = Counter(clocks.values())
    return {zone: counts[clock] for clock, zone in {clock: zone for zone, clock in clocks.items()}.items()}


def check_neighbours(period: Period, window: Window) -> Window:
    """`window_at` is one window on all of `[start, end)` and the neighbouring ones touch it; returns the next."""
    inside = (window.start_ms, window.end_ms - 1, (window.start_ms + window.end_ms) // 2)
    assert {window_at(period, at) for at in inside} == {window}, (period, window)
    following = window_at(period, window.end_ms)
    assert window.start_ms < window.end_ms == following.start_ms, (period, window, following)
    assert window_at(period, window.start_ms - 1).end_ms == window.start_ms, (period, window)
    return following


def expected_runs(zone: str, around_s: int) -> tuple[list[Window], list[Window]]:
    """Days and hours in the two days around an instant, found the slow way: by looking at every minute.

    A day is the latest local date that has been seen; an hour is a local hour with its UTC offset.
    """
    tz, latest = zoneinfo.ZoneInfo(zone), date.min
    days: list[Window] = []
    hours: list[Window] = []
    shown: tuple[object, ...] = ()
    for at_s in range(around_s - 28 * HOUR_S, around_s + 28 * HOUR_S, MINUTE_S):
        now = datetime.fromtimestamp(at_s, tz)
        latest = max(latest, now.date())
        if shown == (shown := (latest, now.hour, now.utcoffset())):
            continue
        for runs, label in ((days, str(latest)), (hours, now.isoformat(timespec="hours"))):
            if not runs or runs[-1].label != label:
                runs[-1:] = [runs[-1]._replace(end_ms=at_s * 1000)] if runs else []
                runs.append(Window(label, at_s * 1000, 0))
    return days[1:-1], hours[1:-1]  # the outer ones are cut off


def test_days_and_hours_around_every_transition_are_those_found_by_looking_at_every_minute() -> None:
    counts: Counter[str] = Counter()
    slow: dict[tuple[object, ...], tuple[list[Window], list[Window]]] = {}
    for zone, zones in different_clocks().items():
        for moment in transitions(zone):
            key = (moment, *(local(moment + by, zone).utcoffset() for by in (-28 * HOUR_S, -1, 0, 28 * HOUR_S)))
            if key not in slow:
                slow[key] = expected_runs(zone, moment)
            for name, windows in zip(("day", "hour"), slow[key], strict=True):
                assert windows
                for window in windows:
                    for at in (window.start_ms, window.end_ms - 1):
                        assert window_at(calendar(name, zone), at) == window, (zone, name)
                counts[name] += len(windows) * zones
            counts["transitions"] += zones
    print(f"{len(ZONES)} zones: {dict(counts)}")
    assert counts["transitions"] > 1_000


def test_windows_tile_time_over_four_years_in_every_zone() -> None:
    lengths: Counter[float] = Counter()
    walked: Counter[str] = Counter()
    for zone in different_clocks():
        for name in ("day", "week", "month"):
            period, end_ms = calendar(name, zone), FROM_S * 1000
            while end_ms < TO_S * 1000:
                window = window_at(period, end_ms)
                assert window_at(period, window.end_ms - 1) == window, (zone, window)
                assert window.start_ms == end_ms or end_ms == FROM_S * 1000, (zone, window)
                end_ms = window.end_ms
                walked[name] += 1
                if name == "day":
                    lengths[(window.end_ms - window.start_ms) / 3_600_000] += 1
    print(f"{len(different_clocks())} different clocks: {dict(walked)}; days by hours: {dict(sorted(lengths.items()))}")
    assert {22, 23, 23.5, 24, 24.5, 25, 26} <= set(lengths)
    assert 22 <= min(lengths) <= max(lengths) <= 26


def test_every_kind_of_window_tiles_around_every_transition() -> None:
    checked = 0
    for zone, zones in different_clocks().items():
        for moment in transitions(zone):
            for name in NAMES:
                period = calendar(name, zone)
                window = window_at(period, moment * 1000 - 1)
                for _ in range(3):
                    window = check_neighbours(period, window)
                    checked += zones
    print(f"{checked} windows")
    assert checked > 15_000


def test_every_kind_of_window_tiles_at_random_instants_of_two_centuries() -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    first, last = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (1850, 2050))
    for _ in range(1_500):
        zone, now_ms = rng.choice(ZONES), rng.randrange(first * 1000, last * 1000)
        for name in NAMES:
            period = calendar(name, zone)
            window = window_at(period, now_ms)
            assert window.start_ms <= now_ms < window.end_ms, (seed, zone, name)
            check_neighbours(period, window)


def test_days_whose_midnight_does_not_exist_begin_where_the_gap_ends() -> None:
    missing, twice = [], []
    for zone in ZONES:
        for moment in transitions(zone):
            before, after = (local(at, zone).replace(tzinfo=None) for at in (moment - 1, moment))
            after_midnight = datetime.combine(after.date(), datetime.min.time())
            if before < after_midnight < after:
                missing.append((zone, str(after.date())))
                day = window_at(calendar("day", zone), moment * 1000)
                assert (day.label, day.start_ms) == (str(after.date()), moment * 1000)
            elif after == after_midnight and after.date() == before.date():
                twice.append((zone, str(after.date())))
                day = window_at(calendar("day", zone), moment * 1000)
                first = moment - (before + timedelta(seconds=1) - after).seconds
                assert (day.label, day.start_ms) == (str(after.date()), first * 1000)
    print(f"{len(missing)} midnights that do not exist: {missing}")
    print(f"{len(twice)} midnights that come twice: {twice}")
    assert {("Africa/Cairo", "2024-04-26"), ("America/Asuncion", "2024-10-06"), ("America/Havana", "2025-03-09")} <= {
        *missing
    }
    assert {("America/Havana", "2025-11-02"), ("Atlantic/Azores", "2025-10-26")} <= {*twice}


@pytest.mark.parametrize(
    ("zone", "inside", "window"),
    [
        ("Africa/Cairo", "2026-04-24T09:00+03:00", ("2026-04-24", "2026-04-24T01:00+03:00", "2026-04-25T00:00+03:00")),
        ("Africa/Cairo", "2026-04-23T23:59+02:00", ("2026-04-23", "2026-04-23T00:00+02:00", "2026-04-24T00:00+02:00")),
        (
            "America/Havana",
            "2026-11-01T09:00-05:00",
            ("2026-11-01", "2026-11-01T00:00-04:00", "2026-11-02T00:00-05:00"),
        ),
        (
            "America/Santiago",
            "2026-09-06T09:00-03:00",
            ("2026-09-06", "2026-09-06T01:00-03:00", "2026-09-07T00:00-03:00"),
        ),
        (
            "Antarctica/Troll",
            "2026-03-29T09:00+02:00",
            ("2026-03-29", "2026-03-29T00:00+00:00", "2026-03-30T00:00+02:00"),
        ),
        # The gap began at 23:30: the day's first instant is 00:30.
        (
            "America/Toronto",
            "1919-03-31T09:00-04:00",
            ("1919-03-31", "1919-03-31T00:30-04:00", "1919-04-01T00:00-04:00"),
        ),
        # A whole date skipped: the 29th ends where the 31st begins.
        ("Pacific/Apia", "2011-12-29T09:00-10:00", ("2011-12-29", "2011-12-29T00:00-10:00", "2011-12-30T00:00-10:00")),
        ("Pacific/Apia", "2011-12-31T09:00+14:00", ("2011-12-31", "2011-12-31T00:00+14:00", "2012-01-01T00:00+14:00")),
        # Back at 00:01 to 23:01: the day has begun, and the evening that comes again is part of it.
        (
            "America/St_Johns",
            "2010-11-06T23:30-03:30",
            ("2010-11-07", "2010-11-07T00:00-02:30", "2010-11-08T00:00-03:30"),
        ),
    ],
)
def test_odd_days(zone: str, inside: str, window: tuple[str, str, str]) -> None:
    label, start, end = window
    assert window_at(calendar("day", zone), at_ms(inside)) == Window(label, at_ms(start), at_ms(end))


@pytest.mark.parametrize(
    ("name", "zone", "inside", "window"),
    [
        ("hour", "UTC", "2026-10-25T02:15+00:00", ("2026-10-25T02+00:00", "2026-10-25T02:00Z", "2026-10-25T03:00Z")),
        (
            "hour",
            "Europe/Berlin",
            "2026-10-25T02:15+02:00",
            ("2026-10-25T02+02:00", "2026-10-25T00:00Z", "2026-10-25T01:00Z"),
        ),
        (
            "hour",
            "Europe/Berlin",
            "2026-10-25T02:15+01:00",
            ("2026-10-25T02+01:00", "2026-10-25T01:00Z", "2026-10-25T02:00Z"),
        ),
        (
            "minute",
            "Europe/Berlin",
            "2026-10-25T02:15:30+01:00",
            ("2026-10-25T02:15+01:00", "2026-10-25T01:15Z", "2026-10-25T01:16Z"),
        ),
        (
            "hour",
            "Australia/Lord_Howe",
            "2026-04-05T01:45+11:00",
            ("2026-04-05T01+11:00", "2026-04-04T14:00Z", "2026-04-04T15:00Z"),
        ),
        (
            "hour",
            "Australia/Lord_Howe",
            "2026-04-05T01:45+10:30",
            ("2026-04-05T01+10:30", "2026-04-04T15:00Z", "2026-04-04T15:30Z"),
        ),
        (
            "hour",
            "Australia/Lord_Howe",
            "2026-10-04T02:45+11:00",
            ("2026-10-04T02+11:00", "2026-10-03T15:30Z", "2026-10-03T16:00Z"),
        ),
        (
            "week",
            "Europe/Berlin",
            "2026-11-22T23:59:59+01:00",
            ("2026-W47", "2026-11-16T00:00+01:00", "2026-11-23T00:00+01:00"),
        ),
        ("week", "UTC", "2027-01-02T00:00Z", ("2026-W53", "2026-12-28T00:00Z", "2027-01-04T00:00Z")),
        ("month", "UTC", "2028-02-29T12:00Z", ("2028-02", "2028-02-01T00:00Z", "2028-03-01T00:00Z")),
        (
            "month",
            "Africa/Cairo",
            "2026-04-30T23:00+03:00",
            ("2026-04", "2026-04-01T00:00+02:00", "2026-05-01T00:00+03:00"),
        ),
        ("month", "UTC", "1969-12-31T23:59Z", ("1969-12", "1969-12-01T00:00Z", "1970-01-01T00:00Z")),
    ],
)
def test_labels_and_bounds(name: str, zone: str, inside: str, window: tuple[str, str, str]) -> None:
    label, start, end = window
    assert window_at(calendar(name, zone), at_ms(inside)) == Window(label, at_ms(start), at_ms(end))
