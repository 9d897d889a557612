"""What an event is made of, and that it stays as it happened."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from budgetguard.call_events import Released
from budgetguard.events import Delayed, OutboxFilling, Refused


@pytest.mark.parametrize(
    ("values", "named"),
    [
        (("r-1",), {}),
        (("r-1", {}, 5, 6), {}),
        (("r-1", {}), {"waited": 5}),
        (("r-1", {}, 5), {"waited_ms": 5}),
        ((), {}),
    ],
)
def test_an_event_needs_each_of_its_fields_once(values: tuple[Any, ...], named: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="Delayed is made of reservation_id, subject, waited_ms, each once"):
        Delayed(*values, **named)


def test_an_event_has_its_fields_by_place_or_by_name_and_defaults_for_the_last() -> None:
    assert Delayed("r-1", {}, 5).fields() == Delayed("r-1", waited_ms=5, subject={}).fields()
    event = Refused("r-1", {"team": "a"}, "budget")
    assert (event.violations, event.retry_after_s) == ((), None)
    assert OutboxFilling(8, 10).fields()["advice"] == OutboxFilling.advice


def test_an_event_stays_as_it_happened_and_equals_no_other() -> None:
    event = Released("r-1", {"team": "a"})
    with pytest.raises(AttributeError, match="subject cannot be set"):
        event.subject = {}  # type: ignore[misc]
    assert event != Released("r-1", {"team": "a"})
    assert repr(copy.copy(event)) == "Released(reservation_id='r-1', subject={'team': 'a'}, cause='')"
