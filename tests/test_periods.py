"""What a period is, how it is written, and how long the slots of a rolling one count."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgetguard.core import periods
from budgetguard.core.periods import Period, first_live_slot, parse_period_text, rolling_slot, window_at
from budgetguard.errors import InvalidLimit


@pytest.mark.parametrize(
    ("period", "text", "label"),
    [
        (Period("calendar", name="day"), "day@UTC", "day"),
        (Period("calendar", name="month", zone="Europe/Berlin"), "month@Europe/Berlin", "month"),
        (Period("rolling", span_ms=600_000), "rolling 600000ms", "rolling 10 minutes"),
        (Period("rolling", span_ms=3_600_000), "rolling 3600000ms", "rolling hour"),
        (Period("rolling", span_ms=5_400_000), "rolling 5400000ms", "rolling 90 minutes"),
        (Period("rolling", span_ms=30 * 86_400_000), "rolling 2592000000ms", "rolling 30 days"),
        (Period("rolling", span_ms=6_000), "rolling 6000ms", "rolling 6000 ms"),
        (Period("total"), "total", "total"),
        (Period("concurrent"), "concurrent", ""),
    ],
)
def test_the_text_of_a_period_is_its_identity(period: Period, text: str, label: str) -> None:
    assert str(period) == text
    assert period.label == label
    for same in (parse_period_text(text), pickle.loads(pickle.dumps(period))):  # noqa: S301  # made here
        assert same == period
        assert hash(same) == hash(period)
        assert str(same) == text


@given(st.text(max_size=40) | st.from_regex(r"(day@.*|rolling -?[0-9]*(ms)?|total.?)", fullmatch=True))
def test_a_text_that_is_no_period_is_refused_by_a_typed_error(text: str) -> None:
    try:
        period = parse_period_text(text)
    except InvalidLimit:
        return
    assert str(period) == text


@pytest.mark.parametrize(
    "text", ["rolling 0600000ms", "rolling 600000", "rolling  600000ms", "day", "@UTC", "Total", ""]
)
def test_only_the_canonical_text_is_read(text: str) -> None:
    with pytest.raises(InvalidLimit, match="period"):
        parse_period_text(text)


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ({"kind": "calendar"}, "period: must be one of minute, hour"),
        ({"kind": "calendar", "name": "year"}, "period: must be one of minute, hour"),
        ({"kind": "calendar", "name": "day", "span_ms": 60}, "has no span"),
        ({"kind": "rolling"}, "rolling span must be"),
        ({"kind": "rolling", "span_ms": 61}, "multiple of 60 ms"),
        ({"kind": "rolling", "span_ms": 6e5}, "multiple of 60 ms"),
        ({"kind": "rolling", "span_ms": True}, "multiple of 60 ms"),
        ({"kind": "rolling", "span_ms": 60 * 10**5000}, "too large to show"),
        ({"kind": "rolling", "span_ms": 60_000, "zone": "Europe/Berlin"}, "neither name nor zone"),
        ({"kind": "total", "name": "day"}, "neither name nor zone"),
        ({"kind": "weekly"}, "kind must be"),
        ({"kind": []}, "kind must be"),
        ({"kind": "calendar", "name": "day", "zone": "Europe/Berln"}, "did you mean Europe/Berlin?"),
        ({"kind": "calendar", "name": "day", "zone": "europe/berlin"}, "did you mean Europe/Berlin?"),
        ({"kind": "calendar", "name": "day", "zone": "utc"}, "did you mean UTC?"),
        ({"kind": "calendar", "name": "day", "zone": "localtime"}, "timezone"),  # another one on each machine
        ({"kind": "calendar", "name": "day", "zone": "/etc/localtime"}, "timezone"),
        ({"kind": "calendar", "name": "day", "zone": "UTC\0"}, "timezone"),
        ({"kind": "calendar", "name": "day", "zone": ""}, "timezone"),
        ({"kind": "calendar", "name": "day", "zone": None}, "timezone: must be text"),
    ],
)
def test_parts_that_make_no_period_are_refused(parts: dict[str, object], problem: str) -> None:
    with pytest.raises(InvalidLimit, match=re.escape(problem)):
        Period(**parts)


def test_without_a_time_zone_database_utc_works_and_other_zones_say_what_to_install() -> None:
    code = """if True:
        import sys
        sys.modules["tzdata"] = None
        from budgetguard.core.periods import Period, window_at
        print(window_at(Period("calendar", name="day"), 86_400_000).label)
        try:
            Period("calendar", name="day", zone="Europe/Berlin")
        except ValueError as error:
            print(error)
    """
    root = Path(periods.__file__).parents[2]
    env = {**os.environ, "PYTHONTZPATH": "", "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60, check=True)
    utc, berlin = done.stdout.splitlines()
    assert utc == "1970-01-02"
    assert "install the `tzdata` package" in berlin


def test_only_calendar_periods_have_windows_and_only_rolling_ones_slots() -> None:
    for period in (Period("total"), Period("concurrent"), Period("rolling", span_ms=60_000)):
        with pytest.raises(ValueError, match="has no windows"):
            window_at(period, 0)
    for period in (Period("total"), Period("concurrent"), Period("calendar", name="day")):
        with pytest.raises(ValueError, match="has no slots"):
            rolling_slot(period, 0)
        with pytest.raises(ValueError, match="has no slots"):
            first_live_slot(period, 0)


@given(st.integers(1, 10**6), st.integers(0, 2**44), st.data())
def test_what_was_admitted_counts_for_the_whole_period_and_a_slot_longer_at_most(
    slot_ms: int, admitted_ms: int, data: st.DataObject
) -> None:
    period = Period("rolling", span_ms=slot_ms * periods.SLOTS)
    slot = rolling_slot(period, admitted_ms)
    about_the_end = st.integers(period.span_ms - slot_ms, period.span_ms + 2 * slot_ms)
    later_ms = admitted_ms + data.draw(st.integers(0, 2 * period.span_ms) | about_the_end)
    counts = slot >= first_live_slot(period, later_ms)
    assert counts == ((slot + 1) * slot_ms > later_ms - period.span_ms)
    assert counts or later_ms >= admitted_ms + period.span_ms
    assert not counts or later_ms < admitted_ms + period.span_ms + slot_ms
    assert rolling_slot(period, later_ms) - first_live_slot(period, later_ms) <= periods.SLOTS
