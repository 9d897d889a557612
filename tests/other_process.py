"""Python in a process of its own that is told lines and tells lines: another worker of the fleet."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator

DEADLINE_S = 60


class OtherProcess:
    """Talks to one that runs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def told(self, line: str) -> str:
        """Tell it a line; the next line that it tells."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())
        return await self.hear()

    async def hear(self) -> str:
        """The next line that it tells; empty at its end."""
        assert self._process.stdout is not None
        async with asyncio.timeout(DEADLINE_S):
            return (await self._process.stdout.readline()).decode().rstrip("\n")

    async def rest(self) -> list[str]:
        """All that it still tells, until it ends by itself."""
        lines = []
        while line := await self.hear():
            lines.append(line)
        assert await self._process.wait() == 0
        return lines

    async def kill(self) -> None:
        """As `kill -9`."""
        self._process.kill()
        await self._process.wait()


@contextlib.asynccontextmanager
async def other_process(source: str, *args: str) -> AsyncIterator[OtherProcess]:
    """Run Python source; it is killed at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", source, *args, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield OtherProcess(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        process._transport.close()  # type: ignore[attr-defined]  # else its pipes are closed when nobody looks
