"""A process that leaves in the midst of its calls, in the way that its argument names; told line by line as a worker's.

Started by `test_storms_exits` with a JSON object: folder, way, after (so many recorded calls), away (the store is held
by another connection from then on).
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

import apsw
from storm_worker import tell
from storm_world import MODEL, TEAM, BillingProvider, Task, storm_guard, tasks_of

import budgetguard as bg

TASKS = 40
by_hand: list[bg.Hold] = []
"""Holds that nobody settles: recorded or not, they are open when the process leaves."""
locks: list[apsw.Connection] = []


class Leaver:
    """Makes the calls, and leaves after so many of them were recorded."""

    def __init__(self, folder: Path, way: str, after: int, away: bool) -> None:
        self.folder, self.way, self.after, self.away = folder, way, after, away
        self.leaving = asyncio.Event()
        self._recorded = 0
        self._provider = BillingProvider(folder / "bill.jsonl", lambda task, id: tell("billed", task, id))

    async def run(self) -> None:
        guard = storm_guard(self.folder, timeout_ms=200, lease_ms=400)
        tasks = tasks_of(1, 0, TASKS)
        working = [asyncio.create_task(self._call(guard, task, hold_on=task.number % 4 == 0)) for task in tasks]
        left = asyncio.create_task(self.leaving.wait())
        # A main task that ends in the very round in which another exits makes asyncio itself fail: it only waits then.
        others = [] if self.way == "sys.exit" else working
        await asyncio.wait([left, *others], return_when=asyncio.FIRST_EXCEPTION)
        if self.way == "raise":
            raise RuntimeError("leaving")

    async def _call(self, guard: bg.Guard, task: Task, hold_on: bool) -> None:
        options: dict[str, Any] = {"team": TEAM, "agent": task.agent, "model": MODEL, "estimate": task.estimate}
        if hold_on:
            hold = await guard.reserve(**options)
            by_hand.append(hold)
            hold.record(await self._provider.answer(task, hold.id))
            self._tell_recorded(task, hold.id)
            await self.leaving.wait()
            return
        async with guard.reserve(**options) as hold:
            hold.record(await self._provider.answer(task, hold.id))
            self._tell_recorded(task, hold.id)
        tell("settled", task, hold.id)

    def _tell_recorded(self, task: Task, id: str) -> None:
        tell("recorded", task, id)
        self._recorded += 1
        if self._recorded == self.after:
            self._leave()

    def _leave(self) -> None:
        if self.away:
            db = apsw.Connection(str(self.folder / "budgets.db"))
            db.set_busy_timeout(5_000)
            db.execute("BEGIN IMMEDIATE")
            locks.append(db)
        if self.way == "sys.exit":
            sys.exit(3)
        self.leaving.set()
        if self.way == "close the loop":
            asyncio.get_running_loop().stop()
        if self.way == "os._exit":
            os._exit(3)
        elif self.way in ("SIGINT", "SIGTERM"):
            os.kill(os.getpid(), signal.Signals[self.way])


async def main(folder: str, way: str, after: int, away: bool) -> None:
    """The guard is local: nothing but the library keeps it once this has ended."""
    await Leaver(Path(folder), way, after, away).run()


def run(options: dict[str, Any]) -> None:
    if options["way"] != "close the loop":
        asyncio.run(main(**options))
        return
    loop = asyncio.new_event_loop()  # as programs were written before asyncio.run: nothing is cancelled or awaited
    working = loop.create_task(main(**options))
    loop.run_forever()
    assert not working.done()
    loop.close()


if __name__ == "__main__":
    logging.getLogger("budgetguard").setLevel(logging.CRITICAL)
    try:
        run(json.loads(sys.argv[1]))
    finally:
        gc.collect()
