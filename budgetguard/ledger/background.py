"""A drain beside others, on one event loop, for as long as that runs: what a guard with `[ledger] url` does."""

from __future__ import annotations

from collections.abc import Mapping

from budgetguard.ledger import open_ledger
from budgetguard.ledger.drain import drain
from budgetguard.stores import open_outbox

CLAIM_AFTER_MS = 60_000
"""What another drain has had for so long, without a word, is taken over."""


class Background:
    """Opened at its first move, and kept open.

    Args:
        url: of the ledger.
        store_url, namespace, timeout_ms: of the store.

    Raises:
        ConfigError: one of the URLs is none.
    """

    def __init__(self, url: str, store_url: str | None, namespace: str, timeout_ms: int) -> None:
        self._ledger = open_ledger(url)
        self._outbox = open_outbox(store_url, namespace, timeout_ms, CLAIM_AFTER_MS)

    async def move(self) -> Mapping[str, str]:
        """Move all that stands in the outbox; the causes of what cannot be read, by entry.

        Raises:
            StoreAway, StoreUnusable: from the outbox or the ledger. What was not moved stands in the outbox.
        """
        return (await drain(self._outbox, self._ledger)).unreadable

    async def aclose(self) -> None:
        """Let go of both."""
        try:
            await self._outbox.aclose()
        finally:
            self._ledger.close()

    def drop(self) -> None:
        """The event loop runs no more: only the ledger can still be let go of."""
        self._ledger.close()
