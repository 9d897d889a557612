"""What a guard runs on one event loop: the store's time, heartbeats, sweeps, the courier and the line of waiters."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import time
import weakref
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from budgetguard.core.model import Alert, Plan, Violation
from budgetguard.core.verbs import Expire, Extend, Settle, Settlement
from budgetguard.errors import BudgetGuardError
from budgetguard.events import (
    AlertReached,
    Event,
    Exhausted,
    Expired,
    Late,
    LeaseLost,
    Overage,
    Settled,
    SettleRejected,
    StoreProblem,
)
from budgetguard.settling import Courier, Op, Spool
from budgetguard.waiting import Line

if TYPE_CHECKING:
    from budgetguard.hold import Hold
    from budgetguard.policy import Policy
    from budgetguard.store import Store

Outcome = Literal["release", "assume"]
SWEEP_MOST = 256
ANNOUNCED_KEPT = 4096


@dataclass
class Resources:
    """What the engines of one guard share."""

    policy: Policy
    store: Store
    spool: Spool
    notify: Callable[[Event], None]
    outcome_of: Callable[[BaseException], Outcome]
    check_policy: Callable[[], None]
    """Read the policy's file again if it has changed."""
    host: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}")


class Engine:
    """One event loop's part of a guard. Made at the first use in that loop; `stop` ends its tasks."""

    def __init__(self, shared: Resources) -> None:
        self.shared = shared
        self.loop = asyncio.get_running_loop()
        self.line = Line()
        self.courier = Courier(shared.store, shared.spool, shared.notify, self.report)
        self.holds: weakref.WeakValueDictionary[str, Hold] = weakref.WeakValueDictionary()
        self.opened = False
        self._heard_ms = time.time_ns() // 1_000_000
        self._heard_at = self.loop.time()
        self._announced: set[str] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._duties = [
            self.spawn(duty)
            for duty in (
                self.courier.run(),
                self.courier.keep_replaying(),
                self._every(lambda: self.shared.policy.guard.lease_ms / 3000, 0.0, self.beat),
                self._every(lambda: self.shared.policy.guard.lease_ms / 4000, 0.3, self.sweep),
                self._every(lambda: 1.0, 0.0, self._watch),
            )
        ]

    async def open(self) -> None:
        """Open the store, once. Errors: those of `Store.open`."""
        if not self.opened:
            self.hear(await self.shared.store.open())
            self.opened = True

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run `work` beside the caller; kept alive until it is done."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def stop(self) -> None:
        """Let settles under way finish, deliver or spool what was posted, and end the tasks."""
        while others := [task for task in self._tasks if task not in self._duties]:
            await asyncio.wait(others)
        await self.courier.delivered()
        for task in self._duties:
            task.cancel()
        await asyncio.wait(self._duties)

    def left_over(self) -> list[Op]:
        """The event loop is gone: what was recorded or posted here and still has to be delivered."""
        for hold in list(self.holds.values()):
            hold.abandon()
        return self.courier.left_over()

    def hear(self, now_ms: int) -> None:
        """The store has told its time."""
        self._heard_ms = now_ms
        self._heard_at = self.loop.time()

    def now_ms(self) -> int:
        """The store's time, as it was last heard, and what has passed since."""
        return self._heard_ms + int((self.loop.time() - self._heard_at) * 1000)

    async def beat(self) -> None:
        """Extend the lease of every hold that is alive, until it is older than `max_hold`."""
        settings = self.shared.policy.guard
        youngest_ms = self.now_ms() - settings.max_hold_ms
        alive = [hold.id for hold in list(self.holds.values()) if hold.admitted_ms > youngest_ms]
        if not alive:
            return
        answers = await self.shared.store.extend([Extend(id, settings.lease_ms) for id in alive])
        for id, answer in zip(alive, answers, strict=True):
            if answer.word == "finished" and id in self.holds:
                self.holds.pop(id)
                self.shared.notify(LeaseLost(id))

    async def sweep(self) -> bool:
        """Resolve the reservations of anybody whose lease has passed. True if there were any."""
        due = await self.shared.store.due(SWEEP_MOST)
        if not due:
            return False
        answers = await self.shared.store.expire([Expire(id) for id in due])
        for id, answer in zip(due, answers, strict=True):
            if answer.word == "expired":
                self.shared.notify(Expired(id))
                self.tell_alerts(answer.alerts)
                if answer.row is not None:
                    self.line.wake(answer.row.plan.identities)
        return True

    def report(self, op: Op, answer: Settlement) -> None:
        """Tell observers what became of a settle or release, and waiters that something was returned."""
        if isinstance(op, Settle):
            self.line.wake(op.plan.identities)
            self._report_settle(op, answer)
        self.tell_alerts(answer.alerts)

    def _report_settle(self, op: Settle, answer: Settlement) -> None:
        notify = self.shared.notify
        if answer.word in ("late", "uncounted"):
            notify(Late(op.id, answer.word))
        elif answer.word == "conflict":
            notify(SettleRejected(op.id, answer.word))
        if answer.word in ("settled", "late"):
            row = op.usage
            notify(
                Settled(
                    op.id, op.info.labels, op.status, row.prompt_tokens, row.completion_tokens, row.cost_nanousd,
                    op.latency_ms,
                )
            )  # fmt: skip
            if any(answer.overage):
                notify(Overage(op.id, op.info.labels, answer.overage, len(answer.overdrawn)))

    def tell_alerts(self, alerts: Sequence[Alert]) -> None:
        """Tell observers of thresholds that this worker was told to announce."""
        for alert in alerts:
            self.shared.notify(AlertReached(alert.account, alert.threshold, alert.limit, alert.level))

    def announce_exhausted(self, plan: Plan, violations: Sequence[Violation]) -> None:
        """For limits that are spent: let the fleet's first refusal of the window tell it."""
        alerted = {c.account.key for c in plan.claims if c.limit in c.alert_levels}
        for violation in violations:
            key = violation.account.key
            if violation.reason == "spent" and key in alerted and key not in self._announced:
                if len(self._announced) >= ANNOUNCED_KEPT:
                    self._announced.clear()
                self._announced.add(key)
                self.spawn(self._announce(violation))

    async def _announce(self, violation: Violation) -> None:
        try:
            (first,) = await self.shared.store.announce([(violation.account, violation.limit)])
        except BudgetGuardError as error:
            self._announced.discard(violation.account.key)
            self.shared.notify(StoreProblem("announce", str(error)))
            return
        if first:
            self.shared.notify(Exhausted(violation.account, violation.limit, violation.spent))

    async def _watch(self) -> None:
        self.shared.check_policy()

    async def _every(
        self, period_s: Callable[[], float], jitter: float, duty: Callable[[], Coroutine[Any, Any, Any]]
    ) -> None:
        """Do a duty again and again; a store that is away does not end it."""
        while True:
            await asyncio.sleep(period_s() * random.uniform(1 - jitter, 1 + jitter))
            try:
                await duty()
            except BudgetGuardError as error:
                self.shared.notify(StoreProblem(duty.__name__.strip("_"), str(error)))
