"""An event loop whose time stands still while anything happens, and jumps to the next timer when nothing does."""

from __future__ import annotations

import asyncio
import selectors
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

import budgetguard as bg
from budgetguard.simulation import TracedCall
from budgetguard.store import Store

T = TypeVar("T")


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop with a time of its own, in seconds from 0."""

    def __init__(self) -> None:
        self.waits_for_threads = 0
        """How many answers of other threads are awaited: time stands still until they are there."""
        self._now_s = 0.0
        super().__init__(_Jumping(self))

    def time(self) -> float:
        return self._now_s

    def now_ms(self) -> int:
        """Milliseconds of the loop's time: a clock for a store."""
        return round(self._now_s * 1000)

    def jump(self, step_s: float) -> None:
        """Let time pass."""
        self._now_s += step_s


class Guarded(ABC):
    """A trace's calls, each made at its time through one guard, whose store's clock this is.

    Args:
        start_ms: the store's time when the trace begins.
    """

    guard: bg.Guard

    def __init__(self, start_ms: int) -> None:
        self.loop = VirtualLoop()
        self.refused: Counter[str] = Counter()
        self._start_ms = start_ms

    def now_ms(self) -> int:
        return self._start_ms + self.loop.now_ms()

    async def replay(self, calls: Sequence[TracedCall]) -> None:
        """Until all have ended."""
        async with self.guard:
            await asyncio.gather(*map(self._in_time, calls))

    async def _in_time(self, call: TracedCall) -> None:
        await asyncio.sleep(call.at_ms / 1000 - self.loop.time())
        await self.call(call)

    @abstractmethod
    async def call(self, call: TracedCall) -> None:
        """Make one."""

    def refuse(self, refusal: bg.BudgetExceeded) -> None:
        """Count who refused it."""
        self.refused.update({violation.account.budget for violation in refusal.violations})


class _Jumping(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """Where asyncio would sleep, time passes at once."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(0)
        if found or timeout == 0:
            return found
        if self._loop.waits_for_threads:
            return super().select(10)
        if timeout is None:
            raise RuntimeError("nothing is under way, and no timer is set: this loop would wait for ever")
        self._loop.jump(timeout)
        return []


class Patiently:
    """A store of which the loop awaits every answer before its time goes on."""

    def __init__(self, store: Store, loop: VirtualLoop) -> None:
        self._store = store
        self._loop = loop

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        verb = getattr(self._store, name)

        async def asked(*args: Any, **kwargs: Any) -> Any:
            self._loop.waits_for_threads += 1
            try:
                return await verb(*args, **kwargs)
            finally:
                self._loop.waits_for_threads -= 1

        return asked


def run(loop: VirtualLoop, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work` on this loop, which is closed."""
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(work)
