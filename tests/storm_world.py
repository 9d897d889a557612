"""What a storm is made of: budgets tight enough to refuse, tasks that a seed decides, a provider with its own bill.

And a witness: the counter that everybody writes first, which overspends where the guard does not.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import budgetguard as bg
from budgetguard.core.amounts import MAX_AMOUNT
from budgetguard.testing import BilledCall, ProviderPrice
from budgetguard.testing.bill import Bill

TEAM, MODEL = "storm", "storm-1"
LEASE_MS = 1_500
AGENTS = tuple(f"agent-{number}" for number in range(8))
AGENT_WEIGHTS = (8, 5, 4, 3, 3, 2, 2, 1)
PROVIDER_PRICE = ProviderPrice(1_000_000_000, 4_000_000_000)
PRICES = [bg.Price(MODEL, {"input": "1", "output": "4"})]
CALLS = 1600
"""Of the storms for which `BUDGETS` are made."""


def share(amount: int, calls: int) -> int:
    """Of an amount that is too tight for `CALLS`: what is as tight for so many."""
    return amount * calls // CALLS


def team_tokens_of(calls: int) -> int:
    """What the team may spend in an hour."""
    return share(620_000, calls)


def budgets_of(calls: int) -> list[bg.Budget]:
    """Too tight for so many calls: each limit refuses some."""
    of_team = [
        f"{team_tokens_of(calls)} tokens/hour", f"${share(180_000, calls) / 10**5}/day",
        f"{share(1200, calls)} requests/hour",
    ]  # fmt: skip
    of_agent = [
        f"{share(110_000, calls)} tokens/day", f"${share(40_000, calls) / 10**5}/total",
        f"{share(100_000, calls)} tokens/rolling 60 minutes",
    ]  # fmt: skip
    return [
        bg.Budget("team", of_team, where={"team": TEAM}),
        bg.Budget("each-agent", of_agent, per=["agent"]),
        bg.Budget("at-once", ["20 concurrent"], where={"team": TEAM}, on_exceed="delay", max_delay="300s"),
    ]


BUDGETS = budgets_of(CALLS)


class Task(NamedTuple):
    """One call to be made: the actual usage never passes the estimate."""

    number: int
    agent: str
    input_tokens: int
    most_output_tokens: int
    output_tokens: int
    latency_s: float

    @property
    def estimate(self) -> bg.Usage:
        return bg.Usage(self.input_tokens, self.most_output_tokens)


def tasks_of(seed: int, worker: int, count: int) -> list[Task]:
    """The tasks of one worker of a storm."""
    chance = random.Random(f"{seed} {worker}")
    found = []
    for number in range(count):
        (agent,) = chance.choices(AGENTS, AGENT_WEIGHTS)
        most = chance.randint(100, 900)
        output = chance.choice([most, chance.randint(1, most), chance.randint(1, most)])
        found.append(Task(number, agent, chance.randint(50, 400), most, output, chance.uniform(0.001, 0.03)))
    return found


def storm_guard(
    folder: Path, *, url: str = "", namespace: str = "default", calls: int = CALLS, timeout_ms: int = 5_000,
    lease_ms: int = LEASE_MS, observer: bg.Observer | None = None,
) -> bg.Guard:  # fmt: skip
    """A guard of the storm's budgets on a store, by default the one in `folder`, with its spool there too."""
    leases = bg.GuardSettings(lease_ms=lease_ms, on_expiry="charge")
    url = url or f"sqlite:///{folder / 'budgets.db'}"
    settings = bg.StoreSettings(url, namespace, timeout_ms=timeout_ms, spool=str(folder / "spool.db"))
    observers = [] if observer is None else [observer]
    return bg.Guard(budgets=budgets_of(calls), prices=PRICES, store=settings, settings=leases, observers=observers)


class BillingProvider:
    """A provider in the worker's own process: its bill is on file before it answers.

    Args:
        billed: told of each call once it is on the bill.
    """

    def __init__(self, bill: Path, billed: Callable[[Task, str], None] = lambda *_: None) -> None:
        self._bill = Bill(bill)
        self._billed = billed

    async def answer(self, task: Task, reservation_id: str) -> bg.Usage:
        usage = bg.Usage(task.input_tokens, task.output_tokens)
        cost_nanousd = PROVIDER_PRICE.cost_nanousd(task.input_tokens, task.output_tokens)
        call_id = f"{os.getpid()}-{len(self._bill.calls)}"
        self._bill.add(BilledCall(call_id, MODEL, *_counts(usage), cost_nanousd, reservation_id))
        self._billed(task, reservation_id)
        await asyncio.sleep(task.latency_s)
        return usage


class CheckThenAct:
    """Look whether there is room, call, then add what it took: right for one caller at a time, and no more."""

    WIDTH = len(str(MAX_AMOUNT))

    def __init__(self, counter: Path, limit_tokens: int, at_once: int) -> None:
        self._file = os.open(counter, os.O_RDWR | os.O_CREAT)
        self._limit_tokens = limit_tokens
        self._at_once = asyncio.Semaphore(at_once)

    def _spent(self) -> int:
        return int(os.pread(self._file, self.WIDTH, 0) or b"0")

    async def call(self, task: Task, provider: BillingProvider) -> None:
        async with self._at_once:
            if self._spent() + task.input_tokens + task.most_output_tokens <= self._limit_tokens:
                usage = await provider.answer(task, "")
                spent = self._spent() + sum(_counts(usage))
                os.pwrite(self._file, f"{spent:0{self.WIDTH}}".encode(), 0)


class RedisCheckThenAct:
    """The same with a counter in Redis, whose additions at least are atomic."""

    def __init__(self, url: str, limit_tokens: int, at_once: int) -> None:
        from redis.asyncio import Redis  # here, since it makes the start of every process of a storm slower

        self._redis = Redis.from_url(url)
        self._limit_tokens = limit_tokens
        self._at_once = asyncio.Semaphore(at_once)

    async def call(self, task: Task, provider: BillingProvider) -> None:
        async with self._at_once:
            spent = int(await self._redis.get("spent") or 0)
            if spent + task.input_tokens + task.most_output_tokens <= self._limit_tokens:
                usage = await provider.answer(task, "")
                await self._redis.incrby("spent", sum(_counts(usage)))

    async def aclose(self) -> None:
        await self._redis.aclose()


def _counts(usage: bg.Usage) -> tuple[int, int]:
    return usage.input_tokens, usage.output_tokens
