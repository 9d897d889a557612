"""Whose turn it is to use a connection."""

from __future__ import annotations

import asyncio
from collections import deque


class Turn:
    """Taken at once where nobody has it; else it is handed on to those who wait, in the order in which they came."""

    def __init__(self) -> None:
        self.taken = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take_at_once(self) -> bool:
        """Take it if nobody has it; whether it was taken."""
        if self.taken:
            return False
        self.taken = True
        return True

    async def take(self, deadline: float | None = None) -> None:
        """Take it, by the deadline (the loop's time, seconds).

        Raises:
            TimeoutError: it did not come by then.
        """
        if self.take_at_once():  # a timer would cost more than it
            return
        handed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(handed)
        try:
            async with asyncio.timeout_at(deadline):
                await handed
        except BaseException:
            if handed.done() and not handed.cancelled():  # it came, and too late
                self.give()
            raise

    def give(self) -> None:
        """Hand it on; between one who had it and the next nobody else takes it."""
        while self._waiting:
            handed = self._waiting.popleft()
            if not handed.done():
                handed.set_result(None)
                return
        self.taken = False
