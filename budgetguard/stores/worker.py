"""One thread that runs jobs in order, for any event loop."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class WorkerThread:
    """Owns whatever must be used from one thread only. A daemon: what must not be lost is awaited before the exit."""

    def __init__(self, name: str) -> None:
        self._busy_since = math.inf
        self._jobs: SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[], T]) -> asyncio.Future[T]:
        """The job's result, on the event loop that runs. Whoever cancels the future does not stop the job."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._jobs.put((job, future))
        return future

    def busy_s(self) -> float:
        """For how long the job under way has been at it."""
        return max(0.0, time.monotonic() - self._busy_since)

    def stop(self) -> None:
        """End the thread once the jobs before this call are done."""
        self._jobs.put(None)

    def _work(self) -> None:
        while (item := self._jobs.get()) is not None:
            job, future = item
            self._busy_since = time.monotonic()
            try:
                result, error = job(), None
            except Exception as raised:  # noqa: BLE001 - whoever asked for the job is told
                result, error = None, raised
            self._busy_since = math.inf
            # The loop that asked may have been closed meanwhile: the job is done, and nobody waits.
            with contextlib.suppress(RuntimeError):
                future.get_loop().call_soon_threadsafe(_deliver, future, result, error)
            del item, job, future, result, error


def _deliver(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
