"""One place that alerts go to, a webhook or a callable: a line of messages, sent one after the other."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from budgetguard.alerts.posting import NotTaken, TryAgain, Webhook, python_ends
from budgetguard.alerts.raised import AlertsUndelivered, OnAlert
from budgetguard.alerts.shapes import Message
from budgetguard.events import Event

if TYPE_CHECKING:
    import tenacity

MOST_WAITING = 200
ATTEMPTS = 6
FIRST_PAUSE_S, MOST_PAUSE_S = 0.5, 60.0
MOST_A_MINUTE = 30
"""Slack takes one message a second, and Teams four: https://api.slack.com/apis/rate-limits."""


class Ending:
    """Whether the guard ends, and how long what is being sent may still take. For the event loop that runs."""

    def __init__(self) -> None:
        self.has_begun = asyncio.Event()
        self._until_s = 0.0

    def begin(self, last_s: float) -> None:
        """So much time is left; whoever waits goes on."""
        self._until_s = asyncio.get_running_loop().time() + last_s
        self.has_begun.set()

    def is_too_long(self, pause_s: float) -> bool:
        """Whether the guard ends before such a pause is over."""
        return self.has_begun.is_set() and asyncio.get_running_loop().time() + pause_s >= self._until_s


class Line:
    """Sends what it is given, one after the other, and tells of what it could not send.

    Args:
        target: a webhook, or a callable of the user.
        ending: of the guard.
    """

    def __init__(self, target: Webhook | OnAlert, notify: Callable[[Event], None], ending: Ending) -> None:
        self._target = target
        self._notify = notify
        self._ending = ending
        self._waiting: deque[Message] = deque()
        self._sending: asyncio.Task[None] | None = None
        self._worker: Any = None
        self._undelivered = 0
        self._is_down = False
        self._error = ""
        self._rate: Any = None

    def __str__(self) -> str:
        target = self._target
        return str(target) if isinstance(target, Webhook) else getattr(target, "__qualname__", type(target).__name__)

    def put(self, message: Message) -> None:
        """Send it. Where too many wait already it is counted as undelivered."""
        if len(self._waiting) >= MOST_WAITING:
            self._failed("more alerts came than could be sent")
            return
        self._waiting.append(message)
        if self._sending is None or self._sending.done():
            self._sending = asyncio.get_running_loop().create_task(self._send_all())

    async def ended(self, last_s: float) -> None:
        """Give what waits so much time, and tell what was not sent."""
        if self._sending is not None:
            await asyncio.wait([self._sending], timeout=last_s)
            if not self._sending.done():
                self._sending.cancel()
                await asyncio.wait([self._sending])
        if isinstance(self._target, Webhook):
            await self._target.aclose()
        self.drop()

    def drop(self) -> None:
        """Nothing more is sent: tell how much was not."""
        self._undelivered += len(self._waiting)
        self._waiting.clear()
        if self._worker is not None:
            self._worker.stop()
        self._tell(self._error or "the guard ended before they were sent")

    async def _send_all(self) -> None:
        while self._waiting:
            try:
                await self._send(self._waiting[0])
            except Exception as error:  # noqa: BLE001 - an alert that cannot be sent must disturb nobody
                self._failed(str(error) if isinstance(error, NotTaken) else f"{type(error).__name__}: {error}")
            else:
                self._is_down = False
                self._tell(self._error)
            self._waiting.popleft()

    async def _send(self, message: Message) -> None:
        if isinstance(self._target, Webhook):
            await self._post(self._target, message)
        elif inspect.iscoroutinefunction(self._target):
            await self._target(message.alert)
        else:
            call = partial(self._target, message.alert)
            answer = call() if python_ends() else await self._in_thread(call)
            if inspect.isawaitable(answer):
                await answer

    def _in_thread(self, call: Callable[[], Any]) -> asyncio.Future[Any]:
        """In a thread of its own, for which no process waits at its end: the user's function may never return."""
        from budgetguard.stores.worker import WorkerThread

        if self._worker is None:
            self._worker = WorkerThread("budgetguard-alerts")
        answer: asyncio.Future[Any] = self._worker.submit(call)
        return answer

    async def _post(self, webhook: Webhook, message: Message) -> None:
        import tenacity

        await self._wait_for_turn()
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(TryAgain),
            wait=_pause_s,
            stop=lambda state: state.attempt_number >= ATTEMPTS or self._ending.is_too_long(_pause_s(state)),
            sleep=self._pause,
            reraise=True,
        )
        await retrying(webhook.post, message)

    async def _wait_for_turn(self) -> None:
        """No more than so many a minute; at the end all at once."""
        if self._ending.has_begun.is_set():
            return
        from limits import RateLimitItemPerMinute
        from limits.storage import MemoryStorage
        from limits.strategies import MovingWindowRateLimiter

        if self._rate is None:
            self._rate = MovingWindowRateLimiter(MemoryStorage())
        most = RateLimitItemPerMinute(MOST_A_MINUTE)
        while not self._ending.has_begun.is_set() and not self._rate.hit(most, "posts"):
            await self._pause(max(0.1, self._rate.get_window_stats(most, "posts").reset_time - time.time()))

    async def _pause(self, pause_s: float) -> None:
        """Until the guard begins to end at the latest; a pause that it still lets be is kept."""
        if self._ending.has_begun.is_set():
            await asyncio.sleep(pause_s)
            return
        try:
            async with asyncio.timeout(pause_s):
                await self._ending.has_begun.wait()
        except TimeoutError:
            return

    def _failed(self, error: str) -> None:
        """One more is undelivered; told at once if the last one was delivered."""
        self._undelivered += 1
        self._error = error
        if not self._is_down:
            self._is_down = True
            self._tell(error)

    def _tell(self, error: str) -> None:
        if self._undelivered:
            count, self._undelivered = self._undelivered, 0
            self._notify(AlertsUndelivered(str(self), count, error))


def _pause_s(state: tenacity.RetryCallState) -> float:
    """What the server asks for, else longer each time."""
    error = state.outcome.exception() if state.outcome is not None else None
    if isinstance(error, TryAgain) and error.after_s is not None:
        return min(error.after_s, MOST_PAUSE_S)
    return min(FIRST_PAUSE_S * 2.0 ** (state.attempt_number - 1), MOST_PAUSE_S)
