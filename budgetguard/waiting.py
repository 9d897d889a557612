"""Delay: who waits for which account, in which order, and when each may ask again.

Waiters stand in one line by arrival. One may ask the store only if no earlier waiter is blocked on an account that
it counts against too: so a large call is not overtaken by those that would take its room, and others pass freely.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Iterable
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from budgetguard.errors import BudgetExceeded

POLL_S = 0.2


class Waiter:
    """One call in the line: the accounts (identities) it counts against, and those that block it."""

    def __init__(self, number: int, accounts: Iterable[str]) -> None:
        self.number = number
        self.accounts = frozenset(accounts)
        self.blocked_on: frozenset[str] = frozenset()
        self.refusal: BudgetExceeded | None = None
        self.woken: asyncio.Event | None = None

    def wake(self) -> None:
        if self.woken is not None:
            self.woken.set()


class Line:
    """The waiters of one process, as pure data; `wait` is the only part that needs an event loop."""

    def __init__(self) -> None:
        self._numbers = count()
        self._blocked: dict[str, list[tuple[int, Waiter]]] = {}

    def join(self, accounts: Iterable[str]) -> Waiter:
        """A new waiter behind all others; it blocks nobody until `block` says on what it waits."""
        return Waiter(next(self._numbers), accounts)

    @property
    def busy(self) -> bool:
        """Whether anybody may be waiting."""
        return bool(self._blocked)

    def refusals_ahead_of(self, waiter: Waiter) -> list[BudgetExceeded]:
        """What the first waiters in front of `waiter` were last refused with."""
        firsts = {first for account in self.ahead_of(waiter) if (first := self._first(account))}
        return [first.refusal for first in sorted(firsts, key=lambda w: w.number) if first.refusal]

    def ahead_of(self, waiter: Waiter) -> frozenset[str]:
        """The accounts of `waiter` on which an earlier one is blocked: empty if it may ask."""
        return frozenset(a for a in waiter.accounts if (first := self._first(a)) and first.number < waiter.number)

    def block(self, waiter: Waiter, accounts: Iterable[str]) -> None:
        """`waiter` now waits for these accounts, and for no others."""
        before, waiter.blocked_on = waiter.blocked_on, frozenset(accounts)
        for account in waiter.blocked_on - before:
            heapq.heappush(self._blocked.setdefault(account, []), (waiter.number, waiter))
        self._wake_first(before - waiter.blocked_on)

    def leave(self, waiter: Waiter) -> None:
        """`waiter` has been granted, refused or cancelled; whoever stood behind it is woken."""
        self.block(waiter, ())

    def wake(self, accounts: Iterable[str]) -> None:
        """Something was returned to these accounts: the first waiter of each should ask now."""
        if self._blocked:
            self._wake_first(accounts)

    def wake_all(self) -> None:
        """The limits have changed: everybody should look again."""
        for heap in self._blocked.values():
            for _, waiter in heap:
                waiter.wake()

    async def wait(self, waiter: Waiter, timeout_s: float) -> None:
        """Return when the waiter is woken, or after at most `timeout_s`."""
        if waiter.woken is None:
            waiter.woken = asyncio.Event()
        try:
            async with asyncio.timeout(timeout_s):
                await waiter.woken.wait()
        except TimeoutError:
            return
        finally:
            waiter.woken.clear()

    def _first(self, account: str) -> Waiter | None:
        """The earliest waiter that is blocked on `account`."""
        heap = self._blocked.get(account)
        while heap:
            waiter = heap[0][1]
            if account in waiter.blocked_on:
                return waiter
            heapq.heappop(heap)
        self._blocked.pop(account, None)
        return None

    def _wake_first(self, accounts: Iterable[str]) -> None:
        for account in accounts:
            first = self._first(account)
            if first is not None:
                first.wake()


def poll_s() -> float:
    """How long the head of a line waits before it asks again: 200 ms, with jitter."""
    return POLL_S * random.uniform(0.75, 1.25)
