"""What one event loop does so that what a guard learns is shared through its store, apart from every call."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Final

from budgetguard.errors import BudgetGuardError

if TYPE_CHECKING:
    from budgetguard.resources import Resources

SHARE_S: Final = 1.0
"""Between two turns of the duty: so much is lost at most of what a killed process has learned."""
BEGIN_S: Final = 0.5
"""How long the first estimate of a model waits for what others have learned."""
MOST_LOOKS: Final = 1_024
"""Models of which it is remembered that they were looked up."""


class Learning:
    """Of one event loop.

    Args:
        open: opens the store.
        now_ms: tells the store's time.
        spawn: runs something beside the caller.
    """

    def __init__(
        self, shared: Resources, open: Callable[[], Awaitable[None]], now_ms: Callable[[], int],
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:  # fmt: skip
        self._shared = shared
        self._open, self._now_ms, self._spawn = open, now_ms, spawn
        self._begun: asyncio.Task[None] | None = None
        self._looks: dict[str, asyncio.Task[None]] = {}

    async def ready(self, subject: Mapping[str, str]) -> None:
        """Know what other workers have learned, before the first request with these labels' model is estimated.

        A store that does not tell in time is waited for no more.
        """
        model, looked = subject.get("model", ""), self._shared.forecasting.looked
        look = self._looks.get(model)
        if look is None:
            look = self._looks[model] = self._spawn(self._look(subject))
        if not look.done():
            await asyncio.wait([look], timeout=BEGIN_S)
        if len(looked) >= MOST_LOOKS:
            looked.clear()
        looked.add(model)
        self._looks.pop(model, None)

    async def _look(self, subject: Mapping[str, str]) -> None:
        if self._begun is None:
            self._begun = self._spawn(self._begin())
        await asyncio.wait([self._begun])
        shared = self._shared
        with contextlib.suppress(BudgetGuardError):  # likewise; and the duty looks again
            await shared.forecasting.look(shared.policy.estimate, shared.store, subject, self._now_ms)

    async def _begin(self) -> None:
        shared = self._shared
        with contextlib.suppress(BudgetGuardError):  # the reserve that follows tells it
            await self._open()
            await shared.forecasting.begin(shared.policy.estimate, shared.store, self._now_ms)

    async def share_outputs(self) -> None:
        """The duty: have what calls wrote known to all workers."""
        await self._shared.forecasting.share(self._shared.store, self._now_ms, self._shared.notify)

    async def last_share(self) -> None:
        """When the guard ends here."""
        await self._shared.forecasting.last_share(self._shared.store, self._shared.notify)
