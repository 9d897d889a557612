"""An event loop that strikes: it cancels a task, or all, in a given round while a coroutine is under way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple


class Ran(NamedTuple):
    """How a play ended: in how many rounds of the loop, whether it was struck, and its error."""

    points: int
    struck: bool
    error: BaseException | None


class StrikingLoop(asyncio.SelectorEventLoop):
    """Counts its rounds. What a task waits for may have come in one round and be seen by the task in the next: so every
    step of every task has a point before it, at which the result is there and has not been seen.
    """

    before_round: Callable[[], None] | None = None

    def _run_once(self) -> None:
        if self.before_round is not None:
            self.before_round()
        super()._run_once()  # type: ignore[misc]  # not public, and the only place between two rounds

    def timers(self) -> int:
        """How many are set."""
        return sum(not timer.cancelled() for timer in self._scheduled)  # type: ignore[attr-defined]


async def run_struck(play: Coroutine[Any, Any, Any], at: frozenset[int], everybody: bool) -> Ran:
    """Run a play in a task of its own, and cancel it at these rounds (from 1), or all, as a loop does that ends."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, StrikingLoop)
    bystander, task = asyncio.current_task(), loop.create_task(play)
    points, struck = 0, False

    def strike() -> None:
        nonlocal points, struck
        if task.done():
            return
        points += 1
        if points in at:
            struck = True
            for other in asyncio.all_tasks(loop) if everybody else [task]:
                if other is not bystander:
                    other.cancel()

    loop.before_round = strike
    try:
        await asyncio.wait([task])
    finally:
        loop.before_round = None
    return Ran(points, struck, asyncio.CancelledError() if task.cancelled() else task.exception())
