"""Guarded calls on Redis, one after the other and many at once, against bare scripts of a single HINCRBY."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from figures import Figure, Sizes, at_least, at_most, median, progress
from redis.asyncio import Redis
from redis_server import Server, redis_server
from workload import AGENTS, TEAMS, TWELVE_LIMITS, guard_of, guarded_call

CALLERS = 256
TRIPS_MOST, RATE_LEAST, CPU_MOST_US, SHARE_LEAST = 2.75, 0.4, 80, 0.5
FLOOR = "return redis.call('HINCRBY', KEYS[1], 'n', 1)"
SLICES = 10
WARM_UP = 0.15
"""The share of a measurement's time that passes before it counts."""


@dataclass(frozen=True)
class AtOnce:
    """What many callers at once achieved: calls per second, the slowest caller's over the mean, Redis' time for one."""

    per_s: float
    slowest_share: float
    script_us: float


def figures(sizes: Sizes) -> list[Figure]:
    """Both over TCP on loopback, the floor through redis-py's asyncio client."""
    with redis_server(sizes) as server:
        trips, calls = _one_by_one(server, sizes)
        floors, subjects = _in_turn(server, sizes)
    per_s, floor_per_s = median([subject.per_s for subject in subjects]), median(floors)
    share = min(subject.slowest_share for subject in subjects)
    return [
        at_most(
            "Redis, one after the other, 12 limits: a call by two bare round trips",
            median([call / trip for call, trip in zip(calls, trips, strict=True)]), TRIPS_MOST,
            f"p50 {median(calls):.0f} us by {median(trips):.0f} us; aim 2.0",
        ),
        at_least(
            f"Redis, {CALLERS} callers on one team, 12 limits: calls by bare scripts",
            median([subject.per_s / floor for subject, floor in zip(subjects, floors, strict=True)]), RATE_LEAST,
            f"{per_s:.0f}/s by {floor_per_s:.0f}/s; aim 0.6",
        ),
        at_least("   the slowest caller's share of the mean", share, SHARE_LEAST, "the worst of all rounds"),
        at_most(
            "   Redis' CPU for a call, us", median([subject.script_us for subject in subjects]), CPU_MOST_US,
            "commandstats of scripts", "{:.0f}",
        ),
    ]  # fmt: skip


def _one_by_one(server: Server, sizes: Sizes) -> tuple[list[float], list[float]]:
    """Microseconds, for each round, of two bare round trips and of a guarded call."""
    trips, calls = [], []
    for number in range(sizes.rounds):
        progress(f"Redis, one call after the other: {number + 1} of {sizes.rounds}")
        server.ask("FLUSHALL")
        trip, call = asyncio.run(_p50s_us(server, sizes.calls))
        trips.append(trip)
        calls.append(call)
    return trips, calls


async def _p50s_us(server: Server, count: int) -> tuple[float, float]:
    """In slices, in turn, so that whatever slows the machine meanwhile slows both."""
    trips, calls = [], []
    agents = itertools.cycle(range(0, AGENTS * TEAMS, TEAMS))
    async with guard_of(TWELVE_LIMITS, server.url) as guard, Redis(port=server.port) as client:
        sha = await client.script_load(FLOOR)
        for slice_ in range(SLICES + 1):
            for _ in range(max(1, count // SLICES)):
                started = time.perf_counter()
                await client.evalsha(sha, 1, "floor")
                await client.evalsha(sha, 1, "floor")
                trips.append(time.perf_counter() - started)
            for agent in itertools.islice(agents, max(1, count // SLICES)):
                started = time.perf_counter()
                await guarded_call(guard, agent, "session")
                calls.append(time.perf_counter() - started)
            if not slice_:  # the first slice was there to warm up
                trips, calls = [], []
    return median(trips) * 1e6, median(calls) * 1e6


def _in_turn(server: Server, sizes: Sizes) -> tuple[list[float], list[AtOnce]]:
    floors, subjects = [], []
    for number in range(sizes.rounds):
        progress(f"Redis, {CALLERS} callers at once: {number + 1} of {sizes.rounds}")
        server.ask("FLUSHALL")
        floors.append(asyncio.run(_bare_per_s(server, sizes.seconds)))
        subjects.append(asyncio.run(_guarded(server, sizes.seconds)))
    return floors, subjects


async def _bare_per_s(server: Server, seconds: float) -> float:
    """Bare scripts per second by as many tasks, of a client that has a connection for each."""
    async with Redis(port=server.port, max_connections=CALLERS) as client:
        sha = await client.script_load(FLOOR)

        async def call(_: int) -> None:
            await client.evalsha(sha, 1, "floor")

        return (await at_once(call, server, seconds)).per_s


async def _guarded(server: Server, seconds: float) -> AtOnce:
    async with guard_of(TWELVE_LIMITS, server.url) as guard:

        async def call(number: int) -> None:
            await guarded_call(guard, number % (AGENTS // TEAMS) * TEAMS, f"session-{number}")  # the team's own agents

        return await at_once(call, server, seconds)


async def at_once(call: Callable[[int], Awaitable[None]], server: Server, seconds: float) -> AtOnce:
    """Callers that call again and again with their number; what happens in the middle of it counts.

    Whatever a call raises ends the measurement.
    """
    done = [0] * CALLERS
    all_connected, ended = asyncio.Event(), asyncio.Event()

    async def caller(number: int) -> None:
        while not ended.is_set():
            await call(number)
            done[number] += 1
            if done[number] == 1 and all(done):
                all_connected.set()

    async with asyncio.TaskGroup() as callers:
        for number in range(CALLERS):
            callers.create_task(caller(number))
        await asyncio.sleep(seconds * WARM_UP)
        await all_connected.wait()
        us_before, before, started = server.script_us(), list(done), time.perf_counter()
        await asyncio.sleep(seconds)
        passed, shares = time.perf_counter() - started, [now - then for now, then in zip(done, before, strict=True)]
        script_us = server.script_us() - us_before
        ended.set()
    calls = max(sum(shares), 1)
    return AtOnce(calls / passed, min(shares) / (calls / CALLERS), script_us / calls)
