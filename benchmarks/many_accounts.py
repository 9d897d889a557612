"""What a call costs on SQLite where few accounts stand, and where a million do."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from pathlib import Path

import apsw
from figures import Figure, Sizes, at_most, fresh_folder, median, progress
from workload import agent_name, guard_of, guarded_call

import budgetguard as bg

FEW, AT_ONCE = 10, 256
BOUND = 1.5
BUDGETS = (bg.Budget("each-agent", ["$5_000_000/day"], per=["agent"]),)
"""One account for each agent."""
COPY = """
WITH RECURSIVE numbers(number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < ? - 1)
INSERT INTO accounts SELECT {columns} FROM numbers CROSS JOIN (SELECT * FROM accounts) ORDER BY number"""


def figures(sizes: Sizes) -> list[Figure]:
    """Every call is of an agent drawn among all: one call after the other, and many at once.

    At once, callers who share ten accounts share their rows too, and those among a million share none: that part of
    the difference is the disk's, and nothing is asked of it.
    """
    with fresh_folder(sizes) as folder:
        few, many = folder / "few.db", folder / "many.db"
        progress(f"making {sizes.accounts} accounts")
        fill(few, FEW)
        fill(many, sizes.accounts)
        one: list[tuple[float, float]] = []
        at_once: list[tuple[float, float]] = []
        for number in range(sizes.rounds):
            progress(f"{FEW} against {sizes.accounts} accounts: {number + 1} of {sizes.rounds}")
            for costs, callers in ((one, 1), (at_once, AT_ONCE)):
                small, large = us_per_call(few, FEW, callers, sizes), us_per_call(many, sizes.accounts, callers, sizes)
                costs.append((small, large))
    what = f"SQLite, a call at {sizes.accounts:,} accounts by one at {FEW}"
    at_once_ratio = median([large / small for small, large in at_once])
    return [
        at_most(what, median([large / small for small, large in one]), BOUND, _made_of(one)),
        Figure(f"   with {AT_ONCE} callers at once", f"{at_once_ratio:.2f}", made_of=_made_of(at_once)),
    ]


def _made_of(costs: Sequence[tuple[float, float]]) -> str:
    small, large = (median(values) for values in zip(*costs, strict=True))
    return f"{large:.0f} us by {small:.0f} us"


def fill(path: Path, accounts: int) -> None:
    """Make the account of agent 0 by a call, and copies of its row for the others."""
    asyncio.run(_one_call(path))
    db = apsw.Connection(str(path))
    names = [str(name) for _, name, *_ in db.execute("PRAGMA table_info(accounts)")]
    other = f"replace({{}}, '{agent_name(0)}', printf('agent-%07d', number))"
    columns = ", ".join(other.format(name) if name in ("key", "per") else name for name in names)
    db.execute(COPY.format(columns=columns), (accounts,))
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()


async def _one_call(path: Path) -> None:
    async with guard_of(BUDGETS, path) as guard:
        await guarded_call(guard, 0, "session-0")


def us_per_call(path: Path, accounts: int, callers: int, sizes: Sizes) -> float:
    """Microseconds of the clock that a call takes, or a call's share of them where several are made at once."""
    return asyncio.run(_us_per_call(path, accounts, callers, sizes.seconds))


async def _us_per_call(path: Path, accounts: int, callers: int, seconds: float) -> float:
    draw = random.Random(accounts)
    done = 0
    async with guard_of(BUDGETS, path) as guard:
        await guarded_call(guard, 0, "session-0")
        started = time.perf_counter()

        async def caller(session: str) -> None:
            nonlocal done
            while time.perf_counter() - started < seconds:
                await guarded_call(guard, draw.randrange(accounts), session)
                done += 1

        await asyncio.gather(*(caller(f"session-{number}") for number in range(callers)))
        return (time.perf_counter() - started) / done * 1e6
