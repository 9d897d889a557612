"""The world of the guard's tests in Redis: a namespace on a clock that stands still, read behind the store's back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from guard_kit import PATIENT_MS, World
from redis_kit import RedisServer, key_prefix
from redis_world import Impatient, RedisWorld

from budgetguard.core.model import Account, Balance
from budgetguard.core.verbs import Row
from budgetguard.ledger.table import COLUMNS, ledger_row
from budgetguard.stores.redis import RedisStore
from budgetguard.stores.redis.plans import account_from, unpack_all
from budgetguard.stores.redis.reading import balance_from


class RedisClockWorld(World):
    """What `World` is, with a namespace for its file."""

    def __init__(self, folder: Path, server: RedisServer, namespace: str) -> None:
        super().__init__(folder)
        self._server, self._namespace, self._prefix = server, namespace, key_prefix(namespace)
        self._impatient: list[Impatient] = []

    def store(self, timeout_ms: int = PATIENT_MS) -> Any:
        """A store; one with another timeout has it while the store is away, and is given its time else."""
        made, *others = (
            RedisStore(self._server.url, self._namespace, given_ms, self.clock)
            for given_ms in sorted({PATIENT_MS, timeout_ms}, reverse=True)
        )
        if not others:
            return made
        self._impatient.append(Impatient(made, others[0]))
        return self._impatient[-1]

    def row(self, id: str) -> dict[str, Any]:
        row = self._rows()[id]
        return dict(zip(COLUMNS, ledger_row(self._namespace, row), strict=True))

    def statuses(self) -> list[str]:
        return [row.status for _, row in sorted(self._rows().items())]

    def spent(self, unit: str = "tokens") -> int:
        return sum(balance.spent for account, balance in self._balances() if account.unit == unit)

    def reserved(self) -> int:
        return sum(balance.reserved for _, balance in self._balances())

    def held(self) -> int:
        return int(self._server.ask("ZCARD", f"{self._prefix}open"))

    def states(self) -> list[str]:
        keys = self._server.keys(f"{self._prefix}h:*")
        return [unpack_all(self._server.ask("GET", key))[0].decode() for key in keys]

    def lease_end_ms(self, id: str) -> int:
        return int(self._server.ask("ZSCORE", f"{self._prefix}open", id))

    def dump(self) -> Any:
        """Every key's value but that of the state, which has the time."""
        keys = [key for key in self._server.keys(f"{self._prefix}*") if not key.endswith("}:meta")]
        return {key: self._server.ask("DUMP", key) for key in keys}

    def lose(self) -> None:
        self._server.ask("DEL", *self._server.keys(f"{self._prefix}*"))

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Scripts are not answered; looks are."""
        self._server.ask("CLIENT", "PAUSE", 60_000, "WRITE")
        self._hurry(True)
        try:
            yield
        finally:
            self._server.ask("CLIENT", "UNPAUSE")
            self._hurry(False)

    def _hurry(self, hurries: bool) -> None:
        for store in self._impatient:
            store.hurries = hurries

    def _rows(self) -> dict[str, Row]:
        """By reservation, as they would stand in a ledger into which they are drained."""
        found: dict[str, Row] = {}
        for row in RedisWorld(self._server, self._namespace).rows():
            if row.id not in found or row.revision > found[row.id].revision:
                found[row.id] = row
        return found

    def _balances(self) -> list[tuple[Account, Balance]]:
        index = self._server.ask("HGETALL", f"{self._prefix}index")
        packed = {digest: self._server.ask("GET", f"{self._prefix}a:{digest.decode()}") for digest in index}
        return [(account_from(index[digest]), balance_from(value)) for digest, value in packed.items() if value]
