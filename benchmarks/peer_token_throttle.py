"""A call of token-throttle on Redis, six limits: run by `redis_peers.py` with a Python that has it.

`peer_token_throttle.py <port> <calls> <seconds> <callers>` prints as JSON: microseconds of a call (the median of those
made one after the other), calls per second of that many callers, and how many of those failed.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import statistics
import sys
import time
from typing import Any

WINDOWS_S = (60, 3_600, 86_400)
MOST = 10**12


def limiter_of(port: int, callers: int) -> Any:
    """Tokens and requests in three windows."""
    package, redis = importlib.import_module("token_throttle"), importlib.import_module("redis.asyncio")
    quotas = [
        package.Quota(metric=metric, limit=MOST, per_seconds=window_s)
        for metric in ("tokens", "requests")
        for window_s in WINDOWS_S
    ]
    config = package.PerModelConfig(quotas=package.UsageQuotas(quotas))
    client = redis.Redis(port=port, max_connections=4 * callers)
    backend = package.RedisBackendBuilder(client, key_prefix="bench", owns_redis_client=True)
    return package.RateLimiter(config, backend=backend)


async def call(limiter: Any) -> None:
    """One; its provider answers at once."""
    async with limiter.reserve({"tokens": 1600, "requests": 1}, model="acme-1") as handle:
        handle.set_actual_usage({"tokens": 1490, "requests": 1})


async def measure(port: int, calls: int, seconds: float, callers: int) -> dict[str, float]:
    """What is printed."""
    limiter = limiter_of(port, callers)
    one_s: list[float] = []
    done = failed = 0
    ends = time.perf_counter() + 2 * seconds
    while len(one_s) < calls and time.perf_counter() < ends:
        started = time.perf_counter()
        await call(limiter)
        one_s.append(time.perf_counter() - started)
    started = time.perf_counter()

    async def caller() -> None:
        nonlocal done, failed
        while time.perf_counter() - started < seconds:
            try:
                await call(limiter)
                done += 1
            except Exception:  # noqa: BLE001 - how it fails under load is the peer's own
                failed += 1

    await asyncio.gather(*(caller() for _ in range(callers)))
    per_s = done / (time.perf_counter() - started)
    await limiter.aclose()
    return {"p50_us": statistics.median(one_s) * 1e6, "per_s": per_s, "failed": failed}


if __name__ == "__main__":
    _, port, calls, seconds, callers = sys.argv
    print(json.dumps(asyncio.run(measure(int(port), int(calls), float(seconds), int(callers)))))
