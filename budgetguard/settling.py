"""The courier: what must not be lost (settles and releases) is delivered, sooner or later, whatever happens.

An operation is tried with backoff; when that is in vain it goes to the durable spool, from which it is replayed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from budgetguard.core.verbs import Release, Settle, Settlement
from budgetguard.errors import StoreError
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

    def take(self, most: int, after: int) -> list[Any]:
        """The oldest entries with numbers above `after`, each with its `number` and `op`, or its error."""

    def drop(self, numbers: Sequence[int]) -> None:
        """Forget entries."""

    def __len__(self) -> int:
        """How many entries there are."""

    def close(self) -> None:
        """Let go of the file."""


class Courier:
    """Delivers on one event loop. `post` never blocks, and never loses what it was given.

    Args:
        told: called with each operation, its answer once it is known, and whether it was in the spool.
        wake: called in the event loop when there is something for `work` to do.
    """

    def __init__(
        self,
        store: Store,
        spool: Spool,
        notify: Callable[[Event], None],
        told: Callable[[Op, Settlement, bool], None],
        wake: Callable[[], None],
    ) -> None:
        self._store = store
        self._spool = spool
        self._notify = notify
        self._told = told
        self._wake = wake
        self._posted: dict[tuple[str, type], Op] = {}
        self._loop = asyncio.get_running_loop()
        self._ended = False
        self._replay_pause_s = REPLAY_FIRST_S
        self._replayed = 0
        """The number of the last entry of the spool that this round of the replay has tried."""

    def post(self, op: Op) -> None:
        """Deliver `op` in the background. From any thread; once this courier has ended, `op` goes to the spool."""
        self._posted[op.id, type(op)] = op
        if not self._ended:
            try:
                self._loop.call_soon_threadsafe(self._wake)
            except RuntimeError:  # the event loop is closed
                self._ended = True
        if self._ended:
            self._to_spool()

    async def work(self) -> None:
        """Deliver or spool what is posted; if neither can be done, come back later."""
        while self._posted:
            if not await self._deliver_or_spool():
                self._loop.call_later(REPLAY_FIRST_S, self._wake)
                return

    def end(self) -> None:
        """`wake` is heard no more: what is posted from now on goes to the spool."""
        self._ended = True

    def left_over(self) -> list[Op]:
        """Take what is still undelivered."""
        ops, self._posted = list(self._posted.values()), {}
        return ops

    async def deliver(self, ops: Sequence[Op] = ()) -> list[Op]:
        """Deliver `ops` and what is posted now, or spool it: whoever ends must not wait long for a store that is away.

        Returns what could be neither delivered nor spooled.
        """
        self._posted.update(((op.id, type(op)), op) for op in ops)
        try:
            error = await self._deliver_posted()
            if error is not None:
                self._notify(StoreProblem("settle", str(error)))
        finally:
            self._to_spool()
        return self.left_over()

    async def _deliver_or_spool(self) -> bool:
        """False if something could be neither delivered nor spooled: it stays posted."""
        import tenacity

        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_result(lambda error: error is not None),
            wait=tenacity.wait_random_exponential(multiplier=0.05, max=2),
            stop=tenacity.stop_after_attempt(ATTEMPTS),
            retry_error_callback=lambda state: state.outcome and state.outcome.result(),
        )
        error: Exception | None = await retrying(self._deliver_posted)
        if error is None:
            return True
        self._notify(StoreProblem("settle", str(error)))
        return self._to_spool()

    async def _deliver_posted(self) -> Exception | None:
        """Try each operation that is posted; the first error, if there was any."""
        ops = list(self._posted.values())
        errors = await self._deliver_each(ops, is_spooled=False)
        for op, error in zip(ops, errors, strict=True):
            if error is None and self._posted.get((op.id, type(op))) is op:
                del self._posted[op.id, type(op)]
        return next((error for error in errors if error is not None), None)

    async def _deliver_each(self, ops: Sequence[Op | StoreError], *, is_spooled: bool) -> list[Exception | None]:
        """Ask for all at once (the store makes batches of it); for each operation its error, None if it was done."""
        answers = await asyncio.gather(*map(self._ask, ops), return_exceptions=True)
        errors: list[Exception | None] = []
        for op, answer in zip(ops, answers, strict=True):
            if isinstance(answer, Exception):
                errors.append(answer)
            elif isinstance(answer, BaseException):
                raise answer
            elif not isinstance(op, StoreError):
                errors.append(None)
                self._told(op, answer[0], is_spooled)
        return errors

    async def _ask(self, op: Op | StoreError) -> list[Settlement]:
        if isinstance(op, StoreError):
            raise op
        return await (self._store.settle([op]) if isinstance(op, Settle) else self._store.release([op]))

    def _to_spool(self) -> bool:
        """Put what is undelivered in the spool, now. False if that cannot be used: the operations stay posted."""
        ops = list(self._posted.values())
        if not ops:
            return True
        try:
            self._spool.put(ops)
        except StoreError as error:
            self._notify(StoreProblem("spool", str(error)))
            return False
        for op in ops:
            del self._posted[op.id, type(op)]
        self._notify(Spooled(len(ops)))
        return True

    def replay_pause_s(self) -> float:
        """How long to wait before the next replay: longer and longer while what is in the spool can't be delivered."""
        return self._replay_pause_s

    async def replay(self) -> bool:
        """Deliver some of what is in the spool, that of other processes too. True if there is more to do at once."""
        fault: Exception | None = None
        entries, done, empty = [], [], False
        try:
            entries = self._spool.take(REPLAY_BATCH, self._replayed)
            errors = await self._deliver_each([entry.op for entry in entries], is_spooled=True)
            done = [entry.number for entry, error in zip(entries, errors, strict=True) if error is None]
            fault = next((error for error in errors if error is not None), None)
            if done:
                self._spool.drop(done)
            empty = len(self._spool) == 0
        except StoreError as error:
            fault = error
        if fault is not None:
            self._notify(StoreProblem("replay", str(fault)))
        if done:
            self._notify(SpoolReplayed(len(done)))
        # What cannot be delivered now is passed over, and begun with again after a pause.
        more = bool(done) and len(entries) == REPLAY_BATCH
        self._replayed = entries[-1].number if more else 0
        self._replay_pause_s = 0.0 if more else REPLAY_FIRST_S if empty else self._longer_pause_s()
        return more

    def _longer_pause_s(self) -> float:
        return min(max(self._replay_pause_s, REPLAY_FIRST_S) * 2, REPLAY_MOST_S)
