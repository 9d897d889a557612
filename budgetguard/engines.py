"""The engines of one guard: one for each event loop that uses it, in one process, drained at the exit."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
import time
from collections.abc import Mapping

from budgetguard.engine import Engine
from budgetguard.errors import GuardClosed, GuardForked, StoreError, StoreUnusable
from budgetguard.events import StoreProblem
from budgetguard.refusal_counts import last_flush
from budgetguard.resources import Resources
from budgetguard.settling import Courier, Op

ELSEWHERE_S = 5.0
"""How long closing waits for what a guard has under way in the event loops of other threads."""
_open: set[Engines] = set()
"""Those that were opened and not closed. They are kept alive: what they hold must not be lost with the guard."""


class Engines:
    """Makes an engine at the first use in an event loop, and closes them all. From any thread.

    An engine whose loop was closed leaves its open holds and what it still had to deliver to the next one, or to the
    exit.
    """

    def __init__(self, shared: Resources) -> None:
        self._shared = shared
        self._engines: dict[asyncio.AbstractEventLoop, Engine] = {}
        self._making = threading.Lock()
        self._undelivered: list[Op] = []
        self._pid: int | None = None
        self._closed = False
        self._closing: asyncio.Task[int] | None = None
        shared.refusals.now_ms = self.now_ms

    def current(self) -> Engine:
        """The engine of the running event loop.

        Raises:
            GuardClosed, GuardForked: the guard must not be used here.
        """
        if self._closed:
            raise GuardClosed("this guard was closed: make a new one")
        if self._pid != os.getpid():
            self.check_process()
            self.drain_at_exit()
        loop = asyncio.get_running_loop()
        engine = self._engines.get(loop)
        return self._made(loop) if engine is None else engine

    def drain_at_exit(self) -> None:
        """Of this process, where it is not to be drained yet: even one that reserves nothing counts refusals."""
        if self._pid is None and not self._closed:
            self._pid = os.getpid()
            _open.add(self)

    def check_process(self) -> None:
        """Pass the process in which the guard was opened, and any if it was not.

        Raises:
            GuardForked: this is a child of it.
        """
        if self._pid not in (None, os.getpid()):
            raise GuardForked(f"this guard was opened in process {self._pid}: make a new one in each child")

    def _made(self, loop: asyncio.AbstractEventLoop) -> Engine:
        with self._making:
            engine = Engine(self._shared, self.current)
            for other in [other for other in self._engines if other.is_closed()]:
                engine.adopt(self._engines.pop(other))
            self._engines[loop] = engine
        return engine

    def _all(self) -> list[tuple[asyncio.AbstractEventLoop, Engine]]:
        with self._making:
            return list(self._engines.items())

    def now_ms(self) -> int:
        """The store's time, as an engine last heard it, that of the caller's event loop if there is one.

        Without one: the machine's.
        """
        try:
            engine = self._engines.get(asyncio.get_running_loop())
        except RuntimeError:  # a caller without an event loop
            engine = next((one for _, one in self._all()), None)
        return time.time_ns() // 1_000_000 if engine is None else engine.now_ms()

    async def ready(self, subject: Mapping[str, str]) -> None:
        """Before a call with these labels is estimated by what was learned. Errors: those of `current`."""
        await self.current().learning.ready(subject)

    def wake_all(self) -> None:
        """The policy has changed, or the guard was closed: let all engines look again, in whatever loop."""
        for loop, engine in self._all():
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(engine.look_again)

    async def close(self) -> int:
        """As `Guard.aclose`. Safe to cancel: what was begun is finished in the background.

        Raises:
            StoreUnusable: something could be neither delivered nor spooled; it is kept, for another try.
        """
        self._closed = True
        if self._pid not in (None, os.getpid()):
            return 0
        self.wake_all()
        loop, closing = asyncio.get_running_loop(), self._closing
        if closing is not None and closing.get_loop() is loop and closing.cancelling():
            await asyncio.wait([closing])  # it still takes leave of the store, and then it is begun anew
        if self._closing is None or self._closing.done() or self._closing.get_loop() is not loop:
            self._closing = loop.create_task(self._close())
        return await asyncio.shield(self._closing)

    async def _close(self) -> int:
        for loop, engine in self._all():
            self._undelivered += await _stopped(loop, engine)
            self._engines.pop(loop, None)
        courier = self._courier()
        self._undelivered = await courier.deliver(self._undelivered)
        await self._flush()
        if self._undelivered:
            await self._shared.store.leave()
            raise StoreUnusable(
                f"{len(self._undelivered)} settles and releases could be neither delivered nor spooled: "
                "make the store or the spool usable and close the guard again"
            )
        await self._shared.store.aclose()
        left = len(self._shared.spool)
        self._shared.spool.close()
        _open.discard(self)
        return left

    def drain(self) -> None:
        """At the exit of the process: deliver or spool what every engine still holds, and what is in the spool."""
        if self._pid != os.getpid():
            return
        for _, engine in self._all():
            self._undelivered += engine.left_over()
        try:
            if self._undelivered or self._shared.waits or len(self._shared.spool):
                asyncio.run(self._drain())
        except StoreError as error:
            self._shared.notify(StoreProblem("exit", str(error)))

    async def _drain(self) -> None:
        courier = self._courier()
        self._undelivered = await courier.deliver(self._undelivered)
        await self._flush()
        if self._undelivered:
            await self._shared.store.leave()
            count = len(self._undelivered)
            raise StoreUnusable(f"{count} settles and releases are lost: neither the store nor the spool can be used")
        while await courier.replay():
            pass
        await self._shared.store.aclose()

    async def _flush(self) -> None:
        """What event loops that run no more have counted and learned."""
        await last_flush(self._shared.refusals, self._shared.store.note_refusals, self._shared.notify)
        await self._shared.forecasting.last_share(self._shared.store, self._shared.notify)

    def _courier(self) -> Courier:
        return Courier(self._shared.store, self._shared.spool, self._shared.notify, lambda *_: None, lambda: None)


async def _stopped(loop: asyncio.AbstractEventLoop, engine: Engine) -> list[Op]:
    """Stop an engine, in whatever event loop it lives; what it could not deliver."""
    if loop is asyncio.get_running_loop():
        return await engine.stop()
    if loop.is_running():
        stopping = asyncio.run_coroutine_threadsafe(engine.stop(), loop)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(stopping), ELSEWHERE_S)
        except TimeoutError:
            return engine.left_over()
    return engine.left_over()


@atexit.register
def drain() -> None:
    """At the exit of the process: deliver what the guards that were not closed still hold."""
    for engines in list(_open):
        engines.drain()
