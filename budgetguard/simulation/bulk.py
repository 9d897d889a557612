"""How a long trace gets through a real store quickly: decided ahead by the rule, then done by the store in bulk.

What happens next hangs on each answer, so that a store could be asked only one operation at a time. `core.machine`
is what the store itself runs: run here over balances in memory, it tells each answer at once. The store is then asked
the same operations in the same order, many in one transaction, and every answer of its own is compared. Only the
store's answers are reported; one that differs ends the simulation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any, cast

from budgetguard.core import machine
from budgetguard.core.amounts import MAX_AMOUNT
from budgetguard.core.model import Balance, Reservation
from budgetguard.core.periods import Period, window_at
from budgetguard.core.verbs import Reserve, Settle, Settlement, Verdict
from budgetguard.errors import StoreUnusable
from budgetguard.store import Store
from budgetguard.testing.clock import FakeClock

Op = Reserve | Settle
Answer = Verdict | Settlement
MOST_OPS = 512


class Boundaries:
    """The instants at which time itself may change an answer: a window or a slot of a rolling period ends."""

    def __init__(self, periods: Iterable[Period]) -> None:
        self._periods = [period for period in periods if period.kind in ("calendar", "rolling")]
        self._from_ms = self._until_ms = 0

    def next_ms(self, now_ms: int) -> int:
        """The first boundary after `now_ms`."""
        if not self._from_ms <= now_ms < self._until_ms:
            self._from_ms, self._until_ms = now_ms, min((_end_ms(p, now_ms) for p in self._periods), default=MAX_AMOUNT)
        return self._until_ms


def _end_ms(period: Period, now_ms: int) -> int:
    if period.kind == "calendar":
        return window_at(period, now_ms).end_ms
    return (now_ms // period.slot_ms + 1) * period.slot_ms


class Rule:
    """The accounts and open reservations as the store has them, once it has done what was asked of it."""

    def __init__(self) -> None:
        self._balances: dict[str, Balance] = {}
        self._held: dict[str, Reservation] = {}

    def reserve(self, op: Reserve, now_ms: int) -> Verdict:
        """What the store will answer; an id is reserved once."""
        verdict, change = machine.reserve(machine.State(None, self._balances), op, now_ms)
        if change.reservation is not None:
            self._held[op.id] = change.reservation
            self._balances.update(change.accounts)
        return verdict

    def settle(self, op: Settle, now_ms: int) -> Settlement:
        """What the store will answer; the reservation is held."""
        settlement, change = machine.settle(machine.State(self._held.pop(op.id), self._balances), op, now_ms)
        self._balances.update(change.accounts)
        return settlement


class Bulk:
    """Operations on their way to the store, in order.

    A transaction has one time, that of its last operation, and never reaches over a boundary: so its answers are those
    that each operation would have had at its own time. At most `span_ms` are between its first and its last.

    Args:
        told: called with each operation and the store's answer.
    """

    def __init__(
        self, clock: FakeClock, boundaries: Boundaries, span_ms: int, told: Callable[[Op, Answer], None]
    ) -> None:
        self._clock = clock
        self._boundaries = boundaries
        self._span_ms = span_ms
        self._told = told
        self._rule = Rule()
        self._batches: list[list[tuple[int, Op, Answer]]] = [[]]
        self._closes_ms = 0

    def reserve(self, op: Reserve, now_ms: int) -> Verdict:
        """The answer to a reserve, which is queued."""
        verdict = self._rule.reserve(op, now_ms)
        self._queue(now_ms, op, verdict)
        return verdict

    def settle(self, op: Settle, now_ms: int) -> Settlement:
        """The answer to a settle, which is queued."""
        settlement = self._rule.settle(op, now_ms)
        self._queue(now_ms, op, settlement)
        return settlement

    def _queue(self, now_ms: int, op: Op, answer: Answer) -> None:
        batch = self._batches[-1]
        if batch and (now_ms >= self._closes_ms or len(batch) == MOST_OPS):
            batch = []
            self._batches.append(batch)
        if not batch:
            self._closes_ms = min(self._boundaries.next_ms(now_ms), now_ms + self._span_ms)
        batch.append((now_ms, op, answer))

    @property
    def full(self) -> bool:
        """Whether there are batches that nothing can be added to."""
        return len(self._batches) > 1

    async def send_full(self, store: Store) -> None:
        """Have the store do the batches that nothing can be added to."""
        while self.full:
            await self._send(store, self._batches.pop(0))

    async def send_all(self, store: Store) -> None:
        """Have the store do all that is queued."""
        await self.send_full(store)
        await self._send(store, self._batches[0])
        self._batches[0] = []

    async def _send(self, store: Store, batch: list[tuple[int, Op, Answer]]) -> None:
        if not batch:
            return
        self._clock.set(batch[-1][0])
        # What is asked in one round of the event loop shares a transaction, in the order in which it was asked.
        runs = [list(ops) for _, ops in groupby((op for _, op, _ in batch), type)]
        answers = [answer for run in await asyncio.gather(*(_asked(store, run) for run in runs)) for answer in run]
        for (_, op, foretold), answer in zip(batch, answers, strict=True):
            if _said(answer) != _said(foretold):
                raise StoreUnusable(
                    f"the store answered {_said(answer)} to {op.id} where the rule says {_said(foretold)}: "
                    "simulate in a store that nothing else writes to"
                )
            self._told(op, answer)


async def _asked(store: Store, ops: Sequence[Op]) -> Sequence[Answer]:
    """The store's answers to operations of one kind."""
    settles = [op for op in ops if isinstance(op, Settle)]
    return await store.settle(settles) if settles else await store.reserve(cast(list[Reserve], ops))


def _said(answer: Answer) -> tuple[Any, ...]:
    """What an answer says, apart from times: those of its batch are the store's."""
    if isinstance(answer, Verdict):
        refusals = [(v.account.key, v.reason, v.spent, v.reserved, v.requested) for v in answer.violations]
        return answer.word, refusals, answer.would_refuse
    return answer.word, answer.overage, answer.overdrawn
