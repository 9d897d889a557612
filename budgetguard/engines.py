"""The engines of one guard: one for each event loop that uses it, in one process, drained at the exit."""

from __future__ import annotations

import asyncio
import atexit
import os
import weakref
from collections.abc import Sequence

from budgetguard.engine import Engine, Resources
from budgetguard.errors import GuardClosed, GuardForked
from budgetguard.settling import Courier, Op

_open: weakref.WeakSet[Engines] = weakref.WeakSet()


class Engines:
    """Makes an engine at the first use in an event loop, and closes them all.

    An engine whose loop was closed leaves what it still had to deliver to the next one, or to the exit.
    """

    def __init__(self, shared: Resources) -> None:
        self._shared = shared
        self._engines: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Engine] = weakref.WeakKeyDictionary()
        self._pid: int | None = None
        self._closed = False

    def current(self) -> Engine:
        """The engine of the running event loop.

        Raises:
            GuardClosed, GuardForked: the guard must not be used here.
        """
        if self._closed:
            raise GuardClosed("this guard was closed: make a new one")
        if self._pid != os.getpid():
            if self._pid is not None:
                raise GuardForked(f"this guard was opened in process {self._pid}: make a new one in each child")
            self._pid = os.getpid()
            _open.add(self)
        loop = asyncio.get_running_loop()
        engine = self._engines.get(loop)
        if engine is None:
            left_over = self.left_over()
            engine = self._engines[loop] = Engine(self._shared)
            for op in left_over:
                engine.courier.post(op)
        return engine

    def wake_all(self) -> None:
        """Limits have changed: let all who wait look again, in whatever loop."""
        for loop, engine in list(self._engines.items()):
            if not loop.is_closed():
                loop.call_soon_threadsafe(engine.line.wake_all)

    async def close(self) -> int:
        """As `Guard.aclose`."""
        self._closed = True
        if self._pid not in (None, os.getpid()):
            return 0
        ops = self.left_over()
        engine = self._engines.pop(asyncio.get_running_loop(), None)
        if engine is not None:
            await engine.stop()
            ops += engine.left_over()
        await self.deliver(ops)
        left = len(self._shared.spool)
        self._shared.spool.close()
        _open.discard(self)
        return left

    def left_over(self) -> list[Op]:
        """Take what the engines of closed event loops still have to deliver."""
        ops: list[Op] = []
        for loop, engine in list(self._engines.items()):
            if loop.is_closed() and self._pid == os.getpid():
                del self._engines[loop]
                ops += engine.left_over()
        return ops

    async def deliver(self, ops: Sequence[Op]) -> None:
        """Deliver or spool `ops`, and let go of the store."""
        if ops:
            await Courier(self._shared.store, self._shared.spool, self._shared.notify, lambda *_: None).deliver(ops)
        await self._shared.store.aclose()


@atexit.register
def drain() -> None:
    """At the exit of the process: deliver what the guards that were not closed still hold."""
    for engines in list(_open):
        ops = engines.left_over()
        if ops:
            asyncio.run(engines.deliver(ops))
