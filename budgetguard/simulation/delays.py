"""Calls that wait, in simulated time: in a guard's own line, asking and giving up when `admission` would.

A guard's call asks again every 200 ms (here without jitter). Most of that is in vain, and left out here: the answer
can only be another once something has happened to its accounts, a window or slot has ended, or its patience has.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from budgetguard.call import Call
from budgetguard.core.balances import HELD_RETRY_MS
from budgetguard.core.model import Violation
from budgetguard.core.verbs import Verdict
from budgetguard.refusal import judged_again
from budgetguard.simulation.bulk import Boundaries
from budgetguard.waiting import POLL_S, Line, Waiter

POLL_MS = int(POLL_S * 1000)


class Ended(NamedTuple):
    """A call was admitted, or refused by these violations, after waiting for these budgets (for none: at once)."""

    call: Call
    admitted: bool
    violations: tuple[Violation, ...]
    waited_ms: int
    budgets: frozenset[str]


class _Bell(asyncio.Event):
    """Where the line wakes a task, here it rings."""

    def __init__(self, ring: Callable[[], None]) -> None:
        super().__init__()
        self._ring = ring

    def set(self) -> None:
        self._ring()


@dataclass(slots=True, eq=False)
class _Waiting:
    """One call in line."""

    call: Call
    waiter: Waiter
    since_ms: int
    look_ms: int = 0
    """When it looks again, unless it is woken before."""
    asked_ms: int = 0
    reset_ms: int | None = None
    """When it asks at the latest, because what it waits for will have been reset."""
    budgets: set[str] = field(default_factory=set)


class Delays:
    """The calls that wait, and when each looks again.

    Args:
        match: finds the budgets and windows of a call at an instant.
        ask: has the store decide; a call that it grants is admitted.
    """

    def __init__(
        self, boundaries: Boundaries, match: Callable[[Call, int], None], ask: Callable[[Call, int], Verdict]
    ) -> None:
        self._boundaries = boundaries
        self._match = match
        self._ask = ask
        self._line = Line()
        self._now_ms = 0
        self._looks: list[tuple[int, int, _Waiting]] = []
        self._asking: dict[int, _Waiting] = {}
        """By number: those who stand behind nobody, and ask again and again."""

    def next_ms(self) -> int | None:
        """When somebody looks next."""
        while self._looks and self._looks[0][0] != self._looks[0][2].look_ms:
            heapq.heappop(self._looks)
        return self._looks[0][0] if self._looks else None

    def arrive(self, call: Call, now_ms: int) -> Ended | None:
        """A call has arrived, and was matched: how it ended, or None if it waits."""
        self._now_ms = now_ms
        line = self._line
        if line.busy and (ahead := line.ahead_of(None, call.asked_accounts)):
            return self._stand_behind(self._joined(call), ahead)
        verdict = self._ask(call, now_ms)
        if verdict.word == "granted":
            self._touch(call)
            return Ended(call, True, (), 0, frozenset())
        return self._refused(self._joined(call), verdict.violations)

    def settled(self, call: Call, now_ms: int) -> None:
        """A call was settled: the first waiter of each of its accounts looks now."""
        self._now_ms = now_ms
        if self._line.busy:
            self._line.wake(call.plan.identities)
            self._touch(call)

    def look(self, now_ms: int) -> Iterator[Ended]:
        """Everybody who should looks again, the first in line first: those who wait no longer."""
        self._now_ms = now_ms
        while self.next_ms() == now_ms:
            _, _, waiting = heapq.heappop(self._looks)
            waiting.look_ms = -1
            ended = self._look(waiting)
            if ended is not None:
                yield ended

    def _look(self, waiting: _Waiting) -> Ended | None:
        call, line, waiter = waiting.call, self._line, waiting.waiter
        self._match(call, self._now_ms)
        accounts = call.asked_accounts
        ahead = line.ahead_of(waiter, accounts)
        if ahead:
            blocked_on = {account: v for account, v in waiter.blocked_on.items() if account in accounts}
            return self._stand_behind(waiting, blocked_on | ahead)
        verdict = self._ask(call, self._now_ms)
        if verdict.word == "granted":
            ended = self._leave(waiting, True, ())
            self._touch(call)
            return ended
        return self._refused(waiting, verdict.violations)

    def _joined(self, call: Call) -> _Waiting:
        waiting = _Waiting(call, self._line.join(), self._now_ms)
        waiting.waiter.woken = _Bell(lambda: self._look_at(waiting, self._now_ms))
        return waiting

    def _stand_behind(self, waiting: _Waiting, on: Mapping[str, Violation]) -> Ended | None:
        """Others wait for these accounts: so does this call, as long as it has patience."""
        budgets = {violation.account.budget for violation in on.values()}
        ends_ms = self._patience_ends_ms(waiting, budgets)
        if ends_ms <= self._now_ms:
            amounts = waiting.call.priced.amounts
            judged = (judged_again(v, getattr(amounts, v.account.unit), self._now_ms) for v in on.values())
            return self._leave(waiting, False, tuple(judged))
        self._line.block(waiting.waiter, on)
        waiting.budgets |= budgets
        self._asking.pop(waiting.waiter.number, None)
        self._look_at(waiting, ends_ms)
        return None

    def _refused(self, waiting: _Waiting, violations: tuple[Violation, ...]) -> Ended | None:
        """The store has refused it: it waits on where it may, and where that can help in time."""
        refusing = {violation.account.budget for violation in violations}
        ends_ms = self._patience_ends_ms(waiting, refusing)
        waits_ms = [violation.retry_ms for violation in violations]
        wait_ms = max((wait for wait in waits_ms if wait is not None), default=0)
        delaying = {budget.name for budget in waiting.call.budgets if budget.on_exceed == "delay"}
        if not refusing <= delaying or None in waits_ms or wait_ms > ends_ms - self._now_ms:
            return self._leave(waiting, False, violations)
        self._line.block(waiting.waiter, {v.account.identity: v for v in violations})
        waiting.budgets |= refusing
        waiting.asked_ms = self._now_ms
        self._asking[waiting.waiter.number] = waiting
        held = any(violation.reason == "held" for violation in violations)
        waiting.reset_ms = None if held else self._now_ms + wait_ms
        # A hold may end at any time, so it gives up only when less than that wait is left.
        gives_up_ms = ends_ms - HELD_RETRY_MS + 1 if held else self._now_ms + wait_ms
        self._ask_after(waiting, min(self._boundaries.next_ms(self._now_ms), gives_up_ms) - 1)
        return None

    def _patience_ends_ms(self, waiting: _Waiting, budgets: set[str]) -> int:
        """When the smallest `max_delay` of these budgets is over."""
        delays_ms = [budget.max_delay_ms for budget in waiting.call.budgets if budget.name in budgets]
        return waiting.since_ms + min(delays_ms, default=0)

    def _ask_after(self, waiting: _Waiting, instant_ms: int) -> None:
        """Let it ask at the first of its polls after an instant: each 200 ms, and when what it waits for is reset."""
        polls = max(0, instant_ms - waiting.asked_ms) // POLL_MS + 1
        poll_ms = waiting.asked_ms + polls * POLL_MS
        self._look_at(waiting, poll_ms if waiting.reset_ms is None else min(poll_ms, waiting.reset_ms))

    def _look_at(self, waiting: _Waiting, look_ms: int) -> None:
        if waiting.look_ms != look_ms:
            waiting.look_ms = look_ms
            heapq.heappush(self._looks, (look_ms, waiting.waiter.number, waiting))

    def _touch(self, call: Call) -> None:
        """Something has changed on the accounts of a call: whoever asks for one of them asks at the next poll."""
        if self._asking:
            changed = set(call.plan.identities)
            for waiting in self._asking.values():
                if waiting.look_ms > self._now_ms and not changed.isdisjoint(waiting.call.asked_accounts):
                    self._ask_after(waiting, self._now_ms)

    def _leave(self, waiting: _Waiting, admitted: bool, violations: Iterable[Violation]) -> Ended:
        waiting.look_ms = -1
        self._asking.pop(waiting.waiter.number, None)
        self._line.leave(waiting.waiter)
        waited_ms = self._now_ms - waiting.since_ms
        return Ended(waiting.call, admitted, tuple(violations), waited_ms, frozenset(waiting.budgets))
