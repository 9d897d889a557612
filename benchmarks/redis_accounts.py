"""What a call costs on Redis where few accounts stand and where a million do, and with few limits and with many."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace

from figures import Figure, Sizes, at_most, batched, median, progress
from guard_cpu import LIMITS, SLICES, budgets_of, linear
from many_accounts import AT_ONCE, BUDGETS, FEW
from redis_rate import at_once
from redis_server import Server, redis_server
from workload import agent_name, guard_of, guarded_call

import budgetguard as bg
from budgetguard.core.model import Account
from budgetguard.stores.redis import RedisStore
from budgetguard.stores.redis.keys import Keys, digest_of
from budgetguard.stores.redis.plans import words_of

BOUND = 1.2
PER_COPY = 5_000
COPY = """
for at = 5, #ARGV, 2 do
  redis.call('SET', ARGV[1] .. ARGV[at], ARGV[2], 'PX', ARGV[3])
  redis.call('HSET', ARGV[4], ARGV[at], ARGV[at + 1])
end"""


@dataclass
class Subject:
    """A guard whose calls are timed, one after the other; each call's agent is drawn among so many."""

    server: Server
    guard: bg.Guard
    agents: int
    draw: random.Random = field(default_factory=lambda: random.Random(1))
    us: list[float] = field(default_factory=list)
    script_us: list[float] = field(default_factory=list)

    async def calls(self, count: int) -> None:
        """Make so many."""
        before = self.server.script_us()
        for _ in range(count):
            agent = self.draw.randrange(self.agents)
            started = time.perf_counter()
            await guarded_call(self.guard, agent, "session")
            self.us.append((time.perf_counter() - started) * 1e6)
        self.script_us.append((self.server.script_us() - before) / count)

    async def at_once_us(self, seconds: float) -> float:
        """A call's share of the time where many are made at once."""

        async def call(_: int) -> None:
            await guarded_call(self.guard, self.draw.randrange(self.agents), "session")

        return 1e6 / (await at_once(call, self.server, seconds)).per_s


async def in_turn(subjects: Sequence[Subject], calls: int) -> None:
    """In slices, so that whatever slows the machine meanwhile slows them all; the first, apart, warms up."""
    for number in range(SLICES + 1):
        for subject in subjects:
            await subject.calls(max(1, calls // SLICES))
        if not number:
            for subject in subjects:
                subject.us, subject.script_us = [], []


def figures(sizes: Sizes) -> list[Figure]:
    """Every call is of an agent drawn among all: one call after the other, and many at once."""
    with redis_server(sizes) as few, redis_server(sizes) as many:
        progress(f"making {sizes.accounts} accounts")
        asyncio.run(fill(few, FEW))
        asyncio.run(fill(many, sizes.accounts))
        one, several = [], []
        for number in range(sizes.rounds):
            progress(f"{FEW} against {sizes.accounts} accounts: {number + 1} of {sizes.rounds}")
            costs, costs_at_once = asyncio.run(_costs_us(few, many, sizes))
            one.append(costs)
            several.append(costs_at_once)
    what = f"Redis, a call at {sizes.accounts:,} accounts by one at {FEW}"
    at_once_ratio = f"{median([large / small for small, large in several]):.2f}"
    return [
        at_most(what, median([large / small for small, large in one]), BOUND, _made_of(one)),
        Figure(f"   with {AT_ONCE} callers at once", at_once_ratio, made_of=_made_of(several)),
        *_by_limits(sizes),
    ]


def _made_of(costs: Sequence[tuple[float, float]]) -> str:
    small, large = (median(values) for values in zip(*costs, strict=True))
    return f"{large:.0f} us by {small:.0f} us"


async def fill(server: Server, accounts: int) -> None:
    """Make the account of agent 0 by a call, and copies of it and of its index entry for the others."""
    keys = Keys("default")
    async with guard_of(BUDGETS, server.url) as guard:
        await guarded_call(guard, 0, "session-0")
        account = await _only_account(server)
    key = keys.account(digest_of(account.key))
    value, ttl_ms = server.ask("GET", key), server.ask("PTTL", key)
    for agents in batched(range(1, accounts), PER_COPY):
        server.ask("EVAL", COPY, 0, keys.account(b""), value, ttl_ms, keys.index, *_entries(account, agents))


async def _only_account(server: Server) -> Account:
    store = RedisStore(server.url)
    try:
        ((row,), _) = await store.read_accounts()
    finally:
        await store.aclose()
    return row.account


def _entries(account: Account, agents: Sequence[int]) -> Iterator[bytes]:
    for agent in agents:
        other = replace(account, per=(("agent", agent_name(agent)),))
        yield digest_of(other.key)
        yield words_of(other)


async def _costs_us(few: Server, many: Server, sizes: Sizes) -> tuple[tuple[float, float], tuple[float, float]]:
    """Of calls one after the other, and of many at once: among few accounts, among many."""
    async with guard_of(BUDGETS, few.url) as guard, guard_of(BUDGETS, many.url) as other:
        small, large = Subject(few, guard, FEW), Subject(many, other, sizes.accounts)
        await in_turn([small, large], sizes.calls)
        at_once_us = await small.at_once_us(sizes.seconds), await large.at_once_us(sizes.seconds)
    return (median(small.us), median(large.us)), at_once_us


def _by_limits(sizes: Sizes) -> list[Figure]:
    """How a call grows with its limits: by the clock, and by the time of Redis."""
    rounds = []
    with redis_server(sizes) as server:
        for number in range(sizes.rounds):
            progress(f"Redis, limits 1 to 32: {number + 1} of {sizes.rounds}")
            rounds.append(asyncio.run(_limits_us(server, sizes.calls // 2)))
    calls_us, scripts_us = (
        [median(costs) for costs in zip(*which, strict=True)] for which in zip(*rounds, strict=True)
    )
    return [
        *linear("   by limits 1 to 32, a call by the clock", calls_us),
        *linear("   by limits 1 to 32, Redis' scripts", scripts_us),
    ]


async def _limits_us(server: Server, calls: int) -> tuple[list[float], list[float]]:
    async with AsyncExitStack() as guards:
        subjects = [
            Subject(server, await guards.enter_async_context(guard_of(budgets_of(limits), server.url)), 1)
            for limits in LIMITS
        ]
        await in_turn(subjects, calls)
    return [median(subject.us) for subject in subjects], [median(subject.script_us) for subject in subjects]
