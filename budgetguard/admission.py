"""How a call is admitted: ask the store; sweep and ask once more; wait in line; or raise what refused it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from budgetguard.call import Call
from budgetguard.call_events import Admitted, DelayBegan, DelayEnded
from budgetguard.core.model import Violation
from budgetguard.core.verbs import Release, Reserve, Verdict
from budgetguard.errors import CallRefused, ReservationConflict, StoreAway, StoreClockBehind, StoreError
from budgetguard.events import Delayed, Refused, WouldRefuse
from budgetguard.hold import Hold
from budgetguard.price_data import load
from budgetguard.pricing import needs_data
from budgetguard.refusal import judged_again, retry_after_s
from budgetguard.waiting import Waiter, poll_s
from budgetguard.within import raise_if_stopped

if TYPE_CHECKING:
    import tenacity

    from budgetguard.engine import Engine

STALE_MOST = 8
"""How often a call may find its window just ended; more means that the store's clock and windows disagree."""


class _Blocked(Exception):
    """The call waits in line, at most this long before it looks again."""

    def __init__(self, pause_s: float) -> None:
        super().__init__(pause_s)
        self.pause_s = pause_s


class _Refused(Exception):
    """The call waits no longer, or never did."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__(violations)
        self.violations = violations


class Admission:
    """Admits one call on one engine.

    Args:
        nested: the caller has an open hold; it is refused rather than made to wait, because it could wait for itself.
    """

    def __init__(self, engine: Engine, call: Call, nested: bool) -> None:
        self._engine = engine
        self._call = call
        self._nested = nested
        self._waits_since = 0.0
        self._asked_s = 0.0
        """How long the store took to answer, whatever its answers were."""
        self._in_doubt = False
        """Whether the store may hold something for this call although it did not say so."""

    async def admit(self) -> Hold:
        """The hold of the admitted call. Errors: those of `Guard.reserve`."""
        raise_if_stopped()
        call, line = self._call, self._engine.line
        try:
            if needs_data(self._engine.shared.policy.prices, call.subject.get("model"), self._engine.now_ms()):
                await asyncio.to_thread(load)
            self._match()
            if line.busy and (ahead := line.ahead_of(None, call.asked_accounts)):
                return await self._wait_in_line(ahead, self._pause_behind_s(ahead))
            verdict = await self._ask()
            if verdict.word != "refused":
                return self._admitted(verdict)
            return await self._wait_in_line(_by_account(verdict), self._pause_s(verdict))
        except _Refused as refused:
            raise await self._engine.tell.refusal(call, refused.violations, self._engine.now_ms()) from None
        except CallRefused as refusal:
            self._engine.shared.notify(Refused(call.id, call.subject, type(refusal).__name__))
            raise
        except StoreError as error:
            return self._without_store(error)

    def _match(self) -> None:
        self._engine.here()  # raises if the guard was closed meanwhile
        shared = self._engine.shared
        self._call.match(shared.policy, self._engine.now_ms(), self._engine.host, str(self._engine.pid))

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
            if verdict.word in ("stale_window", "too_old"):  # the store's time was not as last heard: now it is
                continue
            if verdict.word == "refused" and verdict.sweep_due and not swept:
                swept = True
                if await engine.swept():
                    continue
            return verdict
        raise StoreClockBehind("the store's time does not lie in the windows computed for it: check its clock")

    async def _reserve(self) -> Verdict:
        call, engine = self._call, self._engine
        settings = engine.shared.policy.guard
        # Nothing is asked again whose answer was lost, so each attempt is the first that the store may know.
        op = Reserve(
            call.id, call.plan, call.priced.amounts, call.info, settings.lease_ms, settings.replay_keep_ms,
            engine.now_ms(),
        )  # fmt: skip
        began = engine.loop.time()
        try:
            (verdict,) = await engine.shared.store.reserve([op])
            self._asked_s += engine.loop.time() - began
        except StoreError as error:
            self._in_doubt = isinstance(error, StoreAway)
            raise
        except BaseException:
            # Cancelled: it may have been applied, or be applied yet. The release makes sure that it holds nothing.
            engine.courier.post(Release(call.id, settings.replay_keep_ms))
            raise
        if verdict.word == "clock":
            raise StoreClockBehind(
                "the store's clock stands more than 60 s behind the time it has told: check its clock"
            )
        if verdict.word in ("conflict", "finished", "voided"):
            raise ReservationConflict(f"the reservation id {call.id} was used before ({verdict.word})")
        return verdict

    def _admitted(self, verdict: Verdict) -> Hold:
        call, engine = self._call, self._engine
        tokens = call.priced.row.prompt_tokens
        engine.shared.notify(Admitted(call.id, call.subject, self._asked_s, tokens, call.origin.api))
        if verdict.would_refuse or call.excuse:
            cause = call.excuse or "BudgetExceeded"
            asked = call.asked_of(verdict.would_refuse)
            engine.shared.notify(WouldRefuse(call.id, call.subject, cause, verdict.would_refuse, asked))
        if not call.plan.claims:
            engine.tell.unmatched(call.key)
        engine.tell.alerts(verdict.alerts)
        return Hold(engine, call, verdict)

    def _without_store(self, error: StoreError) -> Hold:
        """Let the call go on unreserved where that is let; its settle carries all that the store needs."""
        call, engine = self._call, self._engine
        if engine.lets_through("reserve", error):
            return Hold(engine, call, Verdict("unknown", engine.now_ms(), engine.now_ms()))
        if self._in_doubt:
            engine.courier.post(Release(call.id, engine.shared.policy.guard.replay_keep_ms))
        raise error

    def _pause_s(self, verdict: Verdict) -> float:
        """How long a refused call may wait before it asks again; raises where it must not or need not wait."""
        call, violations = self._call, verdict.violations
        self._engine.tell.exhausted(call.plan, violations, verdict.now_ms)
        refusing = {violation.account.budget for violation in violations}
        if self._nested or not refusing <= {b.name for b in call.budgets if b.on_exceed == "delay"}:
            raise _Refused(violations)
        wait_s = retry_after_s(violations)
        if wait_s is None or wait_s > self._left_s(refusing):
            raise _Refused(violations)
        return min(poll_s(), wait_s)

    def _pause_behind_s(self, blocked_on: Mapping[str, Violation]) -> float:
        """How long a call may stand behind others that wait; raises where that time is over, or must not begin."""
        left_s = 0.0 if self._nested else self._left_s({v.account.budget for v in blocked_on.values()})
        if left_s <= 0:
            amounts, now_ms = self._call.priced.amounts, self._engine.now_ms()
            raise _Refused([judged_again(v, getattr(amounts, v.account.unit), now_ms) for v in blocked_on.values()])
        return left_s

    def _left_s(self, budgets: set[str]) -> float:
        """What is left of the smallest `max_delay` of these budgets, counted from the first refusal."""
        now = self._engine.loop.time()
        self._waits_since = self._waits_since or now
        delays = [b.max_delay_ms / 1000 for b in self._call.budgets if b.name in budgets]
        return self._waits_since + min(delays, default=0.0) - now

    async def _wait_in_line(self, blocked_on: Mapping[str, Violation], pause_s: float) -> Hold:
        import tenacity

        call, line = self._call, self._engine.line
        waiter = line.join()
        line.block(waiter, blocked_on)
        notify = self._engine.shared.notify
        notify(DelayBegan(call.id, call.subject))
        try:
            await line.wait(waiter, pause_s)
            retrying = tenacity.AsyncRetrying(
                retry=tenacity.retry_if_exception_type(_Blocked),
                wait=_wait_s,
                sleep=lambda wait_s: line.wait(waiter, wait_s),
                reraise=True,
            )
            hold: Hold = await retrying(self._look_again, waiter)
        finally:
            line.leave(waiter)
            notify(DelayEnded(call.id, call.subject))
        waited_ms = int((self._engine.loop.time() - self._waits_since) * 1000)
        notify(Delayed(call.id, call.subject, waited_ms))
        return hold

    async def _look_again(self, waiter: Waiter) -> Hold:
        """Ask if no earlier waiter is blocked on an account of this call; else, or if refused, wait on."""
        call, line = self._call, self._engine.line
        self._match()
        accounts = call.asked_accounts
        ahead = line.ahead_of(waiter, accounts)
        if ahead:
            blocked_on = {account: v for account, v in waiter.blocked_on.items() if account in accounts} | ahead
            line.block(waiter, blocked_on)
            raise _Blocked(self._pause_behind_s(blocked_on))
        verdict = await self._ask()
        if verdict.word != "refused":
            return self._admitted(verdict)
        pause_s = self._pause_s(verdict)
        line.block(waiter, _by_account(verdict))
        raise _Blocked(pause_s)


def _by_account(verdict: Verdict) -> dict[str, Violation]:
    return {violation.account.identity: violation for violation in verdict.violations}


def _wait_s(state: tenacity.RetryCallState) -> float:
    """How long to wait before the next attempt: what the last one found."""
    error = state.outcome.exception() if state.outcome else None
    return error.pause_s if isinstance(error, _Blocked) else 0.0
