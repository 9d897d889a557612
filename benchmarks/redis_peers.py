"""What others do on the same server, with half as many limits: beside the guard, and nothing is asked of it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from figures import Figure, Sizes, fresh_folder, median, progress
from limits import RateLimitItem, RateLimitItemPerDay, RateLimitItemPerHour, RateLimitItemPerMinute
from limits.aio.storage import RedisStorage
from limits.aio.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter, RateLimiter
from redis_rate import CALLERS, at_once
from redis_server import Server, redis_server

STRATEGIES: dict[str, type[RateLimiter]] = {
    "fixed windows": FixedWindowRateLimiter, "moving windows": MovingWindowRateLimiter,
}  # fmt: skip
ITEMS: tuple[RateLimitItem, ...] = tuple(
    per(10**6, namespace=budget)
    for budget in ("team", "agent")
    for per in (RateLimitItemPerMinute, RateLimitItemPerHour, RateLimitItemPerDay)
)
PEER = Path(__file__).parent / "peer_token_throttle.py"
INSTALLED = "token-throttle[redis]", "hiredis"
IS_NEW_ENOUGH = "import sys; sys.exit(sys.version_info < (3, 12))"
DEADLINE_S = 180


def figures(sizes: Sizes) -> list[Figure]:
    """`limits`: six hits one after the other, of which none is taken back. token-throttle: six limits, and a refund."""
    with redis_server(sizes) as server:
        found = [_limits(server, name, sizes) for name in STRATEGIES]
        return [*found, _token_throttle(server, sizes)]


def _figure(what: str, p50_us: float, per_s: float, made_of: str) -> Figure:
    return Figure(what, f"{p50_us:.0f}", made_of=f"us one after the other; {CALLERS} callers: {per_s:.0f}/s{made_of}")


def _limits(server: Server, name: str, sizes: Sizes) -> Figure:
    costs = []
    for number in range(sizes.rounds):
        progress(f"limits, {name}: {number + 1} of {sizes.rounds}")
        server.ask("FLUSHALL")
        costs.append(asyncio.run(_limits_costs(server, STRATEGIES[name], sizes)))
    p50_us, per_s = (median(values) for values in zip(*costs, strict=True))
    return _figure(f"limits, six hits, {name}", p50_us, per_s, "")


async def _limits_costs(server: Server, strategy: type[RateLimiter], sizes: Sizes) -> tuple[float, float]:
    url = f"async+redis://127.0.0.1:{server.port}/0"
    limiter = strategy(RedisStorage(url, implementation="redispy", max_connections=CALLERS))

    async def call(number: int) -> None:
        for item in ITEMS:
            await limiter.hit(item, "team-0")

    one_s = []
    for number in range(max(1, sizes.calls // 4)):
        started = time.perf_counter()
        await call(number)
        one_s.append(time.perf_counter() - started)
    return median(one_s) * 1e6, (await at_once(call, server, sizes.seconds)).per_s


def _token_throttle(server: Server, sizes: Sizes) -> Figure:
    """In a process of its own, since it wants Python 3.12, and in an environment made for it."""
    what = "token-throttle, six limits"
    python = next((found for found in _pythons() if _runs([found, "-c", IS_NEW_ENOUGH])), None)
    if not sizes.installs or python is None:
        return Figure(what, "-", made_of="left out: " + ("no Python 3.12 here" if sizes.installs else "--quick"))
    progress("token-throttle")
    with fresh_folder(sizes) as folder:
        own = str(folder / "bin" / "python")
        if not (_runs([python, "-m", "venv", str(folder)]) and _runs([own, "-m", "pip", "install", *INSTALLED])):
            return Figure(what, "-", made_of="left out: it cannot be installed")
        server.ask("FLUSHALL")
        command = [own, str(PEER), str(server.port), str(sizes.calls // 4), str(sizes.seconds), str(CALLERS)]
        told = _told(command)
    if told is None:
        return Figure(what, "-", made_of="left out: it did not come to its end")
    return _figure(what, told["p50_us"], told["per_s"], f", {told['failed']} failed")


def _pythons() -> Iterator[str]:
    """Of this machine; pyenv's are found even where they are not switched on."""
    yield sys.executable
    on_path = (shutil.which(f"python3.{minor}") for minor in range(12, 16))
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for found in chain(on_path, map(str, sorted(pyenv.glob("3.1[2-9]*/bin/python")))):
        if found is not None:
            yield found


def _runs(command: list[str]) -> bool:
    return _output(command) is not None


def _told(command: list[str]) -> dict[str, float] | None:
    output = _output(command)
    return None if output is None else dict(json.loads(output))


def _output(command: list[str]) -> str | None:
    """What a command prints, None if it fails or takes too long."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
