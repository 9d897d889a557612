"""The processes of a storm: started, read line by line, killed or stopped where the seed says, and replaced."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

from storm_stores import StormStore
from warm_python import WarmProcess

PROGRAM = f"import runpy; runpy.run_path({str(Path(__file__).with_name('storm_worker.py'))!r}, run_name='__main__')"
STEPS = ("admitted", "billed", "recorded", "settled")
ENDS = ("settled", "refused", "away")
DEADLINE_S = 120.0


class Strike(NamedTuple):
    """What befalls a process at the `count`th line of a step."""

    step: str
    count: int
    signal: signal.Signals


def strikes_of(seed: int, workers: int, kills: int, stops: int, latest: int) -> dict[int, list[Strike]]:
    """Which process is struck when; several strikes of one worker befall its replacements."""
    chance = random.Random(f"strikes {seed}")
    found: dict[int, list[Strike]] = defaultdict(list)
    for number in range(kills + stops):
        sent = signal.SIGKILL if number < kills else signal.SIGSTOP
        found[chance.randrange(workers)].append(Strike(chance.choice(STEPS), chance.randint(1, latest), sent))
    return {worker: chance.sample(struck, len(struck)) for worker, struck in found.items()}


class Fleet:
    """Eight processes (or so) on one store. `ids` has the reservation ids of each step that was told; `spooled` is what
    processes that ended have left in the spool.

    Args:
        options: of `storm_worker`, but for `worker` and `numbers`.
        strikes: by worker.
        on_line: called after every line.
    """

    def __init__(
        self, folder: Path, store: StormStore, workers: int, options: dict[str, Any], strikes: dict[int, list[Strike]],
        on_line: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self.folder = folder
        self.store = store
        self.ids: dict[str, list[str]] = defaultdict(list)
        self.killed: list[int] = []
        self.stopped: list[int] = []
        self.spooled = 0
        self.events: Counter[str] = Counter()
        self._workers = workers
        self._options = options
        self._strikes = strikes
        self._on_line = on_line
        self._left = {worker: set(range(options["count"])) for worker in range(workers)}

    async def run(self) -> None:
        """Until every task of every worker has ended, in whichever process."""
        async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
            for worker in range(self._workers):
                group.create_task(self._work(worker))

    async def _work(self, worker: int) -> None:
        strikes = list(self._strikes.get(worker, ()))
        while self._left[worker]:
            strike = strikes.pop(0) if strikes else None
            if not await self._one_process(worker, strike):
                return

    async def _one_process(self, worker: int, strike: Strike | None) -> bool:
        """True if the process was killed, as it should be."""
        options = {**self._options, "worker": worker, "numbers": sorted(self._left[worker])}
        errors = self.folder / f"worker-{worker}.log"
        ours, theirs = os.pipe()
        with errors.open("ab") as log, os.fdopen(theirs, "wb") as out:
            args = [json.dumps({**options, "folder": str(self.folder)})]
            process = WarmProcess(PROGRAM, args, Path.cwd(), os.environ, out, log)
        lines, loop = asyncio.StreamReader(), asyncio.get_running_loop()
        pipe, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), os.fdopen(ours, "rb"))
        try:
            return await self._attend(worker, process, lines, strike, errors)
        finally:
            pipe.close()
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def _attend(
        self, worker: int, process: WarmProcess, lines: asyncio.StreamReader, strike: Strike | None, errors: Path
    ) -> bool:
        seen: Counter[str] = Counter()
        resuming: list[asyncio.Task[None]] = []
        async for line in lines:
            step, number, said = line.decode().rstrip("\n").split(" ", 2)
            if step == "done":
                self.spooled += int(number)
                self.events.update(json.loads(said))
                continue
            self.ids[step].append(said)
            seen[step] += 1
            if step in ENDS:
                self._left[worker].discard(int(number))
            if strike is not None and strike.step == step and strike.count == seen[step]:
                if strike.signal == signal.SIGKILL:
                    process.kill()
                else:
                    resuming.append(asyncio.create_task(self._pause(process)))
            self._on_line()
        code = await process.wait()
        await asyncio.gather(*resuming)
        if code == -signal.SIGKILL and strike is not None and strike.signal == signal.SIGKILL:
            self.killed.append(process.pid)
            return True
        assert code == 0, f"worker {worker} ended with {code}:\n{errors.read_text(encoding='utf-8')[-4000:]}"
        assert not self._left[worker]
        return False

    async def _pause(self, process: WarmProcess) -> None:
        """Stop the process, outside of a transaction, until others have expired a hold of it."""
        while True:
            process.send_signal(signal.SIGSTOP)
            if await self.store.lets_others_in():
                break
            process.send_signal(signal.SIGCONT)
            await until(self.store.lets_others_in, "the process to end its transaction")
        self.stopped.append(process.pid)
        try:
            await until(lambda: self._holds_nothing(process.pid), "the holds of the stopped process to expire")
        finally:
            process.send_signal(signal.SIGCONT)

    async def _holds_nothing(self, pid: int) -> bool:
        return not any(hold.host.endswith(f":{pid}") for hold in await self.store.holds())


async def until(condition: Callable[[], Awaitable[bool]], what: str, deadline_s: float = 60.0) -> None:
    """Wait for a condition that nothing here can announce."""
    ends = time.monotonic() + deadline_s
    while not await condition():
        assert time.monotonic() < ends, f"waited {deadline_s} s in vain for {what}"
        await asyncio.sleep(0.02)
