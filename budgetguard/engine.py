"""What a guard runs on one event loop: the store's time, heartbeats, sweeps, the courier and the line of waiters."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from budgetguard.core.verbs import Expire, Extend, Settle, Settlement
from budgetguard.draining import Draining
from budgetguard.duties import Duties, answers_to
from budgetguard.errors import BudgetGuardError, StateLost, StoreClockBehind, StoreError
from budgetguard.events import Expired, LeaseLost, StoreProblem
from budgetguard.learning.sharing import SHARE_S, Learning
from budgetguard.refusal_counts import FLUSH_S, last_flush
from budgetguard.resources import Resources
from budgetguard.settling import Courier, Op
from budgetguard.telling import Telling
from budgetguard.waiting import Line

if TYPE_CHECKING:
    from budgetguard.hold import Hold

SWEEP_MOST = 256


class Engine:
    """One event loop's part of a guard. Made at the first use in that loop; `stop` ends its tasks.

    Args:
        here: the engine of whatever loop is running when it is called.
    """

    def __init__(self, shared: Resources, here: Callable[[], Engine]) -> None:
        self.shared = shared
        self.here = here
        self.loop = asyncio.get_running_loop()
        self.pid = os.getpid()
        self.host = f"{socket.gethostname()}:{self.pid}"
        self.line = Line()
        self.courier = Courier(shared.store, shared.spool, shared.notify, self.report, self._work)
        self.tell = Telling(shared.store, shared.notify, self.spawn)
        self.holds: weakref.WeakValueDictionary[str, Hold] = weakref.WeakValueDictionary()
        self.opened = False
        self._heard_ms = time.time_ns() // 1_000_000
        self._heard_at = self.loop.time()
        self._sweeping: asyncio.Task[bool] | None = None
        self._under_way: dict[str, Op] = {}
        self._tasks: set[asyncio.Future[Any]] = set()
        self._working: asyncio.Task[None] | None = None
        self._ended = False
        self.learning = Learning(shared, self.open, self.now_ms, self.spawn)
        self._duties = Duties(shared.notify)
        self._duties.begin(self.courier.replay_pause_s, self.courier.replay)
        self._duties.every(lambda: self.shared.policy.guard.lease_ms / 3000, self.beat)
        self._duties.every(lambda: self.shared.policy.guard.lease_ms / 4000, self._tend, jitter=0.3)
        self._duties.every(lambda: 1.0, self._watch)
        self._duties.every(lambda: FLUSH_S, self.flush_refusals, jitter=0.1)
        self._duties.every(lambda: SHARE_S, self.learning.share_outputs, jitter=0.1)
        self._draining = Draining(shared.drain(), shared.notify) if shared.drain is not None else None
        if self._draining is not None:
            self._duties.begin(self._draining.pause_s, self._draining.drain_ledger)
        self._alerting = shared.alerting(self.now_ms)
        self._duties.every(lambda: 1.0, self._alerting.tell_alerts)
        self._until_end = self._ends_with_the_loop()
        with contextlib.suppress(StopIteration):  # begun here and now, so that the loop knows it
            self._until_end.__anext__().send(None)

    async def open(self) -> None:
        """Open the store, once. Errors: those of `Store.open`."""
        if not self.opened:
            self.hear(await self.shared.store.open())
            if not self.opened:  # by who asked meanwhile
                self.opened = True
                self._duties.every(self._alerting.pause_s, self._alerting.look_at_store)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run `work` beside the caller; kept alive until it is done."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def stop(self) -> list[Op]:
        """Let settles under way finish, deliver or spool what was recorded or posted, and end the duties.

        Returns what could be neither delivered nor spooled.
        """
        for op in self._abandoned():
            self.courier.post(op)
        await self._until_end.aclose()
        await self._end()  # if that was cancelled, once
        return self._undelivered()

    async def _ends_with_the_loop(self) -> AsyncGenerator[None, None]:
        """Suspended until the loop closes its generators, at the end of `asyncio.run`: the last chance to await."""
        try:
            yield
        finally:
            await self._end()

    async def _end(self) -> None:
        if self._ended:
            return
        try:
            await self._duties.end()
            while others := [task for task in self._tasks if task is not self._working]:
                await asyncio.wait(others)
            if self._working is not None:
                self._working.cancel()
                await asyncio.wait([self._working])
            for op in await self.courier.deliver():
                self._under_way[op.id] = op
            await last_flush(self.shared.refusals, self.shared.store.note_refusals, self.shared.notify)
            await self.learning.last_share()
            if self._draining is not None:
                await self._draining.end()
            await self._alerting.end()
            self._drop()
        finally:
            await self.shared.store.leave()

    def left_over(self) -> list[Op]:
        """The event loop runs no more: what was recorded or posted here and still has to be delivered."""
        self._drop()
        if self._draining is not None:
            self._draining.drop()
        self._alerting.drop()
        with contextlib.suppress(StopIteration):
            self._until_end.aclose().send(None)
        return [*self._abandoned(), *self._undelivered()]

    def _drop(self) -> None:
        self._ended = True
        self._duties.drop()
        self.courier.end()

    def _work(self) -> None:
        """Let the courier work; it is told of whatever is posted meanwhile by finding it."""
        if not self._ended and (self._working is None or self._working.done()):
            self._working = self.spawn(self.courier.work())

    def look_again(self) -> None:
        """The policy has changed, or the guard was closed: leases may be shorter, waiters admitted or refused."""
        self._duties.hurry()
        self.line.wake_all()

    def adopt(self, other: Engine) -> None:
        """The event loop of `other` was closed: take over its open holds, and what it had to deliver."""
        for hold in list(other.holds.values()):
            hold.move_to(self)
        for op in other._undelivered():
            self.courier.post(op)

    def _abandoned(self) -> list[Op]:
        """End the open holds for which something was recorded."""
        return [op for hold in list(self.holds.values()) if (op := hold.abandoned()) is not None]

    def _undelivered(self) -> list[Op]:
        ops = list(self._under_way.values())
        self._under_way.clear()
        return [*ops, *self.courier.left_over()]

    def deliver(self, op: Op, accounts: Sequence[str]) -> asyncio.Future[None]:
        """Deliver what ends a hold on these accounts (identities), though nobody may wait for it any more.

        Where that ends without an answer, the courier takes over."""
        self._under_way[op.id] = op
        store, began = self.shared.store, self.loop.time()
        asked = asyncio.ensure_future(store.settle([op]) if isinstance(op, Settle) else store.release([op]))
        delivered: asyncio.Future[None] = self.loop.create_future()
        self._tasks.add(asked)
        asked.add_done_callback(lambda _: self._delivered(op, accounts, asked, delivered, began))
        return delivered

    def _delivered(
        self, op: Op, accounts: Sequence[str], asked: asyncio.Future[list[Settlement]],
        delivered: asyncio.Future[None], began: float,
    ) -> None:  # fmt: skip
        def end(_: object) -> None:
            if not delivered.done():
                delivered.set_result(None)

        self._tasks.discard(asked)
        try:
            answer = asked.result()[0]
            self._under_way.pop(op.id, None)
            self.report(op, answer, took_s=self.loop.time() - began)
            self.line.wake(accounts)
        except StoreError as error:
            self.shared.notify(StoreProblem(type(op).__name__.lower(), str(error)))
        except asyncio.CancelledError:  # the loop is ending; whoever waits is told
            delivered.cancel()
        except Exception as error:  # noqa: BLE001 - likewise
            if not delivered.done():
                delivered.set_exception(error)
        finally:
            if op.id in self._under_way:  # it has no answer
                self.courier.post(self._under_way.pop(op.id))
            if self._ended:  # of a hold that outlived its guard: nobody else takes leave
                self.spawn(self.shared.store.leave()).add_done_callback(end)
            else:
                end(None)

    def hear(self, now_ms: int) -> None:
        """The store has told its time."""
        self._heard_ms = now_ms
        self._heard_at = self.loop.time()

    def now_ms(self) -> int:
        """The store's time, as it was last heard, and what has passed since."""
        return self._heard_ms + int((self.loop.time() - self._heard_at) * 1000)

    def lets_through(self, verb: str, error: StoreError) -> bool:
        """Tell that the store did not decide; whether calls go on without it."""
        policy = self.shared.policy
        away = not isinstance(error, (StateLost, StoreClockBehind))
        let_through = policy.mode == "shadow" or (away and policy.store.on_store_away == "allow")
        self.shared.notify(StoreProblem(verb, str(error), let_through))
        return let_through

    async def beat(self) -> None:
        """Extend the lease of every hold that is alive."""
        alive, lease_ms = self._alive(), self.shared.policy.guard.lease_ms
        if not alive:
            return
        answers = await answers_to(
            "beat", self.shared.store.extend, [Extend(id, lease_ms) for id in alive], self.shared.notify
        )
        for id, answer in zip(alive, answers, strict=True):
            if answer is None:
                continue
            self.hear(answer.now_ms)
            hold = self.holds.get(id)
            if answer.word == "finished" and hold is not None:
                hold.lease_lost = True
                self.shared.notify(LeaseLost(id))

    def _alive(self) -> list[str]:
        """The holds whose leases are extended: those that somebody has, until they are older than `max_hold`."""
        oldest_ms = self.now_ms() - self.shared.policy.guard.max_hold_ms
        return [h.id for h in list(self.holds.values()) if not h.lease_lost and h.admitted_ms > oldest_ms]

    def swept(self) -> asyncio.Future[bool]:
        """The answer of a sweep, which is one for all who ask while it is under way."""
        if self._sweeping is None or self._sweeping.done():
            self._sweeping = self.spawn(self.sweep())
        return asyncio.shield(self._sweeping)

    async def sweep(self) -> bool:
        """Resolve the reservations of anybody whose lease has passed. True if there were any.

        Not those that are alive here: this process may have been paused, and the next beat extends them.
        """
        try:
            due = await self.shared.store.due(SWEEP_MOST)
            alive = set(self._alive()) if due else set()
            due = [id for id in due if id not in alive]
        except BudgetGuardError as error:
            self.shared.notify(StoreProblem("expire", str(error)))
            return False
        answers = await answers_to("expire", self.shared.store.expire, [Expire(id) for id in due], self.shared.notify)
        found = [(id, a) for id, a in zip(due, answers, strict=True) if a is not None and a.word == "expired"]
        for id, answer in found:
            self.shared.notify(Expired(id))
            self.tell.alerts(answer.alerts)
        if found:
            self.line.wake_first()
        return any(answer is not None for answer in answers)

    async def _tend(self) -> None:
        await self.sweep()
        await self.tell.state()

    def report(self, op: Op, answer: Settlement, is_spooled: bool = False, took_s: float | None = None) -> None:
        """Tell observers what became of a settle or release, and waiters that something was returned.

        Args:
            is_spooled: it was in the spool, and may have been delivered by others.
            took_s: how long the store took, if the caller waited for it.
        """
        if isinstance(op, Settle):
            self.line.wake(op.plan.identities)
            self.tell.settled(op, answer, is_spooled, took_s)
        self.tell.alerts(answer.alerts)

    async def flush_refusals(self) -> None:
        """Have what was refused kept in the store, for the ledger."""
        await self.shared.refusals.flush(self.shared.store.note_refusals)

    async def _watch(self) -> None:
        self.shared.check_policy()
