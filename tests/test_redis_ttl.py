"""Keys on Redis end by themselves, whatever was done: all but `meta`, the outbox and the index."""

from __future__ import annotations

import asyncio
import random

import pytest
from lua_raw import seed_of
from redis_kit import LASTING, RedisServer, key_prefix, tidy_namespace
from store_kit import NOON_MS, ask_one
from test_machine_store import STEPS_MS

from budgetguard.stores.redis import RedisStore
from budgetguard.testing.clock import FakeClock
from budgetguard.testing.histories import Clients
from budgetguard.testing.oracle import Announce


async def history(store: RedisStore, clock: FakeClock, dice: random.Random, operations: int) -> set[str]:
    """Ask whatever clients ask, while time passes; the answers."""
    clients, heard = Clients(clock.now_ms()), set()
    for number in range(operations):
        op = clients.next(dice.randbytes(8))
        if isinstance(op, Announce):
            heard.add(str((await store.announce([op]))[0]))
        else:
            answer = await ask_one(store, op)
            clients.heard(op, answer)
            heard.add(answer.word)
        if number % 40 == 39:
            clock.advance(max(dice.choice(STEPS_MS), 0))
            await store.due(100)
    return heard


def test_after_a_long_history_only_three_keys_last_and_any_other_would_be_noticed(
    redis_server: RedisServer, namespace: str, request: pytest.FixtureRequest
) -> None:
    dice = random.Random(seed_of(request))

    async def run() -> set[str]:
        clock = FakeClock(NOON_MS)
        store = RedisStore(redis_server.unix_url, namespace, clock=clock)
        heard = await history(store, clock, dice, 2_000)
        await store.aclose()
        return heard

    assert asyncio.run(run()) > {"granted", "refused", "settled", "late", "released", "tombstone", "expired", "True"}
    prefix = key_prefix(namespace)
    keys = redis_server.keys(f"{prefix}*")
    assert {key for key in keys if redis_server.ask("PTTL", key) == -1} == {prefix + name for name in LASTING}
    kinds = {key.removeprefix(prefix).partition(":")[0]: key for key in keys}
    assert set(kinds) == {"a", "h", "open", *LASTING}
    for kind, key in kinds.items():
        if kind not in LASTING:
            with pytest.raises(AssertionError, match="without TTL"):
                persist(redis_server, key, f"{namespace}x")


def persist(server: RedisServer, key: str, namespace: str) -> None:
    """Leave a copy of a key behind, without its TTL, in another namespace."""
    with tidy_namespace(server, namespace):
        copy = key_prefix(namespace) + key.partition("}:")[2]
        server.ask("COPY", key, copy)
        server.ask("PERSIST", copy)
