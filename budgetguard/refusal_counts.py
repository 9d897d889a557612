"""What calls were refused, counted in memory, and flushed to the store each minute and when a guard ends.

It is apart from the decision: nothing of it is on the way of a call, and a flush that fails delays none and fails none.
It is tried again, under the same id, so that what was kept although nobody said so counts once. A process that dies
without a word loses what it has counted since its last flush, a minute's at most while the store can be reached.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from budgetguard.core.amounts import UNITS, Amounts
from budgetguard.errors import BudgetGuardError
from budgetguard.events import Event, Refused, StoreProblem, WouldRefuse
from budgetguard.store import RefusalCount, RefusedBy
from budgetguard.within import OF_A_RUN

FLUSH_S = 60.0
LAST_FLUSH_S = 5.0
MINUTE_MS, HOUR_MS = 60_000, 3_600_000
KEPT = (None, ("team", "agent", "model", "provider"), ("team", "agent"), ("team",), ())
"""Which labels are told apart (None: all): fewer, once there are too many sets of them."""
ROOM = (512, 256, 128, 64, 64)
"""How many different counts each of these may make between two flushes. What is still more is told by its cause."""

_Key = tuple[int, bool, str, tuple[RefusedBy, ...], tuple[tuple[str, str], ...]]
_Flush = tuple[str, Sequence[RefusalCount]]
Note = Callable[[str, Sequence[RefusalCount]], Awaitable[None]]
"""`Store.note_refusals`."""


class RefusalCounts:
    """Counts for one guard, in whatever event loops and threads."""

    counted = frozenset((Refused, WouldRefuse))
    """The events that it takes."""

    def __init__(self) -> None:
        self.now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
        """Tells the store's time, as far as it is known: until somebody says better, the machine's."""
        self._lock = threading.Lock()
        self._counts: dict[_Key, list[int]] = {}
        self._taken = [0] * len(ROOM)
        self._unkept: list[_Flush] = []

    @property
    def waits(self) -> bool:
        """Whether anything waits to be flushed."""
        return bool(self._counts or self._unkept)

    def on_event(self, event: Event) -> None:
        """Count a refusal, or a call that would have been refused."""
        if isinstance(event, Refused):
            asked = {violation.account.unit: violation.requested for violation in event.violations}
            limits = [
                RefusedBy(_name(v.account.budget), v.account.unit, v.account.period.label, v.reason)
                for v in event.violations
            ]
            self._count(False, event.cause, limits, event.subject, [asked.get(unit, 0) for unit in UNITS])
        elif isinstance(event, WouldRefuse):
            limits = [RefusedBy(_name(budget), "", "", "exceeded") for budget in event.budgets]
            cause = "budget" if event.cause == "BudgetExceeded" else event.cause
            if limits and cause != "budget":  # both would have been in its way
                limits.append(RefusedBy("", "", "", cause))
            self._count(True, cause, limits, event.subject, list(event.asked))

    async def flush(self, note: Note) -> None:
        """Have all that was counted kept. What is not stays here, for the next time.

        Errors: those of `Store.note_refusals`.
        """
        while (taken := self._take()) is not None:
            try:
                await note(*taken)
            except BaseException:  # whether it was kept is not known: it keeps its id
                with self._lock:
                    self._unkept.append(taken)
                raise

    def _count(
        self, shadow: bool, cause: str, limits: Sequence[RefusedBy], labels: Mapping[str, str], asked: list[int]
    ) -> None:
        now_ms = self.now_ms()
        refused_by = tuple(dict.fromkeys(limits))
        with self._lock:
            found = self._place(now_ms - now_ms % MINUTE_MS, shadow, cause, refused_by, labels)
            found[0] += 1
            for place, amount in enumerate(asked, 1):
                found[place] += amount

    def _place(
        self, minute_ms: int, shadow: bool, cause: str, limits: tuple[RefusedBy, ...], labels: Mapping[str, str]
    ) -> list[int]:
        """Where to count it: under all its labels, or where there is still room."""
        for level, kept in enumerate(KEPT):
            named = tuple(item for item in sorted(labels.items()) if kept is None or item[0] in kept)
            key = minute_ms, shadow, cause, limits, named
            if (found := self._counts.get(key)) is not None:
                return found
            if self._taken[level] < ROOM[level]:
                self._taken[level] += 1
                return self._counts.setdefault(key, [0] * (1 + len(UNITS)))
        key = minute_ms - minute_ms % HOUR_MS, shadow, cause, (), ()
        return self._counts.setdefault(key, [0] * (1 + len(UNITS)))

    def _take(self) -> _Flush | None:
        with self._lock:
            if self._unkept:
                return self._unkept.pop(0)
            if not self._counts:
                return None
            counts, self._counts, self._taken = self._counts, {}, [0] * len(ROOM)
        rows = [
            RefusalCount(minute_ms, shadow, cause, limits, dict(named), calls, Amounts(*asked))
            for (minute_ms, shadow, cause, limits, named), (calls, *asked) in counts.items()
        ]
        return f"f-{os.urandom(8).hex()}", rows


async def last_flush(counts: RefusalCounts, note: Note, notify: Callable[[Event], None]) -> None:
    """When a guard ends: what cannot be kept in a few seconds is lost, and that is told."""
    try:
        async with asyncio.timeout(LAST_FLUSH_S):
            await counts.flush(note)
    except (BudgetGuardError, TimeoutError) as error:
        notify(StoreProblem("flush_refusals", str(error) or "no answer in time"))


def _name(budget: str) -> str:
    """Of a budget; those of runs are told together."""
    return OF_A_RUN.sub("", budget)
