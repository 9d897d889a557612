"""Calls in a process that dies at the k-th write or sync of its store, for every k until one lives to the end.

Started by `test_storms_crash` with a JSON object: folder, and power: whether the machine goes with the process, so that
what was written and not synced is lost, whole or in part. Each process is a fork of this one, which opens nothing.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import random
import signal
import sys
from pathlib import Path

import apsw
from storm_worker import tell
from storm_world import MODEL, TEAM, BillingProvider, storm_guard, tasks_of

CALLS = 1


class CrashingDisk(apsw.VFS):
    """Kills the process at a write (half of which is done) or before a sync.

    Args:
        steps: how many writes and syncs succeed before.
        chance: decides which unsynced writes go when the power does; None where the machine stays.
    """

    def __init__(self, steps: int, chance: random.Random | None) -> None:
        super().__init__("crashing", "unix", makedefault=True)
        self.files: list[_File] = []
        self.chance = chance
        self._steps = steps

    def last_step(self) -> bool:
        self._steps -= 1
        return self._steps < 0

    def crash(self) -> None:
        if self.chance is not None:
            lost_share = self.chance.choice([1.0, 0.5])
            for file in self.files:
                file.lose(self.chance, lost_share)
        os.kill(os.getpid(), signal.SIGKILL)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        self.files.append(_File(self, name, flags))
        return self.files[-1]


class _File(apsw.VFSFile):
    def __init__(self, disk: CrashingDisk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        self._disk = disk
        self._unsynced: list[tuple[int, bytes]] = []

    def xWrite(self, data: bytes, offset: int) -> None:
        stood = max(0, min(len(data), self.xFileSize() - offset))
        self._unsynced.append((offset, self.xRead(stood, offset).ljust(len(data), b"\0")))
        if self._disk.last_step():
            super().xWrite(data[: len(data) // 2], offset)
            self._disk.crash()
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        if self._disk.last_step():
            self._disk.crash()
        super().xSync(flags)
        self._unsynced.clear()

    def lose(self, chance: random.Random, share: float) -> None:
        for offset, before in reversed(self._unsynced):
            if chance.random() < share:
                super().xWrite(before, offset)


async def calls(folder: Path, process: int) -> None:
    guard = storm_guard(folder, lease_ms=400)
    provider = BillingProvider(folder / "bill.jsonl")
    for task in tasks_of(process, 0, CALLS):
        hold = await guard.reserve(team=TEAM, agent=task.agent, model=MODEL, estimate=task.estimate)
        tell("admitted", task, hold.id)
        await hold.settle(await provider.answer(task._replace(latency_s=0.0), hold.id))
        tell("settled", task, hold.id)
    hold = await guard.reserve(team=TEAM, agent=task.agent, model=MODEL, estimate=task.estimate)
    await hold.release()
    tell("released", task, hold.id)
    await guard.aclose()


def run(folder: str, power: bool) -> None:
    """Once while the file has to be made, where some of the steps will do; and once where it stands."""
    processes = itertools.count()
    for every in (5, 1):
        for steps in itertools.count(0, every):
            process = next(processes)
            child = os.fork()
            if child == 0:
                disk = CrashingDisk(steps, random.Random(process) if power else None)
                asyncio.run(calls(Path(folder), process))
                disk.unregister()
                os._exit(0)
            _, status = os.waitpid(child, 0)
            if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
                os.write(1, f"steps {steps} {os.waitstatus_to_exitcode(status)}\n".encode())
                break


if __name__ == "__main__":
    logging.getLogger("budgetguard").setLevel(logging.CRITICAL)
    run(**json.loads(sys.argv[1]))
