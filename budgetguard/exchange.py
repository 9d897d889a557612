"""One request of a guarded client and its answer: reserved before it is sent, observed, settled once however it ends.

An integration makes one of these for each request with `Guard.exchange`, awaits `admit` before it sends `content`,
gives every byte of the answer to `feed`, and awaits `end` at its end. `endings.py` says what is settled when.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from budgetguard.answer import Answer
from budgetguard.attempts import next_attempt
from budgetguard.call import Origin
from budgetguard.core.amounts import MAX_AMOUNT
from budgetguard.endings import cause_of, charge_if_left, charge_of, failure_of, rule_of, status_of
from budgetguard.errors import BudgetExceeded, CallRefused, InvalidLabel, ReservationFinished, StoreError
from budgetguard.estimate import (
    Estimate,
    estimate,
    load_tokenizers,
    needs_tokenizers,
    unbounded_answers,
    why_so_much,
    with_bound,
)
from budgetguard.hold import Hold
from budgetguard.learning.estimate import LearnedEstimate
from budgetguard.parts import LEFT_UNREAD, Charge, Part
from budgetguard.prompts import prompt_hash
from budgetguard.refusal import explain
from budgetguard.reserving import open_holds
from budgetguard.usage import Usage
from budgetguard.wire.apis import FREE, Api, recognise
from budgetguard.wire.asked import Asked, asked, telling_usage
from budgetguard.wire.hosts import place_of
from budgetguard.wire.unknown import unknown_api_text
from budgetguard.within import raise_if_stopped

if TYPE_CHECKING:
    from budgetguard.clients import Gate
    from budgetguard.subjects import Judged

NO_USAGE = "the answer states no usage"
STEP_PERCENT = 25
"""A stream that reaches its estimated output takes so much more of it at once,"""
STEP_LEAST = 256
"""but at least so many tokens."""
_ADDED_BY_GUARD = ("model", "provider")


class Exchange:
    """One request and its answer.

    Args:
        request: what is asked for.
        url: where it goes; it only tells repeats from others.
        content: the request's body.
        labels: those that its client was wrapped with.
    """

    def __init__(self, gate: Gate, request: Asked, url: str, content: bytes, labels: Mapping[str, str]) -> None:
        self.content = content
        """The body that is to be sent."""
        self.answer: Answer | None = None
        """The response, once it has begun."""
        self._gate, self._request = gate, request
        self.hides_usage = request.hides_usage
        """The answer is asked for a chunk that the caller has not asked for."""
        self._estimate = Usage(0, 0)
        self._of_client = labels
        self._own = {"provider": request.api.provider}
        if request.model is not None:
            self._own["model"] = request.model
        self._attempt = next_attempt(url, content)
        self._passed_ms: Callable[[], int] = int
        self._hold: Hold | None = None
        self._part: Part | None = None
        self._is_own = True
        self._bound: int | None = None
        self._judged: Judged | None = None
        self._learned = LearnedEstimate(gate)
        self._is_prepared = self._ended = False
        self._may_grow = True
        self._asked_for = self._most_output = 0

    async def prepare(self) -> None:
        """Estimate, and say what is to be sent: it tells its usage and, where that is wanted, bounds its output.

        `admit` does so unless an integration, which signs requests, has done so before.
        """
        settings, request = self._gate.policy.estimate, self._request
        if self._is_prepared:
            return
        self._is_prepared = True
        if needs_tokenizers(settings):
            await asyncio.to_thread(load_tokenizers, settings)
        body = request.body
        most = estimate(request.api, body, len(self.content), settings)
        injects = not most.bounded and self._gate.policy.guard.inject_max_tokens and bool(body)
        answers = unbounded_answers(request.api, body) if injects else 0
        self._estimate = await self._estimated(most, answers)
        self._most_output = most.usage.output_tokens
        if answers:
            self._most_output = self._estimate.output_tokens
            body = with_bound(request.api, body, self._most_output)
        self._bound = self._most_output if most.bounded or answers else None
        if self.hides_usage:
            body = telling_usage(body)
        if body != request.body:
            # In ASCII: a lone surrogate, which JSON can spell, is no UTF-8.
            self.content = json.dumps(body, separators=(",", ":")).encode()

    async def admit(self) -> None:
        """Reserve the estimate, or take a share of the hold around the caller, where no label says otherwise.

        Errors: those of `Guard.reserve`. Nothing is to be sent then.
        """
        raise_if_stopped()  # also what would draw from a hold
        await self.prepare()
        self._hold, _ = self._around()
        if self._hold is not None:
            self._is_own = False
            self._part = await self._hold.draw(self._estimate, self._request.model, self._request.api.provider)
        else:
            self._hold = await self._reserved()
            self._part = self._hold.whole()
            self._attempt.operation_id = self._attempt.operation_id or self._hold.id
        self._learned.opened(self._hold.plan)
        clock = asyncio.get_running_loop().time
        began_s = clock()
        self._passed_ms = lambda: int((clock() - began_s) * 1000)

    async def _reserved(self) -> Hold:
        """A hold of its own; a refusal says why so much was asked, which only the request tells."""
        gate, request = self._gate, self._request
        judged = self._judged or gate.judge(self._own, self._of_client)
        try:
            return await gate.admit(judged, self._estimate, self._origin())
        except BudgetExceeded as refusal:
            explain(refusal, self._learned.why() or why_so_much(request.api, request.body, gate.policy.estimate))
            raise

    async def _estimated(self, most: Estimate, answers: int) -> Usage:
        """By what calls with its labels have used; as it is where the policy goes by the ceiling."""
        gate = self._gate
        if not (gate.policy.learns and most.usage.output_tokens):
            return most.usage
        try:
            _, judged = self._around()
            if judged is None:
                judged = self._judged = gate.subjects.judge(self._own, self._of_client)
        except (CallRefused, InvalidLabel):  # so will `admit`, and say so
            return most.usage
        if judged.subject.get("model", "") not in gate.forecasting.looked:
            await gate.ready(judged.subject)
        return self._learned.made(judged, most, answers)

    def _origin(self) -> Origin:
        key, attempt = self._gate.policy.ledger.prompt_key, self._attempt
        hashed = "" if key is None else prompt_hash(key, self._request.body, self.content)
        return Origin(attempt.operation_id, attempt.number, hashed, self._request.api.kind)

    @property
    def observed(self) -> Answer:
        """The answer, once there is one."""
        if self.answer is None:
            raise RuntimeError("this exchange has no answer yet: call answered() first")
        return self.answer

    def answered(self, status: int, headers: Mapping[str, str]) -> Answer:
        """The response has begun.

        Args:
            headers: by lower-case name.
        """
        self.answer = answer = Answer(
            self._request, self._estimate, status, headers, hides_usage=self.hides_usage,
            bound=self._bound, passed_ms=self._passed_ms,
        )  # fmt: skip
        if self._part is not None and answer.is_stream:
            # Whoever drops the stream has taken this. It must not hold the exchange: that holds the hold.
            self._part.follow(partial(charge_if_left, self._gate.policy.guard.on_cancel, answer, self._estimate))
        return answer

    async def keep_ahead(self) -> None:
        """Let the hold grow where a stream comes near its estimate, before more of it is read.

        Raises:
            BudgetExceeded: a budget has no room for more, and the policy stops the stream there.
        """
        part, hold = self._part, self._hold
        if part is None or hold is None or not self.is_short():
            return
        output_tokens = self.observed.streamed_tokens()
        more = max(STEP_LEAST, output_tokens * STEP_PERCENT // 100)
        input_tokens = self._estimate.input_tokens
        most = self._most_output if output_tokens < self._most_output else MAX_AMOUNT - input_tokens
        wanted = Usage(input_tokens, min(output_tokens + more, most))
        goes_on = self._gate.policy.guard.on_stream_exceed == "finish" or output_tokens < self._most_output
        try:
            await hold.widen(part, wanted, goes_on=goes_on)
            self._estimate = wanted
        except BudgetExceeded:
            # One that passes what was learned is as it was foreseen: it goes on, and is asked for again at its most.
            self._may_grow, self._asked_for = output_tokens < self._most_output, self._most_output
            if not goes_on:
                raise
        except ReservationFinished:
            self._may_grow = False  # its overage is recorded
        except StoreError:
            self._asked_for = wanted.output_tokens  # it is asked again before it comes to that

    def is_short(self) -> bool:
        """A stream has come to its estimate, and the hold may still grow."""
        answer = self.answer
        if answer is None or not self._may_grow:
            return False
        return answer.reaches(max(self._estimate.output_tokens, self._asked_for))

    async def end(self, error: BaseException | None) -> None:
        """Settle, once. `error` is what ended the exchange; None if the caller has had the whole answer."""
        hold, part = self._hold, self._part
        if self._ended or hold is None or part is None:
            return
        self._ended = True
        charge, cause = self._charged(error), cause_of(error, self.answer)
        self._learned.ended()
        self._learned.learn(charge, cause)
        self._attempt.has_failed = cause not in ("", LEFT_UNREAD)
        if not self._is_own:
            await hold.finish(part, charge)
        elif hold.open:  # its guard may have been closed meanwhile, and it with that
            if charge is None:
                await hold.release_after(failure_of(error, self.answer))
            else:
                part.end(charge)
                await hold.end(status_of(charge, error, self.answer, cause), cause, NO_USAGE)

    def __del__(self) -> None:
        """Nobody reads it any more: a hold that is shared learns how far it came. One of its own sees to itself."""
        hold, part = self._hold, self._part
        self._learned.ended()
        if self._ended or self._is_own or hold is None or part is None:
            return
        charge = part.charge() or Charge(self._estimate, "estimate")
        hold.leave(part, charge)

    def _charged(self, error: BaseException | None) -> Charge | None:
        """What is settled: None for nothing at all."""
        answer = self.answer
        known = None if answer is None else answer.charge()
        charge = known or charge_of(rule_of(error, answer, self._gate.policy.guard), answer, self._estimate)
        if charge is None:
            return None
        return charge._replace(streamed=self._request.streams) if answer is None else answer.timed(charge)

    def _around(self) -> tuple[Hold, Judged] | tuple[None, None]:
        """The innermost open hold around the caller that is this guard's, and the labels that the call has in it.

        None where a label of the call says otherwise than the hold's.
        """
        for hold in reversed(open_holds()):
            if hold.belongs_to(self._gate.shared):
                inherited = {name: value for name, value in hold.subject.items() if name not in _ADDED_BY_GUARD}
                judged = self._gate.subjects.judge(self._own, {**inherited, **self._of_client})
                return (hold, judged) if _same_caller(hold.subject, judged.subject) else (None, None)
        return None, None


def api_of(gate: Gate, method: str, url: str, labels: Mapping[str, str]) -> Api | None:
    """Arguments, return and errors as for `Guard.guarded_api`."""
    if gate.policy.mode == "off":
        return None
    host, path = place_of(url)
    api = recognise(method, host, path, gate.policy.hosts)
    passes = gate.policy.guard.on_unknown_api == "pass" or gate.policy.mode == "shadow"
    if api == FREE or (api is None and passes):
        return None
    if api is None or isinstance(api, str):
        raise gate.unguarded(unknown_api_text(method, host, path, gate.policy.hosts), labels)
    return api


def exchange_of(gate: Gate, api: Api, url: str, content: bytes, labels: Mapping[str, str]) -> Exchange:
    """The exchange of one request. Arguments as for `Guard.exchange`."""
    return Exchange(gate, asked(api, content), url, content, labels)


def _same_caller(held: Mapping[str, str], mine: Mapping[str, str]) -> bool:
    """No label says otherwise than the hold's; those that the guard adds itself may be missing there."""
    return all(held.get(name, value if name in _ADDED_BY_GUARD else None) == value for name, value in mine.items())
