"""Joins operations into batches: what is asked while a batch is under way forms the next one.

Alone, an operation waits for no timer: the batch starts in the event loop's next round, with
everything that the current round asked.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

Run = Callable[[list[Any]], Awaitable[Sequence[Any]]]


class Batcher:
    """One queue of operations on one event loop.

    Args:
        run: does a batch; answers in order, an exception in the place of an operation that failed alone.
            If it raises, every operation of the batch gets that error.
        most: how many operations share a batch at most.
    """

    def __init__(self, run: Run, most: int) -> None:
        self._run = run
        self._most = most
        self._queue: deque[tuple[Any, asyncio.Future[Any]]] = deque()
        self._drain: asyncio.Task[None] | None = None

    async def ask(self, ops: Sequence[Any]) -> list[Any]:
        """The answers to `ops`, in order. A caller that is cancelled does not undo what was asked."""
        if len(ops) == 1:  # as in every guarded call
            return [await self._put(ops[0])]
        answers = await asyncio.gather(*map(self._put, ops), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return answers

    def _put(self, op: Any) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._queue.append((op, future))
        if not self._draining:
            self._drain = loop.create_task(self._work())
        return future

    async def idle(self) -> None:
        """Return when nothing is queued or under way."""
        while self._drain is not None and self._draining:
            await asyncio.wait([self._drain])

    @property
    def _draining(self) -> bool:
        # A task that is cancelled before it began never comes to its `finally`.
        return self._drain is not None and not self._drain.done()

    async def _work(self) -> None:
        taken: list[tuple[Any, asyncio.Future[Any]]] = []
        try:
            while self._queue:
                taken = [self._queue.popleft() for _ in range(min(self._most, len(self._queue)))]
                answers: Sequence[Any]
                try:
                    answers = await self._run([op for op, _ in taken])
                except Exception as error:  # noqa: BLE001 - whatever it is, every operation of the batch is told
                    answers = [error] * len(taken)
                for (_, future), answer in zip(taken, answers, strict=True):
                    _answer(future, answer)
        finally:
            # Only a loop that is closing cancels this task: nobody must wait for an answer that will not come.
            for _, future in [*taken, *self._queue]:
                with contextlib.suppress(RuntimeError):  # the loop is closed already
                    future.cancel()
            self._queue.clear()
            self._drain = None


def _answer(future: asyncio.Future[Any], answer: Any) -> None:
    if future.done():
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
