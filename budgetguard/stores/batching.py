"""Joins operations into batches: what is asked while a batch is under way forms the next one.

Alone, an operation waits for no timer: the batch starts in the event loop's next round, with
everything that the current round asked.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

Answers = Sequence[Any]
Done = Callable[[Answers | Awaitable[Answers]], None]
Begin = Callable[[list[Any], float, Done], None]


class Batcher:
    """One queue of operations on one event loop.

    Args:
        begin: is given a batch, when the last of its operations was asked (the loop's time, seconds), and what it must
            call, once, now or later: with the answers, or with an awaitable of them. Answers are in order, with an
            exception in the place of an operation that failed alone; what the awaitable raises is for all of them.
            It raises nothing itself: nobody would be told.
        most: how many operations share a batch at most.
    """

    def __init__(self, begin: Begin, most: int) -> None:
        self._begin = begin
        self._most = most
        self._queue: deque[tuple[Any, float, asyncio.Future[list[Any]]]] = deque()
        self._taken: list[tuple[Any, float, asyncio.Future[list[Any]]]] = []
        self._under_way = False
        self._awaited: asyncio.Future[Answers] | None = None
        self._idle: asyncio.Future[None] | None = None

    def ask(self, ops: Sequence[Any]) -> Awaitable[list[Any]]:
        """The answers to `ops`, in order; they are asked now. A caller that is cancelled does not undo that.

        Of a single one, as in every guarded call, it is a future: nobody needs a task to wait for it.
        """
        return self._put(ops[0]) if len(ops) == 1 else self._all([self._put(op) for op in ops])

    async def _all(self, asked: Sequence[asyncio.Future[list[Any]]]) -> list[Any]:
        answers: list[Any] = []
        for answer in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(answer, BaseException):
                raise answer
            answers += answer
        return answers

    async def idle(self) -> None:
        """Return when nothing is queued or under way."""
        while self._under_way:
            if self._idle is None:
                self._idle = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._idle])

    def _put(self, op: Any) -> asyncio.Future[list[Any]]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Any]] = loop.create_future()
        self._queue.append((op, loop.time(), future))
        if not self._under_way:
            self._under_way = True
            loop.call_soon(self._next)
        return future

    def _next(self) -> None:
        queue = self._queue
        if queue:
            self._taken = [queue.popleft() for _ in range(min(self._most, len(queue)))]
            self._begin([op for op, _, _ in self._taken], self._taken[-1][1], self._done)
            return
        self._taken = []
        self._under_way = False
        if self._idle is not None:
            self._idle.set_result(None)
            self._idle = None

    def _done(self, answers: Answers | Awaitable[Answers]) -> None:
        if isinstance(answers, Awaitable):
            self._awaited = asyncio.ensure_future(answers)
            self._awaited.add_done_callback(self._ended)
        else:
            self._answer(answers)
            self._next()

    def _ended(self, awaited: asyncio.Future[Answers]) -> None:
        self._awaited = None  # its context is that of whoever asked first
        error = asyncio.CancelledError() if awaited.cancelled() else awaited.exception()
        if error is None:
            self._answer(awaited.result())
        elif isinstance(error, Exception):  # whatever it is, every operation of the batch is told
            self._answer([error] * len(self._taken))
        else:  # only of a loop that is closing: nobody must wait for an answer that will not come
            for _, _, future in [*self._taken, *self._queue]:
                future.cancel()
            self._queue.clear()
        self._next()

    def _answer(self, answers: Answers) -> None:
        for (_, _, future), answer in zip(self._taken, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result([answer])
