"""A namespace of a real Redis: stores and guards that use it, and a look into it behind their backs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from fault_kit import Request, is_script
from guard_kit import PATIENT_MS, PRICES, USAGE, Heard
from redis_kit import RedisServer, key_prefix
from store_kit import plan, stands

import budgetguard as bg
from budgetguard.core.model import Plan
from budgetguard.core.verbs import Row
from budgetguard.errors import StoreAway
from budgetguard.stores.redis import RedisStore
from budgetguard.stores.redis.outbox import row_from
from budgetguard.stores.redis.reading import balance_from

USAGE_TOKENS = USAGE.input_tokens + USAGE.output_tokens


def says(verb: str) -> Callable[[Request], bool]:
    """Whether a request is a script with such an operation."""
    return lambda request: is_script(request) and verb.encode() in request.arguments[-1]


class Impatient:
    """A store that is given its time, since a busy machine may stall; and once it `hurries`, the short timeout."""

    def __init__(self, patient: RedisStore, hasty: RedisStore) -> None:
        self._patient, self._hasty = patient, hasty
        self.hurries = False

    def __repr__(self) -> str:
        return repr(self._patient)

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._hasty if self.hurries else self._patient, verb)

    async def aclose(self) -> None:
        await self._patient.aclose()
        await self._hasty.aclose()


class RedisWorld:
    """One namespace: stores and guards are given `url`, which may become a proxy's; looks go to `server`."""

    def __init__(self, server: RedisServer, namespace: str, url: str = "") -> None:
        self.server = server
        self.namespace = namespace
        self.url = url or server.url
        self._look_url = self.url
        self.heard = Heard()

    def store(self, timeout_ms: int = PATIENT_MS, **options: Any) -> RedisStore:
        """A store, as another process would have it."""
        return RedisStore(self.url, self.namespace, timeout_ms, **options)

    def impatient(self, timeout_ms: int) -> Impatient:
        """A store with that timeout, once it hurries."""
        return Impatient(self.store(), self.store(timeout_ms))

    @contextlib.asynccontextmanager
    async def opened(self, timeout_ms: int = PATIENT_MS, **options: Any) -> AsyncIterator[RedisStore]:
        """The same, open, and closed at the end. A busy machine may need more than one short timeout to open it."""
        store, ends_s = self.store(timeout_ms, **options), time.monotonic() + PATIENT_MS / 1000
        try:
            while True:
                try:
                    await store.open()
                    break
                except StoreAway:
                    if time.monotonic() > ends_s:
                        raise
            yield store
        finally:
            await store.aclose()

    def guard(self, *limits: str, timeout_ms: int = PATIENT_MS, **options: Any) -> bg.Guard:
        """A guard with a store of its own, that tells `heard`."""
        options = {"store": self.store(timeout_ms), "prices": PRICES, "observers": [self.heard], **options}
        return bg.Guard(*limits, **options)

    def now_ms(self) -> int:
        """The server's time."""
        seconds, microseconds = self.server.ask("TIME")
        return int(seconds) * 1000 + int(microseconds) // 1000

    def plan(self, *texts: str) -> Plan:
        """A plan in the windows of the server's time."""
        return plan(*texts, now_ms=self.now_ms())

    async def stands(self) -> dict[str, tuple[int, int]]:
        """What is spent and reserved on every account, as a store on a connection of its own reads it."""
        store = RedisStore(self._look_url, self.namespace, PATIENT_MS)
        try:
            return await stands(store)
        finally:
            await store.aclose()

    def reserved(self) -> int:
        """What is reserved on all accounts together."""
        keys = self.server.keys(f"{key_prefix(self.namespace)}a:*")
        return sum(balance_from(self.server.ask("GET", key)).reserved for key in keys)

    def rows(self) -> list[Row]:
        """The ledger rows that nobody has drained, in the order in which they were written."""
        found = self.server.ask("XRANGE", f"{key_prefix(self.namespace)}outbox", "-", "+")
        named = [next(iter(f.items())) if isinstance(f, dict) else f[:2] for _, f in found]
        packed = [row for name, row in named if name == b"row"]  # beside them stand counts of refusals
        words = self.server.ask("HGETALL", f"{key_prefix(self.namespace)}index")
        return [row_from(row, words) for row in packed]
