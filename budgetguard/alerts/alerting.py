"""The alerts of one event loop: what was found is told by the first in the fleet, and sent to where it is to go."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from budgetguard.alerts.looking import Looks
from budgetguard.alerts.posting import Webhook
from budgetguard.alerts.raised import AlertRaised, AlertsFailed, AlertsUndelivered, OnAlert
from budgetguard.alerts.sending import Ending, Line
from budgetguard.alerts.settings import AlertRoute
from budgetguard.alerts.shapes import Message
from budgetguard.alerts.watching import Found, Watcher
from budgetguard.errors import BudgetGuardError
from budgetguard.events import Event, StoreProblem

if TYPE_CHECKING:
    from budgetguard.policy import Policy
    from budgetguard.store import Store

MINUTE_MS = 60_000
FAILURES_TOLD = 2
"""In succession: one may be that a database is restarted."""
LAST_S = 5.0
"""How long a guard that ends waits for the alerts that are being sent."""


class Alerting:
    """Tells and sends on one event loop.

    Args:
        policy: tells the one in force.
        ledger_url: of the ledger that can be read; None for none.
        on_alert: what is called with each alert.
        now_ms: the store's time.
    """

    def __init__(
        self,
        policy: Callable[[], Policy],
        store: Store,
        ledger_url: str | None,
        watcher: Watcher,
        on_alert: Sequence[OnAlert],
        notify: Callable[[Event], None],
        now_ms: Callable[[], int],
    ) -> None:
        self._policy, self._store, self._watcher, self._notify, self._now_ms = policy, store, watcher, notify, now_ms
        self._looks = Looks(policy, store, ledger_url)
        self._ending = Ending()
        self._callables = [Line(one, notify, self._ending) for one in on_alert]
        self._lines: dict[tuple[str, ...], Line] = {}
        self._looking: asyncio.Task[None] | None = None
        self._late_s = (0.5, 2.0)
        self._failures = 0

    async def tell_alerts(self) -> None:
        """Tell what was found, where this is the first of the fleet to do so, and send what was told.

        Errors: those of `Store.first_to_tell`; it is told the next time.
        """
        try:
            while found := self._watcher.take_found():
                await self._tell(found)
        finally:
            self._send()

    async def _tell(self, found: Sequence[Found]) -> None:
        try:
            first = await self._store.first_to_tell([(one.key, one.ttl_ms) for one in found])
        except BaseException:
            self._watcher.put_back(found)
            raise
        for one, is_first in zip(found, first, strict=True):
            if is_first:
                self._notify(one.alert)

    def pause_s(self) -> float:
        """Until shortly after the next full minute: whoever had the last one asks before the others."""
        return (MINUTE_MS - self._now_ms() % MINUTE_MS) / 1000 + random.uniform(*self._late_s)

    async def look_at_store(self) -> None:
        """Look at what stands in store and ledger, where this is the first of the fleet to do so in this minute."""
        self._watcher.find_shares()
        if self._policy().mode == "off" or (self._looking is not None and not self._looking.done()):
            return
        minute = self._now_ms() // MINUTE_MS
        (first,) = await self._store.first_to_tell([(f"alerts look {minute}", 5 * MINUTE_MS)])
        self._late_s = (0.01, 0.05) if first else (5.0, 40.0)
        if first:
            self._looking = asyncio.get_running_loop().create_task(self._look())

    async def _look(self) -> None:
        try:
            self._watcher.add(await self._looks.look_at_store(self._now_ms()))
            self._watcher.add(await self._looks.look_at_ledger(self._now_ms()))
        except Exception as error:  # noqa: BLE001 - no call may fail because of an alert
            self._failures += 1
            if self._failures == FAILURES_TOLD:
                self._notify(AlertsFailed(str(error) if isinstance(error, BudgetGuardError) else repr(error)))
        else:
            self._failures = 0

    async def end(self) -> None:
        """Tell what was found last, and give what is being sent a bounded time."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
        self._watcher.find_shares()
        try:
            async with asyncio.timeout(LAST_S):
                await self.tell_alerts()
        except (BudgetGuardError, TimeoutError) as error:
            self._notify(StoreProblem("first_to_tell", str(error) or "it did not answer in time"))
            self._tell_all()  # rather twice than never
            self._send()
        self._ending.begin(LAST_S)
        await asyncio.gather(*(line.ended(LAST_S) for line in self._all_lines()))

    def drop(self) -> None:
        """The event loop runs no more: tell what was found, and how much was not sent."""
        self._tell_all()
        raised, lost = self._watcher.take_raised()
        if self._callables or self._policy().alerts.routes:
            lost += len(raised)
        if lost:
            self._notify(AlertsUndelivered("all", lost, "the event loop was closed before they were sent"))
        for line in self._all_lines():
            line.drop()

    def _tell_all(self) -> None:
        while found := self._watcher.take_found():
            for one in found:
                self._notify(one.alert)

    def _all_lines(self) -> list[Line]:
        return [*self._callables, *self._lines.values()]

    def _send(self) -> None:
        raised, lost = self._watcher.take_raised()
        if lost:
            self._notify(AlertsUndelivered("all", lost, "more alerts came than could be sent"))
        for alert in raised:
            policy = self._policy()
            message = Message(os.urandom(16).hex(), alert, policy.store.namespace, self._now_ms())
            routed = [self._line(route) for route in policy.alerts.routes if is_routed(alert, route)]
            for line in dict.fromkeys((*self._callables, *routed)):
                line.put(message)

    def _line(self, route: AlertRoute) -> Line:
        key = (route.url, route.kind, route.secret or "")
        if key not in self._lines:
            self._lines[key] = Line(Webhook(route), self._notify, self._ending)
        return self._lines[key]


def is_routed(alert: AlertRaised, route: AlertRoute) -> bool:
    """Whether the alert goes to the route."""
    labels: Mapping[str, str] = alert.subject
    return (not route.causes or alert.cause in route.causes) and all(
        name in labels and fnmatchcase(labels[name], glob) for name, glob in route.where.items()
    )
