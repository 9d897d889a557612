"""The replay: calls arrive and complete on the trace's clock, and the policy decides each, through a real store."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections.abc import Callable, Mapping, Sequence

from budgetguard.call import Call, Priced, priced
from budgetguard.core.verbs import Reserve, Settle, Verdict
from budgetguard.errors import CallUnmatched, ConfigError, StoreError
from budgetguard.policy import Policy, StoreSettings
from budgetguard.simulation.bulk import Boundaries, Bulk
from budgetguard.simulation.callers import Callers
from budgetguard.simulation.delays import Delays, Ended
from budgetguard.simulation.estimates import Method, Outputs
from budgetguard.simulation.report import Report, Tally
from budgetguard.simulation.trace import TracedCall
from budgetguard.simulation.truth import Truth
from budgetguard.store import Store
from budgetguard.stores import let_lapse, open_store
from budgetguard.testing.clock import FakeClock
from budgetguard.usage import Usage

IN_MEMORY = "sqlite:///:memory:"
HOST = "simulation"
REPLAY_KEEP_MS = 3_600_000
KEPT_ROWS = 1
PATIENCE_MS = 120_000
"""With a store in memory, of which only a busy machine makes one wait."""
SPAN_MS = 1_000
"""How late the times of the ledger may be: those of `bulk`'s transactions."""


def simulate(
    policy: Policy,
    calls: Sequence[TracedCall],
    *,
    labels: Mapping[str, str] | None = None,
    hold_output: int | None = None,
    estimate: Method | None = None,
    inject: bool = False,
    store_url: str = IN_MEMORY,
    namespace: str = "simulation",
    progress: Callable[[int], None] = lambda done: None,
) -> Report:
    """What `policy` does with the calls of a trace, the earliest first. Not from inside an event loop.

    A call is asked with its own prompt and an estimate of its output, and takes 0.3 s and 20 ms for each output token
    from its admission. What waits for a budget asks again as a guard's calls do, without jitter. No lease ends before
    its call. The same arguments give the same report.

    Args:
        labels: of every call, where its trace says nothing else.
        hold_output: tokens that bound the output of a call; by default what the largest completion of the trace has.
        estimate: of the output, by default what the policy says: "ceiling" is that bound; "learned" goes by the calls
            that have completed before, but for those of a budget that goes by the ceiling; "oracle" knows each output.
        inject: a call ends where its estimate does, as with `guard.inject_max_tokens`.
        store_url: where to replay, in `namespace`, which must be new. The accounts and the ledger stay there, and times
            in the ledger are up to a second late; in Redis the accounts go within a day, and no ledger is kept.
        progress: told now and then how many calls have been admitted or refused.

    Raises:
        ConfigError: the policy is off, or the store's URL is of no store.
        LabelRequired, InvalidLabel, PriceUnknown: a call lacks what the policy needs; nothing has begun.
        StoreError: the store did not do what was asked.
    """
    if policy.mode == "off":
        raise ConfigError("mode", ['it is "off", which counts nothing: simulate with "enforce" or "shadow"'])
    largest = max((call.completion_tokens for call in calls), default=0)
    bound, method = largest if hold_output is None else hold_output, estimate or policy.estimate.output
    replay = Replay(policy, calls, labels or {}, Outputs(policy, method, bound, inject))
    asyncio.run(_replayed(replay, policy.store, store_url, namespace, progress))
    return replay.tally.report()


async def _replayed(
    replay: Replay, settings: StoreSettings, store_url: str, namespace: str, progress: Callable[[int], None]
) -> None:
    """Run the replay in a store that is opened for it. Nobody will drain the ledger that it keeps in Redis."""
    timeout_ms = PATIENCE_MS if store_url == IN_MEMORY else settings.timeout_ms
    store = open_store(
        store_url, namespace, timeout_ms, replay.clock,
        outbox_max=KEPT_ROWS, ledger="none", allow_eviction=settings.allow_eviction,
    )  # fmt: skip
    try:
        await store.open()
        try:
            await replay.run(store, progress)
        finally:  # interrupted ones leave their keys too
            with contextlib.suppress(StoreError):
                await let_lapse(store_url, namespace, timeout_ms)
    finally:
        await store.aclose()


class Replay:
    """What happens on the trace's clock: of one instant first what completes, then who waits, then who arrives."""

    def __init__(
        self, policy: Policy, calls: Sequence[TracedCall], labels: Mapping[str, str], outputs: Outputs
    ) -> None:
        self._policy = policy
        self._calls = calls
        self._callers = Callers(policy, calls, labels)
        self._start_ms = self._callers.start_ms(policy)
        self._callers.check_prices(policy, self._start_ms)
        self._outputs = outputs
        self._truth = Truth()
        self._lease_ms = max((call.takes_ms for call in calls), default=0) + SPAN_MS
        self.clock = FakeClock(self._start_ms)
        self.tally = Tally(policy)
        periods = {limit.period for budget in policy.budgets for limit in budget.parsed_limits(policy.timezone)}
        boundaries = Boundaries(periods)
        self._bulk = Bulk(self.clock, boundaries, SPAN_MS, self.tally.answered)
        self._delays = Delays(boundaries, self._match, self._ask)
        self._traced: dict[str, TracedCall] = {}
        """By id: the calls that wait or are open."""
        self._open: list[tuple[int, str, Call, int]] = []
        """When each completes, and when it was admitted: a heap."""

    async def run(self, store: Store, progress: Callable[[int], None]) -> None:
        """Let all calls arrive, and all that are admitted complete, in a store that is open. Errors: the store's."""
        arrived = 0
        while (now_ms := self._next_ms(arrived)) is not None:
            arrived = self._happen(now_ms, arrived)
            if self._bulk.full:
                await self._bulk.send_full(store)
                progress(self.tally.calls)
        await self._bulk.send_all(store)
        progress(self.tally.calls)

    def _next_ms(self, arrived: int) -> int | None:
        """The next instant at which anything happens."""
        instants = [self._start_ms + self._calls[arrived].at_ms] if arrived < len(self._calls) else []
        if self._open:
            instants.append(self._open[0][0])
        if (look_ms := self._delays.next_ms()) is not None:
            instants.append(look_ms)
        return min(instants, default=None)

    def _happen(self, now_ms: int, arrived: int) -> int:
        """All that happens at an instant; how many calls have arrived then."""
        while self._open and self._open[0][0] == now_ms:
            self._complete(*heapq.heappop(self._open))
        for ended in self._delays.look(now_ms):
            self._end(ended, now_ms)
        while arrived < len(self._calls) and self._start_ms + self._calls[arrived].at_ms == now_ms:
            self._arrive(self._calls[arrived], arrived, now_ms)
            arrived += 1
        return arrived

    def _arrive(self, traced: TracedCall, number: int, now_ms: int) -> None:
        subject, key, _ = self._callers.of(traced)
        match = self._policy.match(key, now_ms)
        usage = Usage(traced.prompt_tokens, self._outputs.estimate(traced, subject, match, now_ms))
        call = Call(f"r-{number:09d}", subject, key, usage)
        try:
            self._match(call, now_ms)
        except CallUnmatched:
            self.tally.refuse(())
            return
        self._traced[call.id] = traced
        ended = self._delays.arrive(call, now_ms)
        if ended is not None:
            self._end(ended, now_ms)

    def _end(self, ended: Ended, now_ms: int) -> None:
        """A call waits no longer."""
        call = ended.call
        traced = self._traced[call.id]
        if not ended.admitted:
            del self._traced[call.id]
            fits = self._truth.fits(call.plan, self._actual(call, traced, now_ms).amounts, ended.violations, now_ms)
            self.tally.refuse(ended.violations, fits=fits)
            return
        if ended.waited_ms:
            self.tally.wait(ended.waited_ms, ended.budgets)
        written = self._outputs.written(traced, call)
        if written < traced.completion_tokens:
            self.tally.cut += 1
            traced = self._traced[call.id] = traced._replace(completion_tokens=written)
        self._outputs.opened(call.plan)
        self._truth.take(call.plan, self._actual(call, traced, now_ms).amounts, now_ms)
        heapq.heappush(self._open, (now_ms + traced.takes_ms, call.id, call, now_ms))

    def _complete(self, now_ms: int, id: str, call: Call, admitted_ms: int) -> None:
        traced = self._traced.pop(id)
        self._outputs.ended(traced, call, now_ms)
        actual = self._actual(call, traced, admitted_ms)
        op = Settle(
            id, call.plan, actual.amounts, actual.row, call.info, "settled", call.priced.amounts, admitted_ms,
            REPLAY_KEEP_MS, now_ms, traced.takes_ms, "", actual.source,
        )  # fmt: skip
        self._bulk.settle(op, now_ms)
        self._delays.settled(call, now_ms)

    def _actual(self, call: Call, traced: TracedCall, at_ms: int) -> Priced:
        policy = self._policy
        return priced(
            policy, traced.model, Usage(traced.prompt_tokens, traced.completion_tokens), at_ms, "reported",
            lenient=policy.mode == "shadow", provider=call.subject.get("provider"),
            in_dollars="usd" in call.plan.units,
        )  # fmt: skip

    def _match(self, call: Call, now_ms: int) -> None:
        call.match(self._policy, now_ms, HOST, "")

    def _ask(self, call: Call, now_ms: int) -> Verdict:
        op = Reserve(call.id, call.plan, call.priced.amounts, call.info, self._lease_ms, REPLAY_KEEP_MS, now_ms)
        return self._bulk.reserve(op, now_ms)
