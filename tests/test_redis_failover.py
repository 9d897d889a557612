"""A cluster whose slots move, and sentinels that replace a primary: calls go on; what was lost is told, and bounded."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import Counter
from collections.abc import Iterator

import pytest
from guard_kit import ESTIMATE, USAGE, until
from redis_cluster_kit import Cluster, Node
from redis_kit import key_prefix, tidy_namespace
from redis_sentinel_kit import SentinelFleet
from redis_world import USAGE_TOKENS, RedisWorld

import budgetguard as bg
from budgetguard.events import Late, StoreProblem, WritesLost

TOKENS = "default tokens/total"
FAILOVER_MS = 60_000  # a machine that is busy takes its time


async def call(guard: bg.Guard) -> None:
    async with guard.reserve(estimate=ESTIMATE) as hold:
        hold.record(USAGE)


class Callers:
    """Some that make one call after the other until they are told to stop. `calls` that were made."""

    def __init__(self, guard: bg.Guard, at_once: int = 10) -> None:
        self.calls = 0
        self._stopping = False
        self._guard = guard
        self._tasks = [asyncio.create_task(self._calling()) for _ in range(at_once)]

    async def _calling(self) -> None:
        while not self._stopping:
            await call(self._guard)
            self.calls += 1

    async def more(self, count: int) -> None:
        """Wait for so many more; an error of any of them is raised."""
        wanted = self.calls + count
        await until(lambda: self.calls >= wanted or any(task.done() for task in self._tasks), "calls", 60)
        if self.calls < wanted:
            await self.stop()

    async def stop(self) -> None:
        """Let each finish its call."""
        self._stopping = True
        await asyncio.gather(*self._tasks)


@pytest.fixture
def in_cluster(redis_cluster: Cluster, state_home: None) -> Iterator[RedisWorld]:
    """A namespace of its own in the cluster; after the test it is looked through as one of the shared server is."""
    name = f"c{uuid.uuid4().hex}"
    slot = redis_cluster.slot_of(f"{key_prefix(name)}meta")
    yield RedisWorld(redis_cluster.owner(slot), name, redis_cluster.url)
    with tidy_namespace(redis_cluster.owner(slot), name):
        pass


def errors(node: Node) -> int:
    """How often it has sent a client elsewhere, or to come again."""
    counts = node.info("errorstats")
    return sum(counts.get(f"errorstat_{code}", {"count": 0})["count"] for code in ("ASK", "MOVED", "TRYAGAIN"))


def test_calls_go_through_in_a_cluster_while_the_slot_of_their_namespace_moves(
    in_cluster: RedisWorld, redis_cluster: Cluster
) -> None:
    async def main() -> None:
        world, slot = in_cluster, redis_cluster.slot_of(f"{key_prefix(in_cluster.namespace)}meta")
        async with world.guard("9M tokens/total", timeout_ms=FAILOVER_MS) as guard:
            callers = Callers(guard)
            for _ in range(3):
                await callers.more(20)
                source = redis_cluster.owner(slot)
                target = next(node for node in redis_cluster.nodes if node is not source)
                met = errors(source)
                move = redis_cluster.begin_move(slot, target)
                move.keys(3)
                await until(lambda source=source, met=met: errors(source) > met, "a call to meet the move")
                move.finish()
                world.server = target
            await callers.more(20)
            await callers.stop()
        assert await world.stands() == {TOKENS: (callers.calls * USAGE_TOKENS, 0)}
        rows = world.rows()
        assert Counter(row.status for row in rows) == {"settled": callers.calls}
        assert len({row.id for row in rows}) == callers.calls
        assert world.heard.of(StoreProblem) == []

    asyncio.run(main())


def test_calls_go_on_through_a_failover(state_home: None) -> None:
    async def main() -> None:
        with SentinelFleet() as fleet:
            world = RedisWorld(fleet.primary, "failover", fleet.url)
            async with world.guard("9M tokens/total", timeout_ms=FAILOVER_MS) as guard:
                callers = Callers(guard)
                await callers.more(20)
                assert fleet.primary.ask("WAIT", 1, 30_000) == 1  # else the replica may know nothing of the namespace
                fleet.kill_primary()
                await asyncio.to_thread(fleet.wait_for_new_primary)
                await callers.more(50)
                await callers.stop()
            assert world.heard.of(StoreProblem) == []

    asyncio.run(main())


def test_after_a_failover_that_lost_writes_no_more_is_overspent_than_they_were_and_it_is_told(
    state_home: None,
) -> None:
    limit = 12_000

    async def main() -> None:
        with SentinelFleet() as fleet:
            world = RedisWorld(fleet.primary, "lossy", fleet.url)
            settings = bg.GuardSettings(lease_ms=8_000)  # what the store has lost is told with each sweep, every 2 s
            async with world.guard(f"{limit} tokens/total", timeout_ms=FAILOVER_MS, settings=settings) as guard:
                billed = await calls(guard, 5)
                kept = await guard.reserve(estimate=ESTIMATE)
                assert fleet.primary.ask("WAIT", 1, 30_000) == 1
                fleet.pause_replica()
                lost = await calls(guard, 5)
                unknown = await guard.reserve(estimate=ESTIMATE)
                fleet.kill_primary()
                world.server = await asyncio.to_thread(fleet.wait_for_new_primary)
                for hold in (kept, unknown):
                    await hold.settle(USAGE)
                billed += lost + 2 * USAGE_TOKENS + await calls_until_refused(guard)
                await until(lambda: world.heard.of(WritesLost), "the loss is told")
            (told,) = world.heard.of(WritesLost)
            assert told.since_ms < told.until_ms < unknown.admitted_ms + 60_000
            assert [(event.reservation_id, event.word) for event in world.heard.of(Late)] == [(unknown.id, "late")]
            assert [row.id for row in world.rows() if row.status == "late"] == [unknown.id]
            assert await world.stands() == {TOKENS: (billed - lost, 0)}
            assert limit < billed <= limit + lost

    asyncio.run(main())


async def calls(guard: bg.Guard, count: int) -> int:
    """What so many calls, one after the other, are billed for."""
    for _ in range(count):
        await call(guard)
    return count * USAGE_TOKENS


async def calls_until_refused(guard: bg.Guard) -> int:
    """What calls are billed for until a budget refuses one."""
    billed = 0
    with contextlib.suppress(bg.BudgetExceeded):
        while True:
            billed += await calls(guard, 1)
    return billed


def test_a_failover_that_lost_the_whole_namespace_admits_nothing_until_that_is_accepted(state_home: None) -> None:
    async def main() -> None:
        with SentinelFleet() as fleet:
            fleet.pause_replica()
            world = RedisWorld(fleet.primary, "gone", fleet.url)
            async with world.guard("9k tokens/total", timeout_ms=FAILOVER_MS) as guard:
                await call(guard)
                fleet.kill_primary()
                world.server = await asyncio.to_thread(fleet.wait_for_new_primary)
                with pytest.raises(bg.StateLost, match="budgetguard init --accept-loss"):
                    await call(guard)
                assert world.rows() == []
                accepting = world.store()
                await accepting.open(accept_loss=True)
                await accepting.aclose()
                await call(guard)
            assert await world.stands() == {TOKENS: (USAGE_TOKENS, 0)}

    asyncio.run(main())
