"""`guard.sync`: the same verbs for callers without an event loop, through a portal into a loop of its own."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

import anyio
from anyio.from_thread import BlockingPortal

from budgetguard.decorating import Estimate
from budgetguard.hold import Hold
from budgetguard.reserving import remember_open
from budgetguard.usage import Usage

if TYPE_CHECKING:
    from budgetguard.guard import Guard
    from budgetguard.status import AccountStatus
    from budgetguard.within import Within


class SyncHold:
    """A `Hold` for sync callers."""

    def __init__(self, hold: Hold, call: Callable[..., Any]) -> None:
        self._hold = hold
        self._call = call

    @property
    def id(self) -> str:
        """The reservation's id."""
        return self._hold.id

    @property
    def open(self) -> bool:
        """Neither settled nor released yet."""
        return self._hold.open

    def __repr__(self) -> str:
        return repr(self._hold).replace("Hold", "SyncHold", 1)

    def record(self, response: Any) -> Usage:
        """As `Hold.record`."""
        return self._hold.record(response)

    def settle(self, response: Any = None) -> None:
        """As `Hold.settle`."""
        self._call(self._hold.settle, response)

    def release(self) -> None:
        """As `Hold.release`."""
        self._call(self._hold.release)

    def grow(self, estimate: Usage) -> None:
        """As `Hold.grow`."""
        self._call(self._hold.grow, estimate)


class SyncGuard:
    """The verbs of a `Guard`, blocking. Safe from any number of threads.

    Args:
        check_process: raises GuardForked in a child of the process in which the guard was opened.
    """

    def __init__(self, guard: Guard, check_process: Callable[[], None]) -> None:
        self._guard = guard
        self._check_process = check_process
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._portal: BlockingPortal | None = None
        self._pid = os.getpid()

    def hold(self, **options: Any) -> SyncHold:
        """Reserve by hand; options and errors as `Guard.reserve`."""
        return SyncHold(self._reserved(options), self._call)

    @contextmanager
    def reserve(self, **options: Any) -> Iterator[SyncHold]:
        """Reserve for a block, settled at its end; options and errors as `Guard.reserve`."""
        hold = self._reserved(options)
        try:
            yield SyncHold(hold, self._call)
        except BaseException as error:
            self._call(hold.end_after, error)
            raise
        self._call(hold.end_after, None)

    def within(self, *limits: str, name: str = "run") -> Within:
        """As `Guard.within`, with a plain `with`."""
        return self._guard.within(*limits, name=name)

    def budgeted(self, *, estimate: Estimate | None = None, **options: Any) -> Callable[..., Callable[..., Any]]:
        """As `Guard.budgeted`, for sync functions."""

        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            @wraps(function)
            def guarded(*args: Any, **kwargs: Any) -> Any:
                expected = estimate(*args, **kwargs) if callable(estimate) else estimate
                with self.reserve(estimate=expected, **options) as hold:
                    result = function(*args, **kwargs)
                    hold.record(result)
                    return result

            return guarded

        return decorate

    def status(self, **labels: str) -> list[AccountStatus]:
        """As `Guard.status`."""
        found: list[AccountStatus] = self._call(lambda: self._guard.status(**labels))
        return found

    def available(self, **labels: str) -> dict[str, Any]:
        """As `Guard.available`."""
        left: dict[str, Any] = self._call(lambda: self._guard.available(**labels))
        return left

    def run(self, function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        """Await an async function of this guard in the portal's event loop, in the caller's context."""
        return self._call(function, *args)

    def close(self) -> int:
        """As `Guard.aclose`."""
        left: int = self._call(self._guard.aclose)
        self._stop()
        return left

    def _reserved(self, options: Mapping[str, Any]) -> Hold:
        hold: Hold = self._call(self._reserve, options)
        remember_open(hold)  # the portal's task did so in its own context
        return hold

    async def _reserve(self, options: Mapping[str, Any]) -> Hold:
        return await self._guard.reserve(**options)

    def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run in the portal's event loop, in the caller's context. If the caller is interrupted, it is cancelled."""
        self._check_process()
        future = self._started().start_task_soon(function, *args)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _started(self) -> BlockingPortal:
        with self._starting:
            if self._portal is None or self._pid != os.getpid():
                ready: Future[BlockingPortal] = Future()
                # Not as a context manager of anyio's: dropped in a forked child, that waits for a thread that is gone.
                self._thread = threading.Thread(
                    target=anyio.run, args=(_serve, ready), name="budgetguard-portal", daemon=True
                )
                self._thread.start()
                self._portal, self._pid = ready.result(), os.getpid()
                atexit.register(self._stop)
            return self._portal

    def _stop(self) -> None:
        """End the portal's thread; what its loop still had to deliver goes to the spool."""
        thread, portal = self._thread, self._portal
        if thread is None or portal is None or self._pid != os.getpid():
            return
        self._thread = self._portal = None
        atexit.unregister(self._stop)
        portal.call(portal.stop)
        thread.join()


async def _serve(ready: Future[BlockingPortal]) -> None:
    async with BlockingPortal() as portal:
        ready.set_result(portal)
        await portal.sleep_until_stopped()
