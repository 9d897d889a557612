"""What alerts tell observers: that one was raised, and that one could not be delivered or found."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from budgetguard.events import Event, Level

NOTHING: Mapping[str, Any] = MappingProxyType({})


class AlertRaised(Event):
    """Somebody should look at this. Told once for its cause and window in the fleet.

    Thresholds and the first refusal of a window are told to observers as `AlertReached` and `Exhausted`, and only to
    webhooks and callables as this.

    Args:
        cause: one of `budgetguard.alerts.causes.CAUSES`, or "test".
        text: one line for people, with nothing in it that does not print.
        subject: the labels that it is about, as far as it is about some.
        budget: the budget that it is about; "" for none.
        figures: what was found, by flat names with their unit last.
    """

    name: ClassVar[str] = "budget.alert_raised"
    level: ClassVar[Level] = "warning"
    cause: str
    text: str
    subject: Mapping[str, str] = NOTHING
    budget: str = ""
    figures: Mapping[str, Any] = NOTHING


OnAlert = Callable[[AlertRaised], Awaitable[None] | None]
"""What a user has called with each alert; one that is not async is called in a thread."""


class AlertsUndelivered(Event):
    """Alerts did not reach one of the places that they were to go to. Told once, and how many once that is known."""

    name: ClassVar[str] = "budget.alerts_undelivered"
    level: ClassVar[Level] = "error"
    route: str
    count: int
    error: str


class AlertsFailed(Event):
    """What accounts and ledger say could not be looked at for alerts, twice in succession. Told once, until it can."""

    name: ClassVar[str] = "budget.alerts_failed"
    level: ClassVar[Level] = "error"
    error: str
