"""Events as structured log lines."""

from __future__ import annotations

import logging

from budgetguard.events import Event, Observer


class LogObserver:
    """Writes every event to the log."""

    def on_event(self, event: Event) -> None:
        logging.getLogger("budgetguard").log(getattr(logging, event.level.upper()), "%s %s", event.name, event.fields())

    def observer_failed(self, observer: Observer, event: Event, error: Exception) -> None:
        logging.getLogger("budgetguard").error("observer %r failed on %s: %r", observer, event.name, error)
