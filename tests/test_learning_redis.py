"""What workers learn together on a Redis that is full, read-only, damaged, a cluster, or let go: no call is harmed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from guard_kit import MODEL, PATIENT_MS
from learning_kit import INPUT, Fleet, call, share
from redis_cluster_kit import Cluster
from redis_kit import MISSING, RedisServer, has_redis, key_prefix
from redis_world import Impatient, RedisWorld
from store_kit import DAY_MS

import budgetguard as bg
from budgetguard.stores.redis.keys import Keys
from budgetguard.stores.redis.namespaces import LAPSE_MS, let_lapse

pytestmark = [pytest.mark.skipif(not has_redis(), reason=MISSING), pytest.mark.usefixtures("state_home")]
Change = Callable[[RedisServer, bool], Awaitable[None]]


async def full(server: RedisServer, begins: bool) -> None:
    await asyncio.to_thread(server.ask, "CONFIG", "SET", "maxmemory", 1 if begins else 0)


async def read_only(server: RedisServer, begins: bool) -> None:
    await asyncio.to_thread(server.ask, "REPLICAOF", *(("127.0.0.1", 1) if begins else ("NO", "ONE")))


async def written_over(server: RedisServer, begins: bool) -> None:
    """Somebody has put a text at the index of all sets."""
    key = Keys("n").outputs
    server.ask("DEL", key)
    if begins:
        server.ask("SET", key, "mine", "PX", DAY_MS)


async def claimed(server: RedisServer, begins: bool) -> None:
    """Somebody rebuilds the namespace from its ledger."""
    meta, before = Keys("n").meta, server.ask("HGET", Keys("n").meta, "incarnation")
    server.ask("HSET", meta, "incarnation", b"rebuild:" + before if begins else before.removeprefix(b"rebuild:"))


@contextlib.asynccontextmanager
async def worker() -> AsyncIterator[tuple[RedisWorld, bg.Guard, Impatient]]:
    """One that has shared what it learned of 10 calls, on a server of its own."""
    with RedisServer() as server:
        world = RedisWorld(server, "n")
        store = world.impatient(500)
        async with world.guard("9M tokens/total", store=store) as guard:
            for _ in range(10):
                await call(guard, 70)
            await share(guard)
            yield world, guard, store


@pytest.mark.parametrize("change", [full, read_only, written_over, claimed])
def test_what_cannot_be_shared_is_told_once_harms_no_call_and_is_shared_later(change: Change) -> None:
    async def main() -> None:
        async with worker() as (world, guard, store):
            holds = [await guard.reserve(estimate=bg.Usage(INPUT, 70), model=MODEL) for _ in range(3)]
            for _ in range(10):
                await call(guard, 70)
            await change(world.server, True)
            if change in (full, written_over):
                for hold in holds:
                    await hold.settle(bg.Usage(INPUT, 70))
            if change is written_over:
                assert await call(guard, 70) is None
            for _ in range(3):
                store.hurries = True
                await share(guard)
                store.hurries = False
            problems = [one.error for one in world.heard.of(bg.events.StoreProblem) if one.verb == "share_outputs"]
            assert len(problems) == 1
            assert change is not written_over or "outputs" in problems[0]
            await change(world.server, False)
            fleet = Fleet(world.url, "n")
            await share(guard)
            assert await fleet.knows() == (21 if change is written_over else 20)
            if change in (read_only, claimed):
                for hold in holds:
                    await hold.release()
            await fleet.makes(1)
            assert fleet.estimates[0] < 300, "a new worker goes on"

    asyncio.run(main())


def test_on_a_cluster_workers_learn_together(redis_cluster: Cluster) -> None:
    fleet = Fleet(redis_cluster.url, "learns-in-a-cluster}")
    try:
        asyncio.run(fleet.makes(60))
        asyncio.run(fleet.makes(1))
        assert fleet.estimates[0] > 3_900 and fleet.estimates[-1] <= 90
        assert asyncio.run(fleet.knows()) == 61 and fleet.problems == []
    finally:
        for node in redis_cluster.nodes:
            for key in node.keys(key_prefix(fleet.namespace) + "*"):
                node.ask("DEL", key)


def test_a_namespace_that_is_let_go_takes_what_was_learned_with_it(redis_server: RedisServer, namespace: str) -> None:
    fleet = Fleet(redis_server.unix_url, namespace)
    asyncio.run(fleet.makes(3))
    asyncio.run(let_lapse(fleet.url, namespace, PATIENT_MS))
    keys = redis_server.keys(key_prefix(namespace) + "*")
    learned = [key for key in keys if ":o:" in key or key.endswith(":outputs")]
    assert len(learned) in (2, 3), "the index, a set of outputs, and one of inputs where no tokenizer counts them"
    assert all(0 < redis_server.ask("PTTL", key) <= LAPSE_MS for key in keys)


def test_no_label_is_part_of_a_key_and_no_key_lasts(redis_server: RedisServer, namespace: str) -> None:
    fleet, label = Fleet(redis_server.unix_url, namespace), "search}:meta \x00 ç"

    async def main() -> None:
        with bg.acting_as(agent=label, task="__proto__"):
            await fleet.makes(2)
        assert await fleet.knows(MODEL, "agent", label, "task", "__proto__") == 2

    asyncio.run(main())
    keys = redis_server.keys(key_prefix(namespace) + "*")
    assert not [key for key in keys if "search" in key or "proto" in key or MODEL in key]
    assert {key for key in keys if redis_server.ask("PTTL", key) == -1} == {
        key_prefix(namespace) + name for name in ("meta", "outbox", "index")
    }
