"""Delay: who waits for which account, in which order, and when each may ask again.

Waiters stand in one line by arrival. One may ask the store only if no earlier waiter is blocked on an account that
it counts against too: so a large call is not overtaken by those that would take its room, and others pass freely.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import random
from collections.abc import Iterable, Mapping
from itertools import count
from operator import attrgetter

from budgetguard.core.model import Violation

POLL_S = 0.2
_number = attrgetter("number")


class Waiter:
    """One call in the line: the accounts (identities) it asks something of, and by which violations it is blocked."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.blocked_on: Mapping[str, Violation] = {}
        """By account: what it waits for."""
        self.woken: asyncio.Event | None = None

    def wake(self) -> None:
        """Let it look again."""
        if self.woken is not None:
            with contextlib.suppress(RuntimeError):  # its event loop was closed: it looks no more
                self.woken.set()


class Line:
    """The waiters of one event loop, as pure data; `wait` is the only part that needs the loop."""

    def __init__(self) -> None:
        self._numbers = count()
        self._blocked: dict[str, list[Waiter]] = {}
        """By account: those who are blocked on it, the earliest first."""

    def join(self) -> Waiter:
        """A new waiter behind all others; it blocks nobody until `block` says on what it waits."""
        return Waiter(next(self._numbers))

    @property
    def busy(self) -> bool:
        """Whether anybody is waiting."""
        return bool(self._blocked)

    def ahead_of(self, waiter: Waiter | None, accounts: Iterable[str]) -> dict[str, Violation]:
        """Of these accounts, those on which somebody earlier is blocked, and by what: empty if `waiter` may ask.

        None stands for one who has not joined yet: everybody is earlier.
        """
        ahead = {}
        for account in accounts:
            blocked = self._blocked.get(account)
            if blocked and (waiter is None or blocked[0].number < waiter.number):
                ahead[account] = blocked[0].blocked_on[account]
        return ahead

    def block(self, waiter: Waiter, on: Mapping[str, Violation]) -> None:
        """`waiter` now waits for these accounts, and for no others; whoever is first where it left is woken."""
        before, waiter.blocked_on = waiter.blocked_on, on
        for account in on.keys() - before.keys():
            bisect.insort(self._blocked.setdefault(account, []), waiter, key=_number)
        for account in before.keys() - on.keys():
            blocked = self._blocked[account]
            del blocked[bisect.bisect_left(blocked, waiter.number, key=_number)]
            if blocked:
                blocked[0].wake()
            else:
                del self._blocked[account]

    def leave(self, waiter: Waiter) -> None:
        """`waiter` has been granted, refused or cancelled; whoever stood behind it is woken."""
        self.block(waiter, {})

    def wake(self, accounts: Iterable[str]) -> None:
        """Something was returned to these accounts: the first waiter of each should ask now."""
        if self._blocked:
            for account in accounts:
                if blocked := self._blocked.get(account):
                    blocked[0].wake()

    def wake_first(self) -> None:
        """Something was returned, and only the store knows to which accounts: the first waiter of each should ask."""
        self.wake(list(self._blocked))

    def wake_all(self) -> None:
        """The limits have changed: everybody should look again."""
        for blocked in self._blocked.values():
            for waiter in blocked:
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


def poll_s() -> float:
    """How long the head of a line waits before it asks again: 200 ms, with jitter.

    At most 240 ms: what another process returns is to be seen within 250.
    """
    return POLL_S * random.uniform(0.8, 1.2)
