"""Storms on Redis: what holds on a SQLite file holds there too, whatever befalls processes, network and server.

Each storm prints its seed; `STORM_SEED` runs that one again, as far as a seed decides it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis_kit import MISSING, RedisServer, has_redis, key_prefix, tidy_namespace
from redis_proxy import Proxy
from storm_books import Books
from storm_fleet import until
from storm_kit import SEED, Storm
from storm_stores import InRedis
from storm_weather import KINDS, Weather

pytestmark = pytest.mark.skipif(not has_redis(), reason=MISSING)
LONG_STORMS = 10
NAMESPACE = "storm"


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as made, tidy_namespace(made, NAMESPACE):
        yield made


def killed_and_flushed(folder: Path, server: RedisServer, seed: int, kills: int) -> Storm:
    """A storm in which processes are killed while scripts are flushed all the time, of which no call hears."""

    async def scenario() -> Books:
        async with asyncio.TaskGroup() as group:
            flushing = group.create_task(flush(server, storm))
            books = await storm.run()
            flushing.cancel()
        return books

    storm = Storm(
        folder, InRedis(server, NAMESPACE, folder), seed, 8, 120, witness=server.admin_url,
        kills=kills, stops=1, latest=40,
    )  # fmt: skip
    guessed = storm.check(asyncio.run(scenario()))
    assert storm.fleet.spooled == 0 and storm.fleet.ids["away"] == [] and not storm.fleet.events["budget.store_away"]
    unknown = int(server.info("errorstats")["errorstat_NOSCRIPT"]["count"])
    print(f"{unknown} scripts were unknown")
    assert storm.fleet.ids["refused"] and unknown > 100 and guessed and len(storm.fleet.killed) >= 3
    return storm


async def flush(server: RedisServer, storm: Storm) -> None:
    """Again and again, while the storm goes on."""
    while True:
        lines = storm.lines

        async def goes_on(lines: int = lines) -> bool:
            return storm.lines > lines

        await asyncio.to_thread(server.ask, "SCRIPT", "FLUSH")
        await until(goes_on, "the storm to go on")


def bad_network(folder: Path, server: RedisServer, seed: int, count: int) -> None:
    """A storm of four workers and so many tasks of each, through a network in which every kind of fault happens."""
    weather = Weather(seed, 0.1)
    with Proxy(server, weather) as proxy:
        # Tight, since some calls are not decided, and refusals are wanted none the less; few at once: who waits for a
        # connection over which a reply was lost may be too late, too.
        storm = Storm(
            folder, InRedis(server, NAMESPACE, folder), seed, 4, count, calls=2 * count, at_once=12,
            guard={"url": proxy.url, "timeout_ms": 800}, kills=2, stops=0, latest=20,
        )  # fmt: skip
        storm.check(asyncio.run(storm.run()))
        print(f"{len(proxy.requests)} requests, faults {dict(weather.hits)}")
        assert min(weather.hits[kind] for kind in KINDS) >= 1
        assert storm.fleet.ids["refused"]


def restarted(folder: Path, fsync: str, seed: int, count: int) -> None:
    """A storm in which Redis is killed twice, and comes back with what its AOF holds.

    With "always" whatever it has answered is there, wherever it was killed. With "everysec" it answers before it writes
    while the last second's sync is under way: a kill loses nothing only once what it has answered is written.
    """

    async def kill(look: int) -> None:
        if look in (1, 3):
            if fsync == "everysec":
                server.ask("CLIENT", "PAUSE", 60_000, "WRITE")
                await until(written, "the AOF to be written")
            server.kill()
            await asyncio.to_thread(server.start)
            kills.append(look)

    async def written() -> bool:
        info = server.info("persistence")
        return info["aof_buffer_length"] == info["aof_pending_bio_fsync"] == 0

    kills: list[int] = []
    with RedisServer(appendonly="yes", appendfsync=fsync) as server:
        store = InRedis(server, NAMESPACE, folder)
        storm = Storm(
            folder, store, seed, 4, count, guard={"timeout_ms": 20_000}, before_look=kill,
            kills=2, stops=0, latest=20,
        )  # fmt: skip
        storm.check(asyncio.run(storm.run()))
        assert len(kills) == 2
        assert storm.fleet.ids["away"] == [] and storm.fleet.ids["refused"]


def test_nothing_is_overspent_or_lost_on_redis_whoever_is_killed(tmp_path: Path, server: RedisServer) -> None:
    """And scripts may be flushed at any time; check-then-act overspends in the same storm."""
    storm = killed_and_flushed(tmp_path, server, SEED, kills=6)
    assert storm.looks >= 3
    assert storm.witness_overspent()


def test_nothing_is_overspent_or_lost_over_a_bad_network(tmp_path: Path, server: RedisServer) -> None:
    bad_network(tmp_path, server, SEED, 120)


@pytest.mark.parametrize("fsync", ["always", "everysec"])
def test_nothing_is_overspent_or_lost_when_redis_is_killed_and_restarted(tmp_path: Path, fsync: str) -> None:
    restarted(tmp_path, fsync, SEED, 80)


def test_nothing_is_overspent_or_lost_while_memory_is_full(tmp_path: Path, server: RedisServer) -> None:
    """Calls under way are settled meanwhile, and no other is admitted."""
    filled = []

    async def fill(look: int) -> None:
        if look == 1:
            rows = written()

            async def both() -> bool:
                return written() > rows and server.info("errorstats").get("errorstat_OOM", {"count": 0})["count"] > 0

            server.ask("CONFIG", "SET", "maxmemory", 1)
            try:
                await until(both, "a call to be settled and another to be turned away while memory is full")
                filled.append(look)
            finally:
                server.ask("CONFIG", "SET", "maxmemory", 0)

    def written() -> int:
        return int(server.ask("XLEN", f"{key_prefix(NAMESPACE)}outbox"))

    store = InRedis(server, NAMESPACE, tmp_path)
    storm = Storm(tmp_path, store, SEED, 4, 60, at_once=6, before_look=fill, kills=0, stops=0, latest=1)
    storm.check(asyncio.run(storm.run()))
    assert filled == [1]


@pytest.mark.long
@pytest.mark.parametrize("number", range(LONG_STORMS))
def test_nothing_is_overspent_or_lost_in_many_storms_on_redis(tmp_path: Path, server: RedisServer, number: int) -> None:
    assert killed_and_flushed(tmp_path, server, SEED + number, kills=16).witness_overspent()


@pytest.mark.long
@pytest.mark.parametrize("number", range(LONG_STORMS))
def test_nothing_is_overspent_or_lost_over_many_bad_networks(tmp_path: Path, server: RedisServer, number: int) -> None:
    bad_network(tmp_path, server, SEED + number, 200)


@pytest.mark.long
@pytest.mark.parametrize("fsync", ["always", "everysec"])
@pytest.mark.parametrize("number", range(LONG_STORMS))
def test_nothing_is_overspent_or_lost_in_many_restarts(tmp_path: Path, fsync: str, number: int) -> None:
    restarted(tmp_path, fsync, SEED + number, 200)
