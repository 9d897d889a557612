"""What an event loop does again and again: heartbeats, sweeps, the replay of the spool, a look at the policy's file."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import Context
from typing import Any, TypeVar

from budgetguard.errors import BudgetGuardError
from budgetguard.events import Event, StoreProblem

Sent = TypeVar("Sent")
Answer = TypeVar("Answer")
Duty = Callable[[], Coroutine[Any, Any, Any]]


class Duties:
    """The duties of one event loop.

    Between its turns a duty is a timer, not a task: whoever waits for all tasks of the loop does not wait for it, and a
    loop that is dropped leaves nothing pending. They run in a context of their own, and do not keep the first caller's.
    """

    def __init__(self, notify: Callable[[Event], None]) -> None:
        self._notify = notify
        self._loop = asyncio.get_running_loop()
        self._context = Context()
        self._waiting: dict[str, tuple[asyncio.TimerHandle, Callable[[], float], Duty, float]] = {}
        self._turns: set[asyncio.Task[None]] = set()
        self._ended = False

    def every(self, period_s: Callable[[], float], duty: Duty, jitter: float = 0.0) -> None:
        """Do it after a period, and then again and again; a store that is away does not end it."""
        if not self._ended:
            pause_s = period_s() * random.uniform(1 - jitter, 1 + jitter)
            timer = self._loop.call_later(pause_s, self.begin, period_s, duty, jitter, context=self._context)
            self._waiting[duty.__name__] = timer, period_s, duty, jitter

    def begin(self, period_s: Callable[[], float], duty: Duty, jitter: float = 0.0) -> None:
        """Do it now, and then `every` period."""
        self._waiting.pop(duty.__name__, None)

        def again(turn: asyncio.Task[None]) -> None:
            self._turns.discard(turn)
            self.every(period_s, duty, jitter)

        turn = self._loop.create_task(self._do(duty), context=self._context)
        self._turns.add(turn)
        turn.add_done_callback(again, context=self._context)

    def hurry(self) -> None:
        """Periods may have become shorter: no duty waits longer than its period is now."""
        for timer, period_s, duty, jitter in list(self._waiting.values()):
            if timer.when() > self._loop.time() + period_s():
                timer.cancel()
                self.every(period_s, duty, jitter)

    async def _do(self, duty: Duty) -> None:
        try:
            await duty()
        except BudgetGuardError as error:
            self._notify(StoreProblem(duty.__name__, str(error)))

    async def end(self) -> None:
        """Begin nothing more, and let what is being done be finished."""
        self.drop()
        if self._turns:
            await asyncio.wait(self._turns)

    def drop(self) -> None:
        """Begin nothing more: the event loop runs no longer."""
        self._ended = True
        for timer, *_ in self._waiting.values():
            timer.cancel()


async def answers_to(
    verb: str,
    ask: Callable[[Sequence[Sent]], Awaitable[Sequence[Answer]]],
    ops: Sequence[Sent],
    notify: Callable[[Event], None],
) -> list[Answer | None]:
    """The answer to each operation; None where it failed: one spoiled row hides nothing of the others."""
    answers: list[Answer | None] = []
    problems: dict[str, None] = {}
    for result in await asyncio.gather(*(ask([op]) for op in ops), return_exceptions=True):
        if isinstance(result, BudgetGuardError):
            problems[str(result)] = None
            answers.append(None)
        elif isinstance(result, BaseException):
            raise result
        else:
            answers.append(result[0])
    for problem in problems:
        notify(StoreProblem(verb, problem))
    return answers
