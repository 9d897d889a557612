"""What the tests of delay share: calls that wait, and how many do."""

from __future__ import annotations

import asyncio
from typing import Any

from guard_kit import until

import budgetguard as bg

ONE_AT_A_TIME = bg.Budget("one", ["1 concurrent"], on_exceed="delay", max_delay="60s")
ROOM = bg.Budget("room", ["1k tokens/day"], on_exceed="delay", max_delay="60s")


def in_line(guard: bg.Guard) -> int:
    """How many calls wait, for a guard that tells nobody when they begin to."""
    return len({waiter.number for waiters in guard._engines.current().line._blocked.values() for waiter in waiters})


async def taken(guard: bg.Guard, **options: Any) -> bg.Hold:
    """A hold that is open, but not around the caller."""
    return await asyncio.create_task(_reserve(guard, options))


async def waits(guard: bg.Guard, **options: Any) -> asyncio.Task[bg.Hold]:
    """A call that stands in the line."""
    before = in_line(guard)
    task = asyncio.create_task(_reserve(guard, options))
    await until(lambda: in_line(guard) > before or task.done(), "it waits")
    assert not task.done()
    return task


async def _reserve(guard: bg.Guard, options: dict[str, Any]) -> bg.Hold:
    return await guard.reserve(**options)


async def soon(waiter: asyncio.Task[bg.Hold]) -> bg.Hold:
    async with asyncio.timeout(10):
        return await waiter
