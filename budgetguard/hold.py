"""One call's hold: what is reserved for it, until it is settled or released, exactly once."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from budgetguard.call import Call, Priced, check_estimate
from budgetguard.core.effects import chargeable
from budgetguard.core.model import Plan
from budgetguard.core.verbs import EndStatus, Grow, Release, Settle, Verdict
from budgetguard.errors import GuardClosed, ReservationFinished, StoreClockBehind, StoreError
from budgetguard.outcome import failure_of
from budgetguard.parts import LEFT_UNREAD
from budgetguard.sharing import Shared
from budgetguard.usage import Usage, read_usage
from budgetguard.within import tell_scopes

if TYPE_CHECKING:
    from budgetguard.engine import Engine
    from budgetguard.policy import Policy

NOT_RECORDED = "left without record()"
UNDER_WAY = "left while a call in it was under way"


class Hold(Shared):
    """What one call has reserved. Made by `guard.reserve(...)`.

    `record` what the call used as often as it becomes known; `settle` (or leaving the block) charges it.

    Args:
        verdict: the store's; "unknown" if it did not decide, and the call was let through all the same.
    """

    __slots__ = (
        "__weakref__", "_engine", "_in_doubt", "_open", "_since", "lease_lost", "would_refuse",
    )  # fmt: skip

    def __init__(self, engine: Engine, call: Call, verdict: Verdict) -> None:
        super().__init__(call, verdict.admitted_ms)
        self._engine = engine
        self._open = True
        self._in_doubt = verdict.word == "unknown"
        self._since = engine.loop.time()
        self.would_refuse = verdict.would_refuse
        """The names of the shadow budgets that had no room for it."""
        self.lease_lost = False
        """Somebody else has resolved the reservation: the settle will be late."""
        engine.holds[call.id] = self

    @property
    def id(self) -> str:
        """The reservation's id; the key of its ledger row."""
        return self._call.id

    @property
    def subject(self) -> dict[str, str]:
        """The labels of the call."""
        return dict(self._call.subject)

    @property
    def plan(self) -> Plan:
        """The accounts that the call counts against."""
        return self._call.plan

    @property
    def open(self) -> bool:
        """Neither settled nor released yet."""
        return self._open

    def __repr__(self) -> str:
        state = "open" if self.open else "ended"
        return f"<Hold {self.id} {state}, {self._call.priced.amounts.tokens} tokens reserved>"

    def belongs_to(self, shared: object) -> bool:
        """Whether this hold was made by the guard with these resources."""
        return self._engine.shared is shared

    def record(self, response: Any) -> Usage:
        """Take note of what the call used; twice adds. It is charged when the hold is settled.

        A response that a wrapped client has already noted in this hold is not counted again.

        Args:
            response: a `Usage`, or a response of a provider (of OpenAI's APIs and who copies them, Anthropic, Gemini,
                Bedrock, Cohere or Ollama), or its dict, or the usage in it.

        Raises:
            TypeError: no usage can be read from it; says what can.
            InvalidAmount: a number in it is not a token count.
            ReservationFinished: the hold has ended.
        """
        self._must_be_open()
        usage = read_usage(response)
        self._parts.record(usage)
        return usage

    async def end(self, status: EndStatus, error_type: str = "", unknown: str = NOT_RECORDED) -> None:
        """Charge what is known of the calls by now; the estimate, assumed, where nothing is.

        Args:
            unknown: why nothing is, where no error says so.
        """
        if self.open:
            await self._end(self._settlement(status, error_type), error_type or unknown)

    async def settle(self, response: Any = None) -> None:
        """Charge what was recorded, and `response` with it; the estimate where nothing was.

        Safe to cancel: what was begun is finished in the background. Never fails because of a limit or a store that
        is away. Errors: those of `record`.
        """
        self._must_be_open()
        if response is not None:
            self.record(response)
        await self._end(self._settlement("settled", ""))

    async def release(self) -> None:
        """Return the whole hold: nothing was sent, or the provider bills nothing for it."""
        await self.release_after("")

    async def release_after(self, failure: str) -> None:
        """The same of a call that failed, for the cause that is named."""
        self._must_be_open()
        self._owes = not self._parts.are_final
        await self._end(Release(self.id, self._policy.guard.replay_keep_ms), failure)

    async def grow(self, estimate: Usage) -> None:
        """Make `estimate` the new total estimate of the call; nothing that a budget counts becomes less than it was.

        Raises:
            BudgetExceeded: a budget has no room for it; the hold stands as it was.
            ReservationFinished: the hold has ended.
            StoreError: the store did not decide; the hold stands.
        """
        self._must_be_open()
        await self._grow_to(self._parts.alone(check_estimate(estimate), self._policy, self.admitted_ms))

    async def _grow_to(self, wanted: Priced, goes_on: bool = False) -> None:
        call, engine = self._call, self._engine_here()
        wider = call.priced.widened(wanted, call.plan.units)
        op = Grow(call.id, call.plan, wider.amounts, wider.row)
        verdict = await self._ask_growth(op)
        if verdict.word == "refused" and verdict.sweep_due and await engine.swept():
            verdict = await self._ask_growth(op)
        if verdict.word == "refused":
            refusal = await engine.tell.refusal(call, verdict.violations, verdict.now_ms, goes_on)
            if not goes_on:
                tell_scopes(refusal)
            raise refusal
        if verdict.word in ("finished", "unknown") and engine.shared.policy.mode != "shadow":
            raise ReservationFinished(f"the hold {call.id} has ended ({verdict.word}) and cannot grow")
        if verdict.word != "replayed":
            call.priced = wider
        engine.tell.alerts(verdict.alerts)

    async def _ask_growth(self, op: Grow) -> Verdict:
        engine = self._engine
        try:
            (verdict,) = await engine.shared.store.grow([op])
            if verdict.word == "clock":
                raise StoreClockBehind("the store's clock stands behind the time it has told: check its clock")
        except StoreError as error:
            if not engine.lets_through("grow", error):
                raise
            return Verdict("granted", engine.now_ms())
        engine.hear(verdict.now_ms)
        if verdict.word == "unknown" and self._in_doubt:
            return verdict._replace(word="granted")
        return verdict

    async def end_after(self, error: BaseException | None) -> None:
        """Resolve the hold at the end of its block, as what was recorded and `error` tell."""
        if not self.open:
            return
        op, cause = self._end_after(error)
        if isinstance(error, GeneratorExit):  # nothing can be awaited any more
            self._post(op, cause)
        else:
            await self._end(op, cause)

    def _end_after(self, error: BaseException | None) -> tuple[Settle | Release, str]:
        """What ends the hold, and for what cause."""
        error_type = "" if error is None else type(error).__name__
        if self._parts.is_known or not self._parts.are_final:
            cancelled = isinstance(error, (asyncio.CancelledError, GeneratorExit))
            status: EndStatus = "settled" if error is None else "cancelled" if cancelled else "error"
            return self._settlement(status, error_type), error_type
        cause = error_type or NOT_RECORDED
        if error is not None:
            try:
                if self._engine.shared.outcome_of(error) == "release":
                    return Release(self.id, self._policy.guard.replay_keep_ms), failure_of(error)
            except Exception as fault:  # noqa: BLE001 - the user's function; its fault must not hide the call's error
                cause = f"{error_type}, and outcome_of failed: {fault!r}"
        return self._settlement("assumed", error_type), cause

    def abandoned(self) -> Settle | None:
        """Its guard ends: end it, with what was recorded; None (and no end) if nothing was.

        A stream that may still be read, in a loop that runs, ends it itself.
        """
        known = self._parts.is_recorded if self._engine.loop.is_running() else self._parts.is_known
        if not self.open or not known:
            return None
        op = self._settlement("settled", "") if self._engine.loop.is_running() else self._left()
        self._closed()
        return op

    def __del__(self) -> None:
        """Nobody has it any more: charge what was recorded. Where nothing was, its lease ends it."""
        try:
            if self._open and self._parts.is_known and self._engine.pid == os.getpid():
                op = self._left()
                self._open = False
                self._engine.courier.post(op)
        except Exception:  # noqa: BLE001 - half made, or at the end of the interpreter: its lease ends it
            return

    def move_to(self, engine: Engine) -> None:
        """Its event loop was closed: it now lives in that of `engine`."""
        self._engine = engine
        engine.holds[self.id] = self

    def _left(self) -> Settle:
        """What ends it where nobody has it any more: a stream may have said its last word, or not."""
        told = self._parts.are_told
        return self._settlement("settled" if told else "cancelled", "" if told else LEFT_UNREAD, is_left=True)

    def _settlement(self, status: EndStatus, error_type: str, *, is_left: bool = False) -> Settle:
        """What ends it, or replaces what ended it. `is_left`: of calls under way nobody will ever tell more."""
        call, engine = self._call, self._engine
        self._owes = not is_left and not self._parts.are_final
        goes_on = self._owes and status == "settled"
        charged = self._parts.total(self._policy, self.admitted_ms, at_most=goes_on)
        if charged is None or self._owes:
            status, charged = "assumed", charged or call.priced
        return Settle(
            call.id, call.plan, chargeable(charged.amounts), charged.row, call.info, status,
            call.priced.amounts, self.admitted_ms, self._policy.guard.replay_keep_ms, engine.now_ms(),
            int((engine.loop.time() - self._since) * 1000), error_type, charged.source,
        )  # fmt: skip

    async def _amend(self) -> None:
        await self._end(self._settlement("settled", ""))

    def _post_amendment(self) -> None:
        self._engine.courier.post(self._settlement("settled", ""))

    @property
    def _policy(self) -> Policy:
        return self._engine.shared.policy

    def _must_be_open(self) -> None:
        if not self._open:
            raise ReservationFinished(f"the hold {self.id} has already been settled or released")

    def _closed(self) -> None:
        self._open = False
        self._engine.holds.pop(self.id, None)

    def _engine_here(self) -> Engine:
        """The engine of the running event loop, which need not be that of the reserve."""
        engine = self._engine
        return engine if engine.loop is asyncio.get_running_loop() else engine.here()

    async def _end(self, op: Settle | Release, cause: str = NOT_RECORDED) -> None:
        """Deliver `op`: neither cancelling the caller nor an observer cancels that."""
        try:
            engine = self._engine_here()
        except GuardClosed:  # and the loop that it was in has ended: the next guard finds it in the spool
            self._post(op, cause)
            return
        self._closed()
        self._engine = engine
        self._note_owed(engine, op)
        delivered = engine.deliver(op, self._call.plan.identities)
        engine.tell.ended(op, self.subject, self._cause(op, cause))
        await delivered

    def _post(self, op: Settle | Release, cause: str) -> None:
        """The same without waiting for it."""
        self._closed()
        self._note_owed(self._engine, op)
        self._engine.courier.post(op)
        self._engine.tell.ended(op, self.subject, self._cause(op, cause))

    def _note_owed(self, engine: Engine, op: Settle | Release) -> None:
        if self._owes and isinstance(op, Settle):
            engine.tell.owes(op)

    def _cause(self, op: Settle | Release, cause: str) -> str:
        return UNDER_WAY if self._owes and isinstance(op, Settle) else cause
