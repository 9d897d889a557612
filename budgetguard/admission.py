"""How a call is admitted: ask the store; sweep and ask once more; wait in line; or raise what refused it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from budgetguard.call import Call
from budgetguard.core.model import Violation
from budgetguard.core.verbs import Release, Reserve, Verdict
from budgetguard.errors import (
    BudgetExceeded,
    CallRefused,
    ReservationConflict,
    StateLost,
    StoreAway,
    StoreClockBehind,
    StoreError,
)
from budgetguard.events import Delayed, Refused, StoreProblem, Unmatched, WouldRefuse
from budgetguard.hold import Hold
from budgetguard.refusal import budget_exceeded, retry_after_s
from budgetguard.waiting import Waiter, poll_s

if TYPE_CHECKING:
    import tenacity

    from budgetguard.engine import Engine

STALE_MOST = 8
"""How often a call may find its window just ended; more means that the store's clock and windows disagree."""


class _Blocked(Exception):
    def __init__(self, refusal: BudgetExceeded, pause_s: float) -> None:
        super().__init__(refusal)
        self.refusal = refusal
        self.pause_s = pause_s


class Admission:
    """Admits one call on one engine.

    Args:
        nested: the caller has an open hold; it is refused rather than made to wait, because it could wait for itself.
    """

    def __init__(self, engine: Engine, call: Call, nested: bool) -> None:
        self._engine = engine
        self._call = call
        self._nested = nested
        self._refused_at = 0.0

    async def admit(self) -> Hold:
        """The hold of the admitted call. Errors: those of `Guard.reserve`."""
        call, line = self._call, self._engine.line
        try:
            self._match()
            if line.busy and (ahead := line.ahead_of(line.join(call.plan.identities))):
                return await self._wait_behind(ahead)
            verdict = await self._ask()
            if verdict.word == "refused":
                return await self._refused(verdict)
            return self._admitted(verdict)
        except BudgetExceeded as refusal:
            self._tell_refusal("budget", refusal)
            raise
        except CallRefused as refusal:
            self._engine.shared.notify(Refused(call.id, call.subject, type(refusal).__name__))
            raise
        except StoreError as error:
            return self._without_store(error)

    def _match(self) -> None:
        shared = self._engine.shared
        self._call.match(shared.policy, self._engine.now_ms(), shared.host)

    async def _ask(self) -> Verdict:
        """The store's verdict, for windows that stand; after one sweep, if that may have made room."""
        engine = self._engine
        if not engine.opened:
            await engine.open()
        swept = False
        for _ in range(STALE_MOST):
            self._match()
            verdict = await self._reserve()
            engine.hear(verdict.now_ms)
            if verdict.word == "stale_window":
                continue
            if verdict.word == "refused" and verdict.sweep_due and not swept:
                swept = True
                if await engine.sweep():
                    continue
            return verdict
        raise StoreClockBehind("the store's time does not lie in the windows computed for it: check its clock")

    async def _reserve(self) -> Verdict:
        call, settings = self._call, self._engine.shared.policy.guard
        op = Reserve(
            call.id, call.plan, call.priced.amounts, call.info, settings.lease_ms, settings.replay_keep_ms,
            call.tried_since_ms,
        )  # fmt: skip
        try:
            (verdict,) = await self._engine.shared.store.reserve([op])
        except (asyncio.CancelledError, GeneratorExit):
            # It may have been applied, or be applied yet: the release makes sure that it holds nothing.
            self._engine.courier.post(Release(call.id, settings.replay_keep_ms))
            raise
        if verdict.word == "clock":
            raise StoreClockBehind(
                "the store's clock stands more than 60 s behind the time it has told: check its clock"
            )
        if verdict.word == "too_old":
            raise StoreAway(f"the reserve {call.id} was tried for too long")
        if verdict.word in ("conflict", "finished", "voided"):
            raise ReservationConflict(f"the reservation id {call.id} was used before ({verdict.word})")
        return verdict

    def _admitted(self, verdict: Verdict) -> Hold:
        call, engine = self._call, self._engine
        if verdict.would_refuse:
            engine.shared.notify(WouldRefuse(call.id, call.subject, "budget", verdict.would_refuse))
        if not call.plan.claims:
            engine.shared.notify(Unmatched(call.subject))
        engine.tell_alerts(verdict.alerts)
        return Hold(engine, call, verdict)

    def _without_store(self, error: StoreError) -> Hold:
        """Let the call go on unreserved where that is let; its settle carries all that the store needs."""
        call, engine = self._call, self._engine
        policy = engine.shared.policy
        away = not isinstance(error, (StateLost, StoreClockBehind))
        let_through = policy.mode == "shadow" or (away and policy.store.on_store_away == "allow")
        engine.shared.notify(StoreProblem("reserve", str(error), let_through))
        if let_through:
            return Hold(engine, call, Verdict("granted", engine.now_ms(), engine.now_ms()))
        if away:
            engine.courier.post(Release(call.id, policy.guard.replay_keep_ms))
        raise error

    async def _refused(self, verdict: Verdict) -> Hold:
        blocked = self._must_wait(verdict.violations, verdict.now_ms)
        return await self._wait_in_line(frozenset(v.account.identity for v in verdict.violations), blocked)

    async def _wait_behind(self, ahead: frozenset[str]) -> Hold:
        """Others wait for an account that this call counts against too: it queues behind them."""
        refusal = self._refusal_behind(self._engine.line.join(self._call.plan.identities))
        if self._nested:
            raise refusal
        return await self._wait_in_line(ahead, _Blocked(refusal, 0.0))

    def _must_wait(self, violations: Sequence[Violation], now_ms: int) -> _Blocked:
        """What the call has to wait for; raises BudgetExceeded where it must not or need not wait."""
        call = self._call
        refusal = budget_exceeded(call.id, call.subject, violations, now_ms)
        self._engine.announce_exhausted(call.plan, violations)
        refusing = {violation.account.budget for violation in violations}
        if self._nested or not refusing <= {b.name for b in call.budgets if b.on_exceed == "delay"}:
            raise refusal
        wait_s = retry_after_s(violations)
        if wait_s is None or wait_s > self._left_s(refusing):
            raise refusal
        return _Blocked(refusal, min(poll_s(), wait_s))

    def _left_s(self, budgets: set[str]) -> float:
        """What is left of the smallest `max_delay` of these budgets, counted from the first refusal."""
        now = self._engine.loop.time()
        self._refused_at = self._refused_at or now
        delays = [b.max_delay_ms / 1000 for b in self._call.budgets if b.name in budgets]
        return self._refused_at + min(delays, default=0.0) - now

    async def _wait_in_line(self, blocked_on: frozenset[str], blocked: _Blocked) -> Hold:
        import tenacity

        call, line = self._call, self._engine.line
        waiter = line.join(call.plan.identities)
        waiter.refusal = blocked.refusal
        line.block(waiter, blocked_on)
        try:
            await line.wait(waiter, blocked.pause_s)
            retrying = tenacity.AsyncRetrying(
                retry=tenacity.retry_if_exception_type(_Blocked),
                wait=_pause_s,
                sleep=lambda pause_s: line.wait(waiter, pause_s),
                reraise=True,
            )
            hold: Hold = await retrying(self._ask_in_line, waiter)
        finally:
            line.leave(waiter)
        waited_ms = int((self._engine.loop.time() - self._refused_at) * 1000)
        self._engine.shared.notify(Delayed(call.id, call.subject, waited_ms))
        return hold

    async def _ask_in_line(self, waiter: Waiter) -> Hold:
        """Ask if no earlier waiter is blocked on an account of this call; else, or if refused, wait on."""
        line = self._engine.line
        ahead = line.ahead_of(waiter)
        if ahead:
            line.block(waiter, waiter.blocked_on | ahead)
            refusal = self._refusal_behind(waiter)
            left_s = self._left_s({violation.account.budget for violation in refusal.violations})
            if left_s <= 0:
                raise refusal
            raise _Blocked(refusal, left_s)
        verdict = await self._ask()
        if verdict.word != "refused":
            return self._admitted(verdict)
        blocked = self._must_wait(verdict.violations, verdict.now_ms)
        waiter.refusal = blocked.refusal
        line.block(waiter, (violation.account.identity for violation in verdict.violations))
        raise blocked

    def _refusal_behind(self, waiter: Waiter) -> BudgetExceeded:
        """What refuses a call that stands behind others: their violations, as they touch this call."""
        call, now_ms = self._call, self._engine.now_ms()
        ahead = self._engine.line.refusals_ahead_of(waiter)
        violations = {
            violation.account.key: replace(violation, requested=getattr(call.priced.amounts, violation.account.unit))
            for refusal in ahead
            for violation in refusal.violations
            if violation.account.identity in waiter.accounts
        }
        return budget_exceeded(call.id, call.subject, list(violations.values()), now_ms)

    def _tell_refusal(self, cause: str, refusal: BudgetExceeded) -> None:
        call = self._call
        self._engine.shared.notify(Refused(call.id, call.subject, cause, refusal.violations, refusal.retry_after))


def _pause_s(state: tenacity.RetryCallState) -> float:
    """How long to wait before the next attempt: what the last one found."""
    error = state.outcome.exception() if state.outcome else None
    return error.pause_s if isinstance(error, _Blocked) else 0.0
