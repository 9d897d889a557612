"""The process that starts after one that left, was killed or lost its disk."""

from __future__ import annotations

from pathlib import Path

from storm_books import holds_of
from storm_fleet import until
from storm_world import storm_guard

from budgetguard.stores import open_spool


def spooled(folder: Path) -> int:
    spool = open_spool(None, "default", str(folder / "spool.db"))
    try:
        return len(spool)
    finally:
        spool.close()


async def start_again(folder: Path) -> None:
    """The next process: its guard replays the spool and sweeps what the last one left."""

    async def settled_down() -> bool:
        return spooled(folder) == 0 and not await holds_of(folder / "budgets.db")

    async with storm_guard(folder, lease_ms=400):
        await until(settled_down, "the next start to replay the spool and to sweep")
