"""Learned estimates of the outputs of one guard's requests: asked before they are sent, told when they have ended.

What is learned is shared through the store, by a duty apart from every call: what was added here is sent each second,
and what all have added is read again. Nothing waits for it but the first estimate, for a moment.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from budgetguard.core.model import Plan
from budgetguard.errors import BudgetGuardError
from budgetguard.events import Event, StoreProblem
from budgetguard.learning.dollar_room import DollarRoom
from budgetguard.learning.forecast import Forecast, Source
from budgetguard.learning.learned import keys_of
from budgetguard.learning.unsent import Unsent
from budgetguard.store import Store
from budgetguard.usage import Usage

if TYPE_CHECKING:
    from budgetguard.core.model import Claim
    from budgetguard.estimate import Estimate
    from budgetguard.estimates.settings import EstimateSettings
    from budgetguard.policy import Policy
    from budgetguard.subjects import Judged

READ_TURNS: Final = 10
"""In so many turns what all have learned of the sets in use is read again, some in each: one costs 0.2 ms."""
READ_MOST: Final = 32
"""So many of these sets in one turn."""
BEGIN_MOST: Final = 128
"""Sets that a new worker reads before its first estimate: those that were written last."""
LAST_SHARE_S: Final = 2.0
"""For so long an ending guard waits until the store has what was learned."""


class Guess(NamedTuple):
    """What a request was estimated at: its input by weight, its output and input by what was learned; 0 for not so."""

    weighed: int = 0
    forecast: int = 0
    input: int = 0


class Forecasting:
    """What the engines of one guard have learned together. From any thread.

    It begins anew where a reload changes how fast things fade.
    """

    def __init__(self) -> None:
        self._unsent: Unsent | None = None
        self._turn = 0
        self.looked: set[str] = set()
        """Models of which it was read what others have learned, or waited for as long as anybody may."""
        self._dollars = DollarRoom()
        self._has_told = False
        self._lock = threading.RLock()  # one that is collected meanwhile ends its call
        self._settings: EstimateSettings | None = None
        self._forecast: Forecast | None = None

    def estimated(
        self, policy: Policy, judged: Judged, claims: Sequence[Claim], most: Estimate, now_ms: int, answers: int
    ) -> Usage | None:  # fmt: skip
        """The estimate with the input and output that calls like it have; None where it goes by the ceiling.

        Args:
            claims: further ones than the policy's, of runs.
            most: its output is the most that the request or its model allows.
            answers: so many are to be bounded by it; 0 where it becomes no bound of the request.
        """
        subject, match = judged.subject, policy.match(judged.key, now_ms)
        if "ceiling" in match.estimates or (None in match.estimates and policy.estimate.output == "ceiling"):
            return None
        plan = _with(match.plan, claims)
        input_tokens, bound = most.usage.input_tokens, most.usage.output_tokens
        with self._lock:
            forecast = self._for(policy.estimate)
            if not most.counted:
                input_tokens = forecast.input_tokens(subject, input_tokens, now_ms)
            room = self._dollars.tokens(policy, subject, plan, input_tokens, now_ms)
            if answers:
                tokens = forecast.bound(subject, plan, input_tokens, bound, now_ms, room, answers)
            else:
                tokens = forecast.tokens(subject, plan, input_tokens, bound, now_ms, room)
        return Usage(input_tokens, tokens)

    def source(
        self, policy: Policy, judged: Judged, claims: Sequence[Claim], now_ms: int, *, injected: bool
    ) -> Source | None:  # fmt: skip
        """From what a call like this is estimated; None where nothing is known."""
        plan = _with(policy.match(judged.key, now_ms).plan, claims)
        with self._lock:
            return self._for(policy.estimate).source(judged.subject, plan, injected=injected)

    def opened(self, settings: EstimateSettings, plan: Plan) -> None:
        """A call was admitted."""
        with self._lock:
            self._present(settings).opened(plan)

    def ended(self, settings: EstimateSettings, plan: Plan) -> None:
        """It is open no longer."""
        with self._lock:
            self._present(settings).ended(plan)

    def learn(
        self, policy: Policy, subject: Mapping[str, str], guess: Guess, usage: Usage, now_ms: int, *, is_cut: bool
    ) -> None:  # fmt: skip
        """Its provider has told what it used."""
        with self._lock:
            found = self._present(policy.estimate)
            found.learn(subject, usage.output_tokens, now_ms, is_cut=is_cut, estimated=guess.forecast)
            if guess.weighed and usage.input_tokens:
                found.learn_input(subject, guess.weighed, usage.input_tokens, now_ms, estimated=guess.input)

    @property
    def waits(self) -> bool:
        """Whether anything waits to be sent."""
        return self._unsent is not None and self._unsent.waits

    async def begin(self, settings: EstimateSettings, store: Store, now_ms: Callable[[], int]) -> None:
        """Know of the sets that were written last: a new worker is not blind. Errors: those of the store."""
        with self._lock:
            self._for(settings)
        await self._read(store, None, now_ms)

    async def look(
        self, settings: EstimateSettings, store: Store, subject: Mapping[str, str], now_ms: Callable[[], int]
    ) -> None:  # fmt: skip
        """Know of the sets of a call, where its model was not among them. Errors: those of the store."""
        with self._lock:
            found, unsent = self._present(settings), self._unsent
            widest, *_ = keys = (*keys_of(subject), *keys_of(subject, "in"))
            if unsent is None or widest in found.learned:
                return
            words = list(map(unsent.words, keys))
        await self._read(store, words, now_ms)

    async def share(self, store: Store, now_ms: Callable[[], int], notify: Callable[[Event], None]) -> None:
        """Send what was learned here, and read what all have learned. A store that fails is told once, until it works.

        What could not be sent stays here, for the next time.
        """
        if self._forecast is None:
            return
        self._turn += 1
        try:
            await self._send(store)
            with self._lock:
                wanted = self._forecast.learned.wanted(READ_MOST, anew=self._turn % READ_TURNS == 0)
                words = [] if self._unsent is None else list(map(self._unsent.words, wanted))
            if words:
                await self._read(store, words, now_ms)
        except BudgetGuardError as error:
            if not self._has_told:
                self._has_told = True
                notify(StoreProblem("share_outputs", str(error)))
        else:
            self._has_told = False

    async def last_share(self, store: Store, notify: Callable[[Event], None]) -> None:
        """When a guard ends: what cannot be sent in a moment is lost, and that is told."""
        try:
            async with asyncio.timeout(LAST_SHARE_S):
                await self._send(store)
        except (BudgetGuardError, TimeoutError) as error:
            notify(StoreProblem("share_outputs", str(error) or "no answer in time"))

    async def _send(self, store: Store) -> None:
        while True:
            with self._lock:
                unsent, settings = self._unsent, self._settings
                flush = None if unsent is None else unsent.take()
            if unsent is None or flush is None or settings is None:
                return
            await store.note_outputs(flush.id, settings.half_life_ms, flush.rows)
            with self._lock:
                unsent.sent(flush)

    async def _read(self, store: Store, words: Sequence[str] | None, now_ms: Callable[[], int]) -> None:
        """What is read takes the place of what was known, but for what the store had not been sent yet."""
        with self._lock:
            asked = self._unsent
            since = 0 if asked is None else asked.flushes
        found = await store.read_outputs(words, BEGIN_MOST)
        for name, counts, _ in reversed(found):  # the latest last, as if it had been asked for last
            with self._lock:
                forecast, unsent = self._forecast, self._unsent
                key = None if unsent is None else unsent.key(name)
                if forecast is None or unsent is None or unsent is not asked or key is None:
                    continue
                if unsent.was_sent(key, since):  # by another event loop, meanwhile
                    forecast.learned.read_again(key)
                else:
                    forecast.learned.replace(key, counts, unsent.of(key), now_ms())
            await asyncio.sleep(0)  # whoever has a call under way comes first

    def _for(self, settings: EstimateSettings) -> Forecast:
        found, known = self._forecast, self._settings
        if found is None or settings is not known:
            if found is None or known is None or settings.half_life_ms != known.half_life_ms:
                self._unsent = Unsent(settings.half_life_ms)
                found = self._forecast = Forecast(settings, self._unsent)
            self._settings, found.quantile = settings, settings.quantile
        return found

    def _present(self, settings: EstimateSettings) -> Forecast:
        """What is being learned: a call from before a reload does not bring the old settings back."""
        return self._for(settings) if self._forecast is None else self._forecast


def _with(plan: Plan, claims: Sequence[Claim]) -> Plan:
    return Plan((*plan.claims, *claims)) if claims else plan
