"""The courier: what must not be lost (settles and releases) is delivered, sooner or later, whatever happens.

An operation is tried with backoff; when that is in vain it goes to the durable spool, from which it is replayed.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from budgetguard.core.verbs import Release, Settle, Settlement
from budgetguard.errors import BudgetGuardError, StoreError
from budgetguard.events import Event, Spooled, SpoolReplayed, StoreProblem

if TYPE_CHECKING:
    from budgetguard.store import Store

Op = Settle | Release
ATTEMPTS = 6
REPLAY_FIRST_S = 1.0
REPLAY_MOST_S = 60.0
REPLAY_BATCH = 64


class Spool(Protocol):
    """Where operations wait on disk (`budgetguard.stores.spool`)."""

    def put(self, ops: Sequence[Op]) -> None:
        """Keep the operations, durably."""

    def take(self, most: int) -> list[Any]:
        """The oldest entries, each with its `number` and `op`."""

    def drop(self, numbers: Sequence[int]) -> None:
        """Forget entries."""

    def __len__(self) -> int:
        """How many entries there are."""

    def close(self) -> None:
        """Let go of the file."""


class Courier:
    """Delivers on one event loop. `post` never blocks, and never loses what it was given.

    Args:
        told: called with each operation and its answer once it is known.
    """

    def __init__(
        self,
        store: Store,
        spool: Spool,
        notify: Callable[[Event], None],
        told: Callable[[Op, Settlement], None],
    ) -> None:
        self._store = store
        self._spool = spool
        self._notify = notify
        self._told = told
        self._posted: dict[tuple[str, type], Op] = {}
        self._lock = threading.Lock()
        self._news: asyncio.Event | None = None
        self._idle: asyncio.Event | None = None

    def post(self, op: Op) -> None:
        """Deliver `op` in the background. From the courier's event loop only."""
        self._posted[op.id, type(op)] = op
        if self._idle is not None:
            self._idle.clear()
        if self._news is not None:
            self._news.set()

    async def run(self) -> None:
        """Deliver until cancelled; what is then still undelivered goes to the spool."""
        self._news, self._idle = asyncio.Event(), asyncio.Event()
        if self._posted:
            self._news.set()
        else:
            self._idle.set()
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                await self._deliver_posted()
        finally:
            self._news = self._idle = None
            self.to_spool()

    async def delivered(self) -> None:
        """Return when all that was posted has been delivered or spooled."""
        if self._idle is not None:
            await self._idle.wait()

    def left_over(self) -> list[Op]:
        """Take what is still undelivered: the event loop is gone."""
        ops, self._posted = list(self._posted.values()), {}
        return ops

    async def deliver(self, ops: Sequence[Op]) -> None:
        """Deliver `ops` now, or put them in the spool."""
        for op in ops:
            self.post(op)
        try:
            await self._deliver_posted()
        finally:
            self.to_spool()

    def to_spool(self) -> int:
        """Put what is undelivered in the spool, now. Returns how many operations that were.

        Raises:
            StoreUnusable: the spool cannot be used either; the operations stay posted.
        """
        with self._lock:
            ops = list(self._posted.values())
            if ops:
                self._spool.put(ops)
                for op in ops:
                    self._posted.pop((op.id, type(op)), None)
        if ops:
            self._notify(Spooled(len(ops)))
        return len(ops)

    async def _deliver_posted(self) -> None:
        while self._posted:
            ops = list(self._posted.values())
            if await self._deliver_patiently(ops):
                for op in ops:
                    self._posted.pop((op.id, type(op)), None)
            else:
                self._spool_or_keep()
                break
        if self._idle is not None and not self._posted:
            self._idle.set()

    def _spool_or_keep(self) -> None:
        try:
            self.to_spool()
        except StoreError as error:
            self._notify(StoreProblem("spool", str(error)))
            if self._news is not None:
                self._news.set()

    async def _deliver_patiently(self, ops: list[Op]) -> bool:
        import tenacity

        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(StoreError),
            wait=tenacity.wait_random_exponential(multiplier=0.05, max=2),
            stop=tenacity.stop_after_attempt(ATTEMPTS),
            reraise=True,
        )
        try:
            await retrying(self._deliver, ops)
        except StoreError as error:
            self._notify(StoreProblem("settle", str(error)))
            return False
        return True

    async def _deliver(self, ops: Sequence[Op]) -> None:
        settles = [op for op in ops if isinstance(op, Settle)]
        releases = [op for op in ops if isinstance(op, Release)]
        for op, answer in zip(settles, await self._store.settle(settles), strict=True):
            self._told(op, answer)
        for release, answer in zip(releases, await self._store.release(releases), strict=True):
            self._told(release, answer)

    async def replay(self) -> int:
        """Deliver what is in the spool, the oldest first; returns how many entries remain (other processes' too)."""
        delivered = 0
        try:
            while entries := self._spool.take(REPLAY_BATCH):
                await self._deliver([entry.op for entry in entries])
                self._spool.drop([entry.number for entry in entries])
                delivered += len(entries)
        except BudgetGuardError as error:
            self._notify(StoreProblem("replay", str(error)))
        if delivered:
            self._notify(SpoolReplayed(delivered))
        return len(self._spool)

    async def keep_replaying(self) -> None:
        """Replay the spool at the start and then with backoff, until cancelled."""
        pause_s = REPLAY_FIRST_S
        while True:
            left = await self.replay()
            pause_s = min(pause_s * 2, REPLAY_MOST_S) if left else REPLAY_FIRST_S
            await asyncio.sleep(pause_s)
