"""Every public coroutine on Redis, cancelled in each round of the loop, as `test_cancellation` does on a file."""

from __future__ import annotations

import pytest
from cancel_cases import CASES, Case
from cancel_plays import check_every_point
from guard_kit import World
from redis import Redis
from redis_kit import RedisServer, key_prefix

from budgetguard import telling
from budgetguard.stores.redis.outbox import row_from
from budgetguard.stores.redis.reading import balance_from


class RedisLook:
    """A `Look` into a namespace."""

    def __init__(self, server: RedisServer, namespace: str) -> None:
        self._redis = Redis(unix_socket_path=str(server.socket_path))
        self._prefix = key_prefix(namespace)
        self._tokens: dict[str, int] = {}
        self._read = "-"

    def held(self) -> int:
        return int(self._redis.zcard(f"{self._prefix}open"))

    def reserved(self) -> int:
        digests = self._redis.hkeys(f"{self._prefix}index")
        found = self._redis.mget([f"{self._prefix}a:{digest.decode()}" for digest in digests]) if digests else []
        return sum(balance_from(value).reserved for value in found if value)

    def charged(self, id: str) -> int | None:
        self._look()
        return self._tokens.get(id)

    def total(self) -> int:
        self._look()
        return sum(self._tokens.values())

    def close(self) -> None:
        self._redis.close()

    def _look(self) -> None:
        """Read the rows that have come since the last look: a later one of a call has a higher revision."""
        words = self._redis.hgetall(f"{self._prefix}index")
        for entry_id, fields in self._redis.xrange(f"{self._prefix}outbox", self._read, "+"):
            row = row_from(fields[b"row"], words)
            self._tokens[row.id] = row.usage.prompt_tokens + row.usage.completion_tokens
            self._read = f"({entry_id.decode()}"


@pytest.mark.parametrize("world", ["redis"], indirect=True)
@pytest.mark.parametrize("kind", CASES)
def test_cancelled_at_any_point_and_once_more_at_any_later_nothing_leaks(
    world: World, kind: type[Case], redis_server: RedisServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "COUNT_KEPT_S", -1.0)  # each refusal counts the open calls anew
    look = RedisLook(redis_server, namespace)
    try:
        check_every_point(kind, world, look)
    finally:
        look.close()
