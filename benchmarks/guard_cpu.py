"""The guard's own CPU: its share of a call, before a store that answers at once."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Mapping, Sequence

from figures import Figure, Sizes, at_most, median, progress
from workload import AMOUNTS, TWELVE_LIMITS, guard_of, guarded_call

import budgetguard as bg
from budgetguard.core.model import Account
from budgetguard.core.verbs import Expire, Extend, Grow, Release, Reserve, Settle, Settlement, Verdict
from budgetguard.store import (
    AccountRow,
    Backlog,
    Cause,
    HoldRow,
    LostWrites,
    OutputCount,
    OutputSet,
    Page,
    RefusalCount,
)

MOST_US = 150
LIMITS = (1, 2, 4, 8, 16, 32)
DOUBLED_MOST = 2.2
"""What twice the limits may cost: twice, and a tenth for noise."""
OFF_THE_LINE_MOST = 0.25
SLICES = 10
WINDOWS = ("minute", "hour", "day", "week")


class InstantStore:
    """A `Store` that grants and settles everything at once and keeps nothing."""

    def __repr__(self) -> str:
        return "InstantStore()"

    async def open(self, accept_loss: bool = False) -> int:
        return _now_ms()

    async def reserve(self, ops: Sequence[Reserve]) -> list[Verdict]:
        now_ms = _now_ms()
        return [Verdict("granted", now_ms, now_ms) for _ in ops]

    async def settle(self, ops: Sequence[Settle]) -> list[Settlement]:
        return [Settlement("settled", _now_ms()) for _ in ops]

    async def release(self, ops: Sequence[Release]) -> list[Settlement]:
        return [Settlement("released", _now_ms()) for _ in ops]

    async def grow(self, ops: Sequence[Grow]) -> list[Verdict]:
        return [Verdict("granted", _now_ms()) for _ in ops]

    async def extend(self, ops: Sequence[Extend]) -> list[Verdict]:
        return [Verdict("extended", _now_ms()) for _ in ops]

    async def expire(self, ops: Sequence[Expire]) -> list[Settlement]:
        return [Settlement("finished", _now_ms()) for _ in ops]

    async def due(self, most: int) -> list[str]:
        return []

    async def announce(self, levels: Sequence[tuple[Account, int]]) -> list[bool]:
        return [False for _ in levels]

    async def first_to_tell(self, causes: Sequence[Cause]) -> list[bool]:
        return [False for _ in causes]

    async def note_refusals(self, flush_id: str, rows: Sequence[RefusalCount]) -> None:
        pass

    async def note_outputs(self, flush_id: str, slice_ms: int, rows: Sequence[OutputCount]) -> None:
        pass

    async def read_outputs(self, words: Sequence[str] | None = None, most: int = 1000) -> list[OutputSet]:
        return []

    async def read_balances(self, accounts: Sequence[Account]) -> list[AccountRow]:
        return []

    async def read_accounts(
        self, budget: str = "*", labels: Mapping[str, str] | None = None, cursor: str | None = None, most: int = 1000
    ) -> Page[AccountRow]:
        return Page((), None)

    async def read_holds(
        self, budget: str = "*", labels: Mapping[str, str] | None = None, cursor: str | None = None, most: int = 1000
    ) -> Page[HoldRow]:
        return Page((), None)

    async def lost_writes(self) -> LostWrites | None:
        return None

    async def backlog(self) -> Backlog | None:
        return None

    async def leave(self) -> None:
        pass

    async def aclose(self) -> None:
        pass


def figures(sizes: Sizes) -> list[Figure]:
    """A call of twelve limits; and how a call grows with its limits, for agents known and new to the guard."""
    rounds = []
    for number in range(sizes.rounds):
        progress(f"the guard's own CPU: {number + 1} of {sizes.rounds}")
        rounds.append(asyncio.run(_us_per_call(sizes.calls)))
    one_us, *costs_us = (median(costs) for costs in zip(*rounds, strict=True))
    return [
        at_most(
            "the guard's own CPU for a call of 12 limits, us", one_us, MOST_US, "instant store, CPU time", "{:.0f}"
        ),
        *linear("   by limits 1 to 32, agents known to the guard", costs_us[: len(LIMITS)]),
        *linear("   by limits 1 to 32, every call a new agent", costs_us[len(LIMITS) :]),
    ]


def linear(what: str, costs_us: Sequence[float]) -> list[Figure]:
    """Twice the limits cost at most twice, and every cost lies near the straight line through them."""
    made_of = "us for " + ", ".join(f"{n}: {cost:.0f}" for n, cost in zip(LIMITS, costs_us, strict=True))
    return [
        at_most(f"{what}: 32 by 16", costs_us[-1] / costs_us[-2], DOUBLED_MOST, made_of),
        at_most(f"{what}: off the line", off_the_line(LIMITS, costs_us), OFF_THE_LINE_MOST, "the worst, as a share"),
    ]


def off_the_line(at: Sequence[float], values: Sequence[float]) -> float:
    """The largest distance of a value from the least-squares line, as a share of the line."""
    mean_at, mean_value = sum(at) / len(at), sum(values) / len(values)
    slope = sum((x - mean_at) * (y - mean_value) for x, y in zip(at, values, strict=True)) / sum(
        (x - mean_at) ** 2 for x in at
    )
    line = [mean_value + slope * (x - mean_at) for x in at]
    return max(abs(value - on_line) / on_line for value, on_line in zip(values, line, strict=True))


def budgets_of(limits: int) -> list[bg.Budget]:
    """Budgets per agent with so many limits together, at most eight in each."""
    texts = [f"{amount}/{window}" for window in WINDOWS for amount in AMOUNTS]
    sizes = [min(len(texts), limits - first) for first in range(0, limits, len(texts))]
    return [bg.Budget(f"budget-{number}", texts[:size], per=["agent"]) for number, size in enumerate(sizes)]


class Subject:
    """A guard whose calls are timed, one after the other; each has a session of its own."""

    def __init__(self, budgets: Sequence[bg.Budget], calls: int, *, new_agents: bool = False) -> None:
        self._guard = guard_of(budgets, InstantStore())
        self._numbers = itertools.count()
        self._new_agents = new_agents
        # What the guard remembers of new agents is swept by Python's garbage collector at everybody's expense.
        self._calls = calls // 10 if new_agents else calls
        self._cpu_s: list[float] = []

    async def call(self, share: int) -> None:
        """Make that share of the calls."""
        count = max(1, self._calls // share)
        started = time.thread_time()
        for number in itertools.islice(self._numbers, count):
            await guarded_call(self._guard, number if self._new_agents else 0, f"session-{number}")
        self._cpu_s.append((time.thread_time() - started) / count)

    async def us_per_call(self) -> float:
        """Microseconds of CPU of a call: the median of the shares, the first apart, which was there to warm up."""
        await self._guard.aclose()
        return median(self._cpu_s[1:]) * 1e6


async def _us_per_call(calls: int) -> list[float]:
    """Of a call of twelve limits, then of each of LIMITS with known agents and with new ones."""
    subjects = [Subject(TWELVE_LIMITS, calls)]
    subjects += [Subject(budgets_of(limits), calls, new_agents=new) for new in (False, True) for limits in LIMITS]
    # In turn, so that whatever slows the machine meanwhile slows them all.
    for _ in range(SLICES + 1):
        for subject in subjects:
            await subject.call(SLICES)
    return [await subject.us_per_call() for subject in subjects]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
