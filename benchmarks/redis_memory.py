"""What Redis keeps for accounts and reservations: bytes of its memory, ledger rows apart."""

from __future__ import annotations

import asyncio
import time

from figures import Figure, Sizes, at_most, progress
from redis_server import Server, redis_server
from workload import ESTIMATE, MODEL, guard_of, guarded_call

import budgetguard as bg
from budgetguard.stores.redis import RedisStore

ACCOUNT_MOST, OPEN_MOST, RESOLVED_MOST = 450, 900, 250
LABEL_BYTES = 130
LIMITS = ("50M tokens/{}", "$500/{}")
PER = ("agent", "session", "user")
SIX_LIMITS = tuple(bg.Budget(f"each-{label}", [limit.format("day") for limit in LIMITS], per=[label]) for label in PER)
ROLLING = (bg.Budget("each-agent", [limit.format("rolling 60 minutes") for limit in LIMITS], per=["agent"]),)
SLOTS, SLOT_MS = 61, 60_000
SETTLED_S = 0.2
"""So long its tables no longer grow: they do it in steps."""


class SetClock:
    """Tells what it was set to."""

    def __init__(self, at_ms: int) -> None:
        self.at_ms = at_ms

    def now_ms(self) -> int:
        return self.at_ms


def figures(sizes: Sizes) -> list[Figure]:
    """No account and no reservation is shared; rolling accounts apart, of which nothing is asked."""
    progress("memory of Redis")
    with redis_server(sizes) as server:
        account, is_open, resolved = asyncio.run(_bytes_each(server, sizes.calls))
    with redis_server(sizes) as server:
        rolling = [asyncio.run(_bytes_of_rolling(server, max(1, sizes.calls // 10), slots)) for slots in (1, SLOTS)]
    made_of = f"{sizes.calls} calls, {LABEL_BYTES} bytes of labels, {len(PER) * len(LIMITS)} accounts each"
    return [
        at_most("Redis, bytes of an account with its index entry", account, ACCOUNT_MOST, made_of, "{:.0f}"),
        at_most("   of an open reservation", is_open, OPEN_MOST, "on accounts that stand", "{:.0f}"),
        at_most("   of a resolved one", resolved, RESOLVED_MOST, "settled", "{:.0f}"),
        Figure("   of a rolling account, fresh", f"{rolling[0]:.0f}", made_of="one slot, with its index entry"),
        Figure("   of a rolling account, full", f"{rolling[1]:.0f}", made_of=f"{SLOTS} slots, with its index entry"),
    ]


def labels_of(number: int) -> dict[str, str]:
    """A call's own labels: of LABEL_BYTES bytes, names and values together."""
    labels = {"team": "search-platform", "task": ""} | {label: f"{label}-{number:07d}" for label in PER}
    size = sum(len(name) + len(value) for name, value in labels.items())
    return labels | {"task": "x" * (LABEL_BYTES - size)}


async def _bytes_each(server: Server, calls: int) -> tuple[float, float, float]:
    """Of an account, an open reservation and a resolved one."""
    async with guard_of(SIX_LIMITS, server.url) as guard:
        for number in range(calls):
            await (await _reserve(guard, number)).settle(ESTIMATE)
        settled_once = await _bytes(server)
        holds = [await _reserve(guard, number) for number in range(calls)]
        held = await _bytes(server)
        for hold in holds:
            await hold.settle(ESTIMATE)
        settled_twice = await _bytes(server)
    resolved = (settled_twice - settled_once) / calls
    accounts = settled_once - await _bytes_of_nothing(server) - (settled_twice - settled_once)
    return accounts / (calls * len(PER) * len(LIMITS)), (held - settled_once) / calls, resolved


async def _reserve(guard: bg.Guard, number: int) -> bg.Hold:
    return await guard.reserve(labels=labels_of(number), model=MODEL, estimate=ESTIMATE)


async def _bytes_of_rolling(server: Server, agents: int, slots: int) -> float:
    """Of a rolling account that was used in so many slots."""
    clock = SetClock(time.time_ns() // 1_000_000)
    async with guard_of(ROLLING, RedisStore(server.url, clock=clock, timeout_ms=10_000)) as guard:
        for _ in range(slots):
            clock.at_ms += SLOT_MS
            await asyncio.gather(*[guarded_call(guard, agent, "session") for agent in range(agents)])
        server.forget("bg:*:h:*")
        found = await _bytes(server)
    return (found - await _bytes_of_nothing(server)) / (agents * len(LIMITS))


async def _bytes(server: Server) -> int:
    """Without ledger rows, once tables no longer grow."""
    server.forget("bg:*:outbox")
    size, before = server.memory_bytes(), 0
    while size != before:
        await asyncio.sleep(SETTLED_S)
        size, before = server.memory_bytes(), size
    return size


async def _bytes_of_nothing(server: Server) -> int:
    """Without any data: what the server has taken meanwhile for itself belongs to no account."""
    server.ask("FLUSHALL", "SYNC")
    return await _bytes(server)
