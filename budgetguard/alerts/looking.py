"""A look at what stands in the store and in the ledger: what one worker of the fleet does for all, once a minute."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from budgetguard.alerts.burning import Speeds, burning
from budgetguard.alerts.drifting import Drifts, Limited, windows_of
from budgetguard.alerts.raised import AlertRaised
from budgetguard.alerts.reading import read_forgotten_ms, read_sums
from budgetguard.alerts.spending import Spent, costing, growing, months
from budgetguard.alerts.watching import HOUR_MS, Found, found
from budgetguard.core.periods import Window
from budgetguard.errors import StoreUnusable
from budgetguard.status import limited_accounts

if TYPE_CHECKING:
    from budgetguard.policy import Policy
    from budgetguard.store import Store

LEDGER_EVERY_MS = 300_000
LOOKS_AT_OUTBOX, LOOKS_PAUSE_S = 60, 0.05
"""A drain empties it about once a second, if there are not too many calls."""
PAUSES = 20
"""How many times as long as a look took nothing is looked at afterwards."""


class Looks:
    """Looks again and again, and remembers what it must of the looks before.

    Args:
        policy: tells the one in force.
        ledger_url: of the ledger, a SQLite store's own file among them; None where there is none to be read.
    """

    def __init__(self, policy: Callable[[], Policy], store: Store, ledger_url: str | None) -> None:
        self._policy = policy
        self._store = store
        self._ledger_url = ledger_url
        self._speeds, self._drifts = Speeds(), Drifts()
        self._accounts_from_ms = self._ledger_from_ms = 0
        self._has_read = False

    async def look_at_store(self, now_ms: int) -> list[Found]:
        """What outbox and accounts tell, in the store's time. Errors: those of the store."""
        policy, loop = self._policy(), asyncio.get_running_loop()
        settings, began = policy.alerts, loop.time()
        alerts = [] if settings.outbox_rows is False else await self._outbox(settings.outbox_rows)
        if now_ms >= self._accounts_from_ms and settings.burn_rate is not False:
            limited = await limited_accounts(policy, self._store, {})
            self._speeds.turn([row for row, _ in limited], now_ms)
            alerts += burning(limited, settings.burn_rate, self._speeds, now_ms, policy)
            self._accounts_from_ms = now_ms + int((loop.time() - began) * 1000 * PAUSES)
        return alerts

    async def look_at_ledger(self, now_ms: int) -> list[Found]:
        """What the ledger tells, each five minutes; else nothing. Errors: those of the store and of the ledger."""
        if now_ms < self._ledger_from_ms or self._ledger_url is None:
            return []
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            alerts = await self._of_ledger(self._ledger_url, self._policy(), now_ms)
        except StoreUnusable:
            if self._has_read:
                raise
            return []  # it is made with its first row, and whoever drains tells of what is wrong
        self._ledger_from_ms = now_ms + max(LEDGER_EVERY_MS, int((loop.time() - began) * 1000 * PAUSES))
        return alerts

    async def _of_ledger(self, url: str, policy: Policy, now_ms: int) -> list[Found]:
        settings = policy.alerts
        before = await self._drained(policy) if settings.drift else []
        hour = (now_ms - HOUR_MS, now_ms)
        this, last = months(policy.timezone, now_ms)
        stretches = {hour} if settings.hourly_cost is not False else set()
        stretches |= {_of(this), _of(last)} if settings.task_tokens is not False else set()
        stretches |= windows_of(before)
        sums = await self._read(url, policy, stretches)
        alerts: list[Found] = []
        if settings.hourly_cost is not False:
            alerts += costing(sums[hour], settings.hourly_cost, policy)
        if settings.task_tokens is not False:
            above, least = settings.task_tokens, settings.least_calls
            alerts += growing(sums[_of(this)], sums[_of(last)], above, least, this, now_ms)
        after = await limited_accounts(policy, self._store, {}) if before else []
        drifts = [*self._drifts.find(before, after, sums, policy)] if after else []
        if drifts:
            forgotten_ms = await asyncio.to_thread(read_forgotten_ms, url, policy.store.namespace)
            alerts += [drift for start_ms, drift in drifts if forgotten_ms is None or forgotten_ms < start_ms]
        return alerts

    async def _read(
        self, url: str, policy: Policy, stretches: Iterable[tuple[int, int]]
    ) -> Mapping[tuple[int, int], Sequence[Spent]]:
        sums = await asyncio.to_thread(read_sums, url, policy.store.namespace, sorted(stretches))
        self._has_read = True
        return sums

    async def _drained(self, policy: Policy) -> Limited:
        """The accounts as they stand, if the ledger has all that made them so; else none."""
        limited = await limited_accounts(policy, self._store, {})
        for _ in range(LOOKS_AT_OUTBOX):
            backlog = await self._store.backlog()
            if backlog is None or not backlog.rows:  # afterwards: what was spent before is drained
                return limited
            await asyncio.sleep(LOOKS_PAUSE_S)
        return []

    async def _outbox(self, most: int) -> list[Found]:
        """More rows wait to be drained: once an hour."""
        backlog = await self._store.backlog()
        if backlog is None or backlog.rows <= most:
            return []
        text = f"{backlog.rows:,} ledger rows wait to be drained, more than {most:,}: run `budgetguard ledger drain`"
        figures = {"rows": backlog.rows, "most": backlog.most}
        return [found([], HOUR_MS, AlertRaised("outbox", text, figures=figures))]


def _of(window: Window) -> tuple[int, int]:
    return window.start_ms, window.end_ms
