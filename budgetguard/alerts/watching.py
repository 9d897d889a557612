"""What single calls tell: an observer that finds what to raise, and keeps what was raised until it is sent.

It looks at an event and returns; that somebody is the first in the fleet to tell it is asked later (`alerting`).
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

from budgetguard.alerts.raised import NOTHING, AlertRaised
from budgetguard.alerts.shares import Shares
from budgetguard.alerts.texts import labels_text, of_threshold, plain
from budgetguard.call_events import Admitted, Released
from budgetguard.core.periods import SPAN_UNITS_MS
from budgetguard.events import (
    AlertReached,
    Event,
    Exhausted,
    Expired,
    LedgerAway,
    OutboxFilling,
    Refused,
    Settled,
)

if TYPE_CHECKING:
    from budgetguard.policy import Policy

HOUR_MS, DAY_MS = SPAN_UNITS_MS["hour"], SPAN_UNITS_MS["day"]
MOST_KEPT = 1_000
"""Alerts that wait to be told, or to be sent; beyond them they are counted only."""
MOST_REMEMBERED = 4_096
MOST_ASKED = 200
_SHOWN_LABELS = ("team", "agent", "model")


class Found(NamedTuple):
    """An alert to be raised by the first in the fleet who finds it, within `ttl_ms`."""

    key: str
    ttl_ms: int
    alert: AlertRaised


def found(parts: Sequence[Any], ttl_ms: int, alert: AlertRaised) -> Found:
    """The alert of a cause and window, which `parts` name."""
    return Found(json.dumps(["alert", alert.cause, *parts]), ttl_ms, alert)


class Watcher:
    """Watches the calls of one guard, from any thread.

    Args:
        policy: tells the one in force.
        now_s: a clock that only runs on.
    """

    def __init__(self, policy: Callable[[], Policy], now_s: Callable[[], float] = time.monotonic) -> None:
        self._policy = policy
        self._now_s = now_s
        self._lock = Lock()
        self._found: list[Found] = []
        self._raised: deque[AlertRaised] = deque()
        self._lost = 0
        self._known: dict[str, float] = {}
        self.shares = Shares(now_s)
        self._takes: Mapping[type[Event], Callable[[Any], None]] = {
            Admitted: self._admitted,
            AlertRaised: self._keep,
            AlertReached: self._threshold,
            Exhausted: self._threshold,
            Expired: self._expired,
            LedgerAway: self._ledger_away,
            OutboxFilling: self._outbox_filling,
            Refused: self._refused,
            Released: self._released,
            Settled: self._settled,
        }

    def on_event(self, event: Event) -> None:
        if (take := self._takes.get(type(event))) is not None:
            take(event)

    def add(self, alerts: Iterable[Found]) -> None:
        """Raise these, if nobody has; one that was found here within its time is passed over."""
        now_s = self._now_s()
        with self._lock:
            if len(self._known) >= MOST_REMEMBERED:
                self._known.clear()
            for one in alerts:
                if self._known.get(one.key, 0.0) <= now_s and len(self._found) < MOST_KEPT:
                    self._known[one.key] = now_s + one.ttl_ms / 1000
                    self._found.append(one)

    def put_back(self, alerts: Sequence[Found]) -> None:
        """The fleet could not be asked about these: they are taken again."""
        with self._lock:
            self._found[:0] = alerts

    def take_found(self) -> list[Found]:
        """What was found since, as much as may be asked about at once."""
        if not self._found:
            return []
        with self._lock:
            taken, self._found = self._found[:MOST_ASKED], self._found[MOST_ASKED:]
        return taken

    def take_raised(self) -> tuple[list[AlertRaised], int]:
        """What was raised since and is to be sent, and how many more there were."""
        if not self._raised:
            return [], 0
        with self._lock:
            taken, lost = list(self._raised), self._lost
            self._raised.clear()
            self._lost = 0
        return taken, lost

    def _keep(self, alert: AlertRaised) -> None:
        with self._lock:
            if len(self._raised) < MOST_KEPT:
                self._raised.append(alert)
            else:
                self._lost += 1

    def _threshold(self, event: AlertReached | Exhausted) -> None:
        self._keep(of_threshold(event, self._policy()))

    def _admitted(self, event: Admitted) -> None:
        most = self._policy().alerts.request_tokens
        if most is not False and event.input_tokens > most:
            self._large(event.subject, f"asks with an estimated {event.input_tokens:,} input tokens", most, {
                "reservation_id": event.reservation_id, "estimated_input_tokens": event.input_tokens,
            })  # fmt: skip

    def _settled(self, event: Settled) -> None:
        subject, status = event.subject, event.status
        self.shares.count(subject.get("provider", ""), subject.get("model", ""), status == "error", status == "assumed")
        tokens, most = event.input_tokens + event.output_tokens, self._policy().alerts.request_tokens
        if most is not False and tokens > most:
            self._large(subject, f"took {tokens:,} tokens", most, {
                "reservation_id": event.reservation_id, "input_tokens": event.input_tokens,
                "output_tokens": event.output_tokens,
            })  # fmt: skip
        if event.cost_nanousd is None:
            self._unpriced(subject)

    def _released(self, event: Released) -> None:
        self.shares.count(event.subject.get("provider", ""), event.subject.get("model", ""), True, False)

    def _expired(self, _: Expired) -> None:
        self.shares.count("", "", False, self._policy().guard.on_expiry == "charge")

    def _refused(self, event: Refused) -> None:
        if event.cause == "PriceUnknown":
            self._unpriced(event.subject)

    def _large(self, subject: Mapping[str, str], what: str, most: int, figures: Mapping[str, Any]) -> None:
        """Once an hour for each team, agent and model."""
        names = {name: subject[name] for name in _SHOWN_LABELS if name in subject}
        text = f"a single request{labels_text(names)} {what}: more than {most:,}"
        self.add([
            found(sorted(names.items()), HOUR_MS, AlertRaised("large_request", text, subject, figures=figures))
        ])  # fmt: skip

    def _unpriced(self, subject: Mapping[str, str]) -> None:
        """Once a day for each model."""
        model = subject.get("model")
        if model is not None and self._policy().alerts.unknown_price:
            text = f"nobody knows the price of {plain(model)}: say it in a [[price]] of the policy"
            self.add([found([model], DAY_MS, AlertRaised("unknown_price", text, subject))])

    def _outbox_filling(self, event: OutboxFilling) -> None:
        self._outbox(f"{event.rows:,} of at most {event.most:,} ledger rows wait: {event.advice}", {
            "rows": event.rows, "most": event.most,
        })  # fmt: skip

    def _ledger_away(self, event: LedgerAway) -> None:
        self._outbox(f"the ledger cannot be drained, and rows wait in the outbox: {plain(event.error)}", NOTHING)

    def _outbox(self, text: str, figures: Mapping[str, Any]) -> None:
        """Once an hour."""
        if self._policy().alerts.outbox_rows is not False:
            self.add([found([], HOUR_MS, AlertRaised("outbox", text, figures=figures))])

    def find_shares(self) -> None:
        """Raise the shares of failed and assumed calls that are above their thresholds, once an hour each."""
        self.add(
            found([alert.subject.get("provider"), alert.subject.get("model")], HOUR_MS, alert)
            for alert in self.shares.over(self._policy().alerts)
        )
