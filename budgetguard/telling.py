"""What the observers of a guard are told, and what they are told only once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from budgetguard.call_events import Released
from budgetguard.core.model import Account, Alert, Plan, Violation
from budgetguard.core.verbs import Release, Settle, Settlement
from budgetguard.errors import BudgetExceeded, BudgetGuardError
from budgetguard.events import (
    AlertReached,
    Assumed,
    Event,
    Exhausted,
    Late,
    OutboxFilling,
    Overage,
    Refused,
    Settled,
    SettleRejected,
    StoreProblem,
    Unmatched,
    WouldRefuse,
    WritesLost,
)
from budgetguard.refusal import budget_exceeded, count_open_calls

if TYPE_CHECKING:
    from budgetguard.call import Call
    from budgetguard.policy import SubjectKey
    from budgetguard.store import Store

TOLD_KEPT = 4096
OUTBOX_NEAR = 80
"""Per cent of the rows that a store keeps for the ledger, from which on it is told that they must be drained."""
COUNT_KEPT_S = 1.0
COUNT_PAUSES = 20
"""How many times as long as it took to count open calls nothing is counted afterwards."""
COUNTED_AT_ONCE = 8
"""For how many accounts open calls are counted at the same time."""
Spawn = Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]]


class Telling:
    """Tells for one event loop.

    Args:
        spawn: runs a coroutine beside the caller, and keeps it alive.
    """

    def __init__(self, store: Store, notify: Callable[[Event], None], spawn: Spawn) -> None:
        self._store = store
        self._notify = notify
        self._spawn = spawn
        self._told: set[Any] = set()
        self._guesses: dict[str, Settle] = {}
        self._counts: dict[str, tuple[float, asyncio.Task[str | None]]] = {}
        self._count_again_at = 0.0
        self._counting = 0

    def settled(self, op: Settle, answer: Settlement, is_spooled: bool, took_s: float | None) -> None:
        """What became of a settle, and how long the store took where it was asked for the first time.

        A guess whose truth is owed is no `Settled`: that comes with the truth, and once.
        """
        if answer.word in ("late", "uncounted"):
            self._notify(Late(op.id, answer.word))
        elif answer.word == "conflict":
            self._notify(SettleRejected(op.id, answer.word))
        # Recorded already, and nobody else has asked: the store's first answer was lost on its way.
        is_new = answer.word in ("settled", "late") or (answer.word == "replayed" and not is_spooled)
        is_guess = self._guesses.get(op.id) is op
        if is_guess:
            del self._guesses[op.id]
        if is_new and not is_guess:
            row = op.usage
            self._notify(
                Settled(
                    op.id, op.info.labels, op.status, row.prompt_tokens, row.completion_tokens, row.cost_nanousd,
                    op.latency_ms, row.cache_read_tokens, row.cache_write_tokens, row.reasoning_tokens,
                    op.estimate.tokens, row.source, took_s, op.error_type,
                )
            )  # fmt: skip
            if any(answer.overage):
                self._notify(Overage(op.id, op.info.labels, answer.overage, len(answer.overdrawn)))

    def owes(self, op: Settle) -> None:
        """This guess ends a hold while calls in it are under way: a settle with the truth follows, and will be told."""
        if len(self._guesses) >= TOLD_KEPT:
            self._guesses.clear()
        self._guesses[op.id] = op

    def ended(self, op: Settle | Release, subject: Mapping[str, str], cause: str) -> None:
        """A hold was ended with nothing to charge, or with a guess; the store may hear of it later."""
        if isinstance(op, Release):
            self._notify(Released(op.id, subject, cause))
        elif op.status == "assumed":
            self._notify(Assumed(op.id, subject, cause))

    def alerts(self, alerts: Sequence[Alert]) -> None:
        """Thresholds that this worker was told to announce."""
        for alert in alerts:
            self._notify(AlertReached(alert.account, alert.threshold, alert.limit, alert.level))

    def unmatched(self, key: SubjectKey) -> None:
        """No budget covers calls with these labels: once per label set."""
        if self._first_time(key):
            self._notify(Unmatched(dict(key)))

    def exhausted(self, plan: Plan, violations: Sequence[Violation], now_ms: int) -> None:
        """For limits that are spent: let the fleet's first refusal of the window tell it."""
        alerted = {c.account.key for c in plan.claims if c.limit in c.alert_levels}
        for violation in violations:
            account = violation.account
            if violation.reason == "spent" and account.key in alerted:
                # A rolling period has no windows: the store may be asked again once each period.
                turn = now_ms // account.period.span_ms if account.period.kind == "rolling" else 0
                if self._first_time((account.key, turn)):
                    self._spawn(self._announce(violation, (account.key, turn)))

    async def state(self) -> None:
        """Tell what the store has lost, and if undrained ledger rows come near to the most that it keeps."""
        if (lost := await self._store.lost_writes()) is not None:
            self._notify(WritesLost(lost.since_ms, lost.until_ms))
        try:
            found = await self._store.backlog()
        except BudgetGuardError as error:
            self._notify(StoreProblem("backlog", str(error)))
            return
        if found is not None and found.rows * 100 >= found.most * OUTBOX_NEAR:
            self._notify(OutboxFilling(found.rows, found.most))

    async def refusal(
        self, call: Call, violations: Sequence[Violation], now_ms: int, goes_on: bool = False
    ) -> BudgetExceeded:
        """Tell that budgets refused the call; the error that says so, with the number of calls that hold them.

        Args:
            goes_on: it goes on all the same.
        """
        counts = {v.account.key: await self._open_calls(v.account) for v in violations if v.reason == "held"}
        known = {key: count for key, count in counts.items() if count not in (None, "0")}
        refusal = budget_exceeded(call.id, call.subject, violations, now_ms, known)
        if goes_on:
            budgets = tuple(dict.fromkeys(violation.account.budget for violation in violations))
            self._notify(WouldRefuse(call.id, call.subject, "BudgetExceeded", budgets, call.asked_of(budgets)))
        else:
            self._notify(Refused(call.id, call.subject, "budget", refusal.violations, refusal.retry_after))
        return refusal

    def _first_time(self, what: Any) -> bool:
        if what in self._told:
            return False
        if len(self._told) >= TOLD_KEPT:
            self._told.clear()
        self._told.add(what)
        return True

    async def _announce(self, violation: Violation, told: Any) -> None:
        try:
            (first,) = await self._store.announce([(violation.account, violation.limit)])
        except BudgetGuardError as error:
            self._told.discard(told)
            self._notify(StoreProblem("announce", str(error)))
            return
        if first:
            self._notify(Exhausted(violation.account, violation.limit, violation.spent))

    async def _open_calls(self, account: Account) -> str | None:
        """How many calls hold the account, as counted within the last second; None if that would cost too much now."""
        now = self._now()
        counted_at, counting = self._counts.get(account.key, (0.0, None))
        if counting is None or now - counted_at > COUNT_KEPT_S:
            if now < self._count_again_at or self._counting >= COUNTED_AT_ONCE:
                return None
            if len(self._counts) >= TOLD_KEPT:
                self._counts.clear()
            counting = self._spawn(self._count(account))
            counting.add_done_callback(lambda _: self._counted(now))
            self._counting += 1
            self._counts[account.key] = (now, counting)
        return await asyncio.shield(counting)

    async def _count(self, account: Account) -> str | None:
        try:
            return await count_open_calls(self._store, account)
        except BudgetGuardError as error:
            self._notify(StoreProblem("read", str(error)))
            return None

    def _counted(self, began: float) -> None:
        """It is for a text only: a storm of refusals, over however many accounts, must not keep the store busy."""
        self._counting -= 1
        self._count_again_at = self._now() + (self._now() - began) * COUNT_PAUSES

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
