"""The guard's own drain: ledger rows go from the store's outbox into the SQL ledger while it is at work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from budgetguard.errors import BudgetGuardError
from budgetguard.events import Event, LedgerAway, LedgerBack, RowUnreadable

PAUSE_S = 1.0
MOST_PAUSE_S = 60.0
LAST_S = 5.0
"""How long a guard that ends waits for the rows of its last calls."""


class Drain(Protocol):
    """What moves the rows, for the event loop that runs (`budgetguard.ledger.background`)."""

    async def move(self) -> Mapping[str, str]:
        """Move all that stands in the outbox; the causes of what cannot be read, by entry. Errors: `StoreError`."""

    async def aclose(self) -> None:
        """Let go of both."""

    def drop(self) -> None:
        """The same where the event loop runs no more."""


class Draining:
    """Drains on one event loop, again and again, and tells of what holds it up: once, until it goes on."""

    def __init__(self, drain: Drain, notify: Callable[[Event], None]) -> None:
        self._drain = drain
        self._notify = notify
        self._pause_s = PAUSE_S
        self._is_away = False
        self._told: set[str] = set()

    def pause_s(self) -> float:
        """How long to wait for the next turn: longer each time while the ledger is away."""
        return self._pause_s

    async def drain_ledger(self) -> None:
        """One turn. What could not be moved stays in the outbox for the next."""
        try:
            unreadable = await self._drain.move()
        except BudgetGuardError as error:
            if not self._is_away:
                self._notify(LedgerAway(str(error)))
            self._is_away = True
            self._pause_s = min(2 * self._pause_s, MOST_PAUSE_S)
            return
        if self._is_away:
            self._notify(LedgerBack())
        self._is_away, self._pause_s = False, PAUSE_S
        for entry_id in unreadable.keys() - self._told:
            self._notify(RowUnreadable(entry_id, unreadable[entry_id]))
        self._told.update(unreadable)

    async def end(self) -> None:
        """A last turn, unless the ledger is away, and no more."""
        try:
            if not self._is_away:
                async with asyncio.timeout(LAST_S):
                    await self.drain_ledger()
        except TimeoutError:
            return  # what is left waits in the outbox for the next drain
        finally:
            await self._drain.aclose()

    def drop(self) -> None:
        """The event loop runs no more."""
        self._drain.drop()
